//! `cellnet serve`: runs a cell until it is stopped.

use cellnet::{ANY, Cell, CellEvent, CellUrl, Fqcn, HandlerError, Message, Request, SHUTDOWN};

use super::{
    inbox::{self, Files},
    net::{self, Heads, Upward},
    security::{Security, Use},
    show::Ready,
    status::Failure,
    stop::{Reloading, Stop},
};

/// Run a cell: the server, a relay or a site
///
/// A cell that listens and has a root or a parent is a relay. Prints `READY {…}` once it listens and its first link
/// upward is there; ends on SIGINT or SIGTERM, and reads its credentials again on SIGHUP.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Name of the cell; `server` is the root of the network
    #[arg(long, env = "CELLNET_NAME", value_name = "FQCN")]
    name: Option<Fqcn>,

    /// Listen here; may be given several times. Port 0 takes any free one
    #[arg(long, env = "CELLNET_LISTEN", value_name = "URL", value_parser = net::url, value_delimiter = ',')]
    listen: Vec<CellUrl>,

    #[command(flatten)]
    upward: Upward,

    /// Answer every request on this channel with its own payload; may be given several times
    #[arg(long, env = "CELLNET_ECHO", value_name = "CHANNEL", value_delimiter = ',')]
    echo: Vec<String>,

    #[command(flatten)]
    files: Files,

    #[command(flatten)]
    heads: Heads,

    #[command(flatten)]
    security: Security,
}

const EXAMPLES: &str = "\
Examples:
  cellnet serve --name server --listen tcp://0:8002 --echo task
  cellnet serve --name relay-1 --listen tcp://0:8003 --root tcp://server.example:8002
  cellnet serve --name relay-1.site-1 --parent tcp://relay.example:8003 --inbox /srv/inbox --inbox-quota 500GiB
  cellnet serve --name server --listen quic://0:8002,stcp://0:8002,wss://0:8443 --credentials pki/server.example
  cellnet serve --name site-1 --root quic://server.example:8002,stcp://server.example:8002 --credentials pki/site-1";

pub(crate) async fn run(args: Args, json: bool) -> Result<(), Failure> {
    let name = check(&args)?;
    let listen = args.listen.iter().map(|url| (Use::Listen, url));
    let trust = args.security.load(listen.chain(args.upward.urls().map(|url| (Use::Dial, url))))?;
    let mut stop = Stop::new()?;
    let _reloading = Reloading::new(trust.clone())?;
    let builder = args.heads.give(args.files.relay(trust.builder(name)));
    let builder = args.listen.iter().cloned().fold(builder, cellnet::CellBuilder::listen);
    let cell = args.upward.dial(builder).start().await?;
    for channel in &args.echo {
        echo(&cell, channel);
    }
    let transfers = args.files.open(&cell).await?;
    let arriving = transfers.as_ref().map(|transfers| tokio::spawn(inbox::tell(transfers.arrivals(), json)));
    let watching = tokio::spawn(tell(cell.clone(), cell.events()));
    tokio::select! {
        () = stop.asked() => {}
        ended = serve(&cell) => ended?,
    }
    tracing::info!("stopping");
    let ending = async {
        if let Some(transfers) = &transfers {
            transfers.shutdown().await;
        }
        cell.shutdown(SHUTDOWN).await;
    };
    tokio::select! {
        () = ending => {}
        () = stop.asked() => tracing::warn!("stopped at once"),
    }
    watching.abort();
    arriving.inspect(|arriving| arriving.abort());
    Ok(())
}

/// Says when the cell can be used, then goes on for ever.
async fn serve(cell: &Cell) -> Result<(), Failure> {
    cell.connected_any().await;
    let listen = cell.listening().iter().map(ToString::to_string).collect();
    Ready { name: cell.name().to_string(), listen, peer: None, via: net::via(cell) }.print()?;
    std::future::pending().await
}

/// The name, if the arguments make sense together.
fn check(args: &Args) -> Result<Fqcn, Failure> {
    let Some(name) = args.name.clone() else {
        return Err(Failure::usage("no name for the cell; give --name FQCN"));
    };
    if name.is_server() {
        if let Some(url) = args.upward.urls().next() {
            return Err(Failure::usage(format!(
                "'server' is the root of the network and has nobody above; leave out --root and --parent ('{url}')"
            )));
        }
        if args.listen.is_empty() {
            return Err(Failure::usage("'server' must listen to be reached; give --listen URL"));
        }
    } else if args.upward.is_empty() {
        return Err(Failure::usage(format!("'{name}' has nobody above; give --root URL or --parent URL")));
    }
    Ok(name)
}

/// Answers every request on a channel with its own payload.
fn echo(cell: &Cell, channel: &str) {
    cell.handle_quick(channel, ANY, |request: Request| {
        Ok::<_, HandlerError>(Message::new(request.message.payload))
    });
}

/// Logs neighbours that come and go.
async fn tell(cell: Cell, mut events: cellnet::Events) {
    while let Some(event) = events.next().await {
        match event {
            CellEvent::Connected { peer, remote, cellnet } => {
                let kind = if cellnet { "cellnet" } else { "another implementation" };
                match cell.dialled().into_iter().find(|(dialled, _)| *dialled == peer) {
                    Some((_, url)) => tracing::info!("connected to {peer} by {url} ({kind})"),
                    None => tracing::info!("{peer} connected from {remote} ({kind})"),
                }
            }
            CellEvent::Disconnected { peer, reason } => tracing::info!("{peer} is gone: {reason}"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(name: &str, listen: &[&str], root: Option<&str>) -> Args {
        Args {
            name: (!name.is_empty()).then(|| name.parse().unwrap()),
            listen: listen.iter().map(|url| url.parse().unwrap()).collect(),
            upward: Upward {
                root: root.iter().map(|url| url.parse().unwrap()).collect(),
                parent: Vec::new(),
            },
            echo: Vec::new(),
            files: Files::default(),
            heads: Heads::default(),
            security: Security::default(),
        }
    }

    #[test]
    fn every_role_has_the_links_it_needs() {
        let url = "tcp://127.0.0.1:1";
        for (name, listen, root) in
            [("server", &[url][..], None), ("relay-1", &[url], Some(url)), ("site-1", &[], Some(url))]
        {
            assert!(check(&args(name, listen, root)).is_ok(), "{name}");
        }
        for (name, listen, root, named) in [
            ("", &[url][..], None, "--name"),
            ("server", &[url], Some(url), "'tcp://127.0.0.1:1'"),
            ("server", &[], None, "--listen"),
            ("site-1", &[url], None, "'site-1'"),
        ] {
            let failure = check(&args(name, listen, root)).unwrap_err();
            assert!(failure.to_string().contains(named), "{failure}");
        }
    }
}
