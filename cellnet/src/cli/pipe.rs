//! `cellnet pipe`: one side of a pipe, that answers or that asks.

mod echo;
mod send;

use std::{path::PathBuf, sync::Arc, time::Duration};

use cellnet::{
    Cell, CellUrl, Fqcn, ReturnCode,
    pipe::{CellPipe, Mode, OpenError, Pipe, Place, Topic},
};

use super::{
    net,
    security::{Security, Use},
    status::{Failure, Status, chain},
    units,
};

/// Run one side of a pipe: answer what comes, or send and check the answers
///
/// With --echo, answers until SIGINT or SIGTERM; prints `READY {…}` once it is connected. With --send, verifies every
/// answer byte for byte and prints figures.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Which side: active or passive
    #[arg(long, env = "CELLNET_MODE")]
    mode: Option<Mode>,

    /// The site of both sides
    #[arg(long, env = "CELLNET_SITE")]
    site: Option<String>,

    /// What both sides know, for example the id of a job
    #[arg(long, env = "CELLNET_TOKEN")]
    token: Option<String>,

    /// Attach to the server, which listens here; several URLs are tried in this order, 250 ms apart
    #[arg(long, env = "CELLNET_ROOT", value_name = "URL[,URL…]", value_parser = net::url, value_delimiter = ',')]
    root: Vec<CellUrl>,

    /// Attach to the client parent
    #[arg(long, env = "CELLNET_CP", value_name = "FQCN@URL[,URL…]", value_parser = net::place)]
    cp: Option<Place>,

    /// Attach to a relay
    #[arg(long, env = "CELLNET_RELAY", value_name = "FQCN@URL[,URL…]", value_parser = net::place)]
    relay: Option<Place>,

    /// Name of the pipe, the same on both sides
    #[arg(long, env = "CELLNET_CHANNEL", value_name = "NAME")]
    channel: Option<String>,

    /// Answer every request with its own topic and data
    #[arg(long, env = "CELLNET_ECHO", value_parser = clap::builder::FalseyValueParser::new())]
    echo: bool,

    /// Send so many requests, one after the other
    #[arg(long, env = "CELLNET_SEND", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    send: Option<u64>,

    /// Bytes of each request
    #[arg(long, env = "CELLNET_SIZE", value_name = "BYTES", default_value = "64", value_parser = units::size)]
    size: usize,

    /// Topic of the requests
    #[arg(long, env = "CELLNET_TOPIC", default_value = "echo", value_parser = topic)]
    topic: Topic,

    /// Send the content of this file instead
    #[arg(long, env = "CELLNET_FILE")]
    file: Option<PathBuf>,

    /// How long reaching the peer may take, then how long each message may make no progress
    #[arg(long, env = "CELLNET_TIMEOUT", default_value = "5s", value_parser = units::duration)]
    timeout: Duration,

    #[command(flatten)]
    security: Security,
}

const EXAMPLES: &str = "\
Examples:
  cellnet pipe --mode passive --site site-1 --token job-7 --root tcp://127.0.0.1:8002 --channel task --echo
  cellnet pipe --mode active --site site-1 --token job-7 --root tcp://127.0.0.1:8002 --channel task --send 1000
  cellnet pipe --mode active --site site-1 --token job-7 --relay relay-1@tcp://127.0.0.1:8003 --channel task \\
               --send 3 --file model.bin --json
  cellnet pipe --mode active --site site-1 --token job-7 --relay relay-1@quic://r.example:8003,stcp://r.example:8003 \\
               --channel task --send 3 --credentials pki/site-1";

pub(crate) async fn run(args: Args, json: bool) -> Result<(), Failure> {
    let what = check(&args)?;
    let trust = args.security.load(what.place.urls().iter().map(|url| (Use::Dial, url)))?;
    let own = trust.clone();
    let pipe = CellPipe::builder(what.mode, what.site, what.token, what.place)
        .cell(move |cell| own.give(cell))
        .build();
    let pipe = Arc::new(pipe.map_err(|error| Failure::usage(chain(&error)))?);
    match what.send {
        None => echo::run(pipe, what.channel, trust).await,
        Some(count) => send::run(pipe, what.channel, send::Work::new(count, &args)?, json).await,
    }
}

impl Args {
    /// Whether the command runs until it is stopped.
    pub(crate) fn keeps_running(&self) -> bool {
        self.send.is_none()
    }
}

/// What the arguments mean, once they make sense together.
#[derive(Debug)]
struct What<'a> {
    mode: Mode,
    site: &'a str,
    token: &'a str,
    place: Place,
    channel: &'a str,
    /// How many requests to send; without, the pipe answers.
    send: Option<u64>,
}

