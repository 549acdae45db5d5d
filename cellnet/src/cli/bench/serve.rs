//! The process that answers.

use cellnet::{Cell, CellUrl, Fqcn, SHUTDOWN};

use super::{desk::Desk, ends::Places};
use crate::cli::{
    net::{self, Heads, Upward},
    security::{Security, Use},
    show::Ready,
    status::Failure,
    stop::{Reloading, Stop},
};

/// Answer what `cellnet bench run` sends, and tell it what that cost
///
/// One run at a time; another one waits for its turn. Prints `READY {…}` once it can be used; ends on SIGINT or SIGTERM.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Name of the cell
    #[arg(long, env = "CELLNET_NAME", value_name = "FQCN", default_value = "server")]
    name: Fqcn,

    /// Listen here; may be given several times. Port 0 takes any free one
    #[arg(long, env = "CELLNET_LISTEN", value_name = "URL", value_parser = net::url, value_delimiter = ',')]
    listen: Vec<CellUrl>,

    #[command(flatten)]
    upward: Upward,

    #[command(flatten)]
    heads: Heads,

    #[command(flatten)]
    security: Security,
}

const EXAMPLES: &str = "\
Examples:
  cellnet bench serve --listen tcp://127.0.0.1:8002
  cellnet bench serve --listen tcp://0:8002,quic://0:8002,wss://0:8443 --credentials pki/server
  cellnet bench serve --name relay-1.bench --parent tcp://127.0.0.1:8003";

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let Args { name, listen, upward, heads, security } = args;
    check(&name, &listen, &upward)?;
    let urls = listen.iter().map(|url| (Use::Listen, url));
    let trust = security.load(urls.chain(upward.urls().map(|url| (Use::Dial, url))))?;
    let mut stop = Stop::new()?;
    let _reloading = Reloading::new(trust.clone())?;
    let builder = heads.give(trust.builder(name.clone()));
    let builder = listen.into_iter().fold(builder, cellnet::CellBuilder::listen);
    let cell = upward.dial(builder).start().await?;
    let places = Places {
        me: name,
        listening: cell.listening().to_vec(),
        root: upward.root.clone(),
        parent: upward.parent.clone(),
    };
    let desk = Desk::open(&cell, places, trust);
    tokio::select! {
        () = stop.asked() => {}
        ended = ready(&cell) => ended?,
        () = desk.sweep() => {}
    }
    let ending = async {
        desk.close().await;
        cell.shutdown(SHUTDOWN).await;
    };
    tokio::select! {
        () = ending => {}
        () = stop.asked() => tracing::warn!("stopped at once"),
    }
    Ok(())
}

/// Says when the cell can be used, then goes on for ever.
async fn ready(cell: &Cell) -> Result<(), Failure> {
    cell.connected_any().await;
    let listen = cell.listening().iter().map(ToString::to_string).collect();
    Ready { name: cell.name().to_string(), listen, peer: None, via: net::via(cell) }.print()?;
    std::future::pending().await
}

fn check(name: &Fqcn, listen: &[CellUrl], upward: &Upward) -> Result<(), Failure> {
    if !name.is_server() && upward.is_empty() {
        return Err(Failure::usage(format!("'{name}' has nobody above; give --root URL or --parent URL")));
    }
    if let Some(url) = upward.urls().next().filter(|_| name.is_server()) {
        return Err(Failure::usage(format!(
            "'server' is the root of the network and has nobody above; give --name, or leave out '{url}'"
        )));
    }
    if name.is_server() && listen.is_empty() {
        return Err(Failure::usage("'server' must listen to be reached; give --listen URL"));
    }
    Ok(())
}

#[cfg(all(test, feature = "tcp"))]
mod tests {
    use super::*;

    #[test]
    fn the_root_listens_and_others_have_somebody_above() {
        let url = || "tcp://127.0.0.1:1".parse::<CellUrl>().unwrap();
        let up = |root: bool| Upward { root: root.then(url).into_iter().collect(), parent: Vec::new() };
        for (name, listens, root, refused) in [
            ("server", true, false, None),
            ("site-1", false, true, None),
            ("server", false, false, Some("--listen")),
            ("server", true, true, Some("'tcp://127.0.0.1:1'")),
            ("site-1", true, false, Some("'site-1'")),
        ] {
            let listen: Vec<_> = listens.then(url).into_iter().collect();
            let checked = check(&name.parse().unwrap(), &listen, &up(root));
            match refused {
                None => assert!(checked.is_ok(), "{name}"),
                Some(named) => assert!(checked.unwrap_err().to_string().contains(named), "{name}"),
            }
        }
    }
}