fn check(args: &Args) -> Result<What<'_>, Failure> {
    let mut roots = args.root.iter().cloned();
    let root = roots.next().map(|first| roots.fold(Place::root(first), Place::or));
    let places: Vec<Place> = [root, args.cp.clone(), args.relay.clone()].into_iter().flatten().collect();
    let place = match <[Place; 1]>::try_from(places) {
        Ok([place]) => place,
        Err(places) if places.is_empty() => {
            return Err(Failure::usage(
                "the pipe attaches nowhere; give --root URL, --cp FQCN@URL or --relay FQCN@URL",
            ));
        }
        Err(places) => {
            let places: Vec<_> = places.iter().map(ToString::to_string).collect();
            return Err(Failure::usage(format!(
                "a pipe attaches to one cell, not to {}; give one of --root, --cp and --relay",
                places.join(" and ")
            )));
        }
    };
    if args.echo == args.send.is_some() {
        return Err(Failure::usage("give either --echo or --send N"));
    }
    Ok(What {
        mode: args.mode.ok_or_else(|| missing("--mode active or --mode passive"))?,
        site: args.site.as_deref().ok_or_else(|| missing("--site NAME"))?,
        token: args.token.as_deref().ok_or_else(|| missing("--token TEXT"))?,
        place,
        channel: args.channel.as_deref().ok_or_else(|| missing("--channel NAME"))?,
        send: args.send,
    })
}

fn missing(flag: &str) -> Failure {
    Failure::usage(format!("the pipe is not described; give {flag}"))
}

/// Reads a topic that applications may use.
fn topic(text: &str) -> Result<Topic, String> {
    let topic: Topic = text.parse().map_err(|error: cellnet::pipe::TopicError| error.to_string())?;
    if topic.is_reserved() {
        return Err(format!("'{topic}' belongs to the pipe itself; choose another topic"));
    }
    Ok(topic)
}

/// Opens a pipe; gives the name of its peer.
async fn open(pipe: &CellPipe, channel: &str) -> Result<Fqcn, Failure> {
    pipe.open(channel).await.map_err(|error| match error {
        OpenError::Start(error) => error.into(),
        OpenError::Name(_) => Failure::usage(error.to_string()),
        error => Failure::new(Status::Failed, chain(&error)),
    })?;
    Ok(pipe.peer().clone())
}

/// Both sides derive their names from that of the cell they attach to, so a wrong one leads to nobody.
fn check_neighbour(pipe: &CellPipe, cell: &Cell) -> Result<(), Failure> {
    let place = pipe.place();
    let found = cell.neighbours();
    if found.is_empty() || found.contains(place.fqcn()) {
        return Ok(());
    }
    let names: Vec<_> = found.iter().map(Fqcn::as_str).collect();
    let text = format!(
        "the cell at '{}' is '{}', not '{}'; correct the name or the URL",
        net::via(cell).first().cloned().unwrap_or_else(|| place.url().to_string()),
        names.join("' and '"),
        place.fqcn()
    );
    Err(Failure::new(Status::Unreachable, text).with_code(ReturnCode::TARGET_UNREACHABLE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::parsed;

    const SIDE: &str = "--mode active --site s --token t --channel task";

    #[test]
    fn the_place_decides_the_cell() {
        for (place, fqcn) in [
            ("--root tcp://h:1", "server"),
            ("--cp site-1@tcp://h:1", "site-1"),
            ("--relay relay-1@tcp://h:1", "relay-1"),
            ("--relay relay-1@tcp://h:1,tcp://h:2", "relay-1"),
            ("--root tcp://h:1,tcp://h:2 --root tcp://h:3", "server"),
        ] {
            let args = parsed(&format!("{SIDE} {place} --echo"));
            let what = check(&args).unwrap();
            assert_eq!((what.place.fqcn().as_str(), what.send), (fqcn, None));
            assert_eq!(what.place.urls().len(), place.matches("tcp:").count());
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_to_give() {
        for (line, named) in [
            (format!("{SIDE} --echo"), "--root URL"),
            (format!("{SIDE} --root tcp://h:1 --cp c@tcp://h:2 --echo"), "c@tcp://h:2"),
            (format!("{SIDE} --root tcp://h:1"), "--send N"),
            (format!("{SIDE} --root tcp://h:1 --echo --send 1"), "either"),
            ("--root tcp://h:1 --echo --mode active --site s --token t".into(), "--channel"),
            ("--root tcp://h:1 --echo --site s --token t --channel c".into(), "--mode"),
        ] {
            let args = parsed(&line);
            let failure = check(&args).unwrap_err();
            assert!(failure.to_string().contains(named), "{line}: {failure}");
        }
        assert!(topic("_END_").unwrap_err().contains("'_END_'"));
        assert!(net::place("site-1").unwrap_err().contains("'site-1'"));
        assert!(net::place("site-1@tcp://h:1,foo://h:1").unwrap_err().contains("'foo'"));
    }
}
