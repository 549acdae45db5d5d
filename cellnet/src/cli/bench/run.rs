//! The process that asks and prints the figures.

use std::time::Duration;

use cellnet::{Cell, CellConfig, CellUrl, Fqcn, ReturnCode, SHUTDOWN, pipe::Place};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{task::JoinHandle, time::Instant};

use super::{
    clients::{Crew, Way},
    load::{self, Tally},
    report::{Connection, Outcome, Report},
    talk::{self, Begin, End, Named, Nothing, Open, Opened, Seen, topic},
    workload::{MAX_INFLIGHT, Settings, Workload},
};
use crate::cli::{
    net::{self, Heads},
    security::{Security, Use},
    show,
    status::{Failure, Status},
    units,
};

/// Send to `cellnet bench serve` for some seconds and print figures
///
/// A warm-up comes first and is not counted. What was begun when the time is over is finished and counts. The first
/// message that fails ends the run, with its status. Beside the connections that work there is one for what the two
/// processes say to each other.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Where the serving cell listens, or the server above it; several URLs are tried in this order, 250 ms apart
    #[arg(long, env = "CELLNET_CONNECT", value_name = "URL[,URL…]", value_parser = net::url, value_delimiter = ',')]
    connect: Vec<CellUrl>,

    /// Dial this relay instead, and reach the serving cell through it
    #[arg(long, env = "CELLNET_VIA", value_name = "FQCN@URL[,URL…]", value_parser = net::place)]
    via: Option<Place>,

    /// Name of the serving cell
    #[arg(long, env = "CELLNET_TO", value_name = "FQCN", default_value = "server")]
    to: Fqcn,

    /// What to do
    #[arg(long, env = "CELLNET_WORKLOAD")]
    workload: Option<Workload>,

    /// Bytes of each payload
    #[arg(long, env = "CELLNET_SIZE", value_name = "BYTES", default_value = "64", value_parser = units::size)]
    size: usize,

    /// Messages that each connection has under way at the same time
    #[arg(long, env = "CELLNET_INFLIGHT", value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=MAX_INFLIGHT as i64))]
    inflight: u32,

    /// Cells of this process that work at the same time, each with a connection of its own; the targets of `fan`
    #[arg(long, env = "CELLNET_CONNECTIONS", value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,

    /// How long to measure
    #[arg(long, env = "CELLNET_SECONDS", value_name = "TIME", default_value = "10s", value_parser = units::duration)]
    seconds: Duration,

    /// How long to work before that; 0 for not at all
    #[arg(long, env = "CELLNET_WARMUP", value_name = "TIME", default_value = "1s", value_parser = warmup)]
    warmup: Duration,

    /// How long to wait for each connection, for one's turn, and for each message to make progress
    #[arg(long, env = "CELLNET_TIMEOUT", default_value = "5s", value_parser = units::duration)]
    timeout: Duration,

    #[command(flatten)]
    heads: Heads,

    #[command(flatten)]
    security: Security,
}

const EXAMPLES: &str = "\
Examples:
  cellnet bench run --connect tcp://127.0.0.1:8002 --workload rr --size 64 --inflight 8 --seconds 5
  cellnet bench run --connect tcp://127.0.0.1:8002 --workload rr --connections 1000 --json
  cellnet bench run --connect quic://h.example:8002 --workload blob --size 16MiB --inflight 4 --credentials pki/site-1
  cellnet bench run --via relay-1@tcp://127.0.0.1:8003 --workload srr --size 1KiB
  cellnet bench run --via relay-1@tcp://127.0.0.1:8003 --to relay-1.bench --workload pipe --inflight 64";

pub(super) async fn run(args: Args, json: bool) -> Result<(), Failure> {
    let (settings, urls, relay) = check(&args)?;
    let trust = args.security.load(urls.iter().map(|url| (Use::Dial, url)))?;
    let way = Way { trust, heads: args.heads, urls, relay, target: args.to, timeout: args.timeout };
    let control = way.join().await?;
    let session = Session::open(&control, &way, settings.workload).await;
    let measured = match session {
        Ok(session) => {
            let alive = session.keep_alive();
            let outcome = measure(&way, settings, &session).await;
            alive.abort();
            // Whoever is gone has forgotten the session, too.
            let _ = session.ask::<Nothing>(topic::CLOSE, &Named { session: session.id.clone() }).await;
            Ok((session, outcome))
        }
        Err(failure) => Err(failure),
    };
    let told = measured.and_then(|(session, outcome)| {
        let stream = CellConfig::default().stream;
        let sizes = (stream.chunk_size, stream.towards_stranger().send_window);
        let report = Report::new(session.connection, &settings, sizes, &outcome);
        if json {
            show::print_json(&report)?;
        } else if outcome.tally.failure.is_none() {
            show::print_line(report.table().trim_end())?;
        }
        outcome.tally.failure.map_or(Ok(()), Err)
    });
    control.shutdown(SHUTDOWN).await;
    told
}

/// What the arguments mean, once they make sense together: what to do, what to dial, and the relay that is there.
fn check(args: &Args) -> Result<(Settings, Vec<CellUrl>, Option<Fqcn>), Failure> {
    let Some(workload) = args.workload else {
        return Err(Failure::usage(
            "nothing to measure; give --workload rr, srr, pipe, push, blob, fan or churn",
        ));
    };
    let settings = Settings {
        workload,
        size: args.size,
        inflight: args.inflight as usize,
        connections: args.connections as usize,
        lasts: args.seconds,
        warmup: args.warmup,
    };
    settings.check()?;
    match (&args.via, args.connect.first()) {
        (None, None) => Err(Failure::usage(format!(
            "no way to '{}'; give --connect URL, or --via FQCN@URL for a relay",
            args.to
        ))),
        (Some(via), Some(url)) => Err(Failure::usage(format!(
            "both '{via}' and '{url}' are to be dialled; give one of --via and --connect"
        ))),
        (None, Some(_)) => Ok((settings, args.connect.clone(), None)),
        (Some(via), None) => {
            let relay = Some(via.fqcn().clone()).filter(|_| !via.is_root());
            Ok((settings, via.urls().to_vec(), relay))
        }
    }
}

/// Reads a duration that may be none.
fn warmup(text: &str) -> Result<Duration, String> {
    if text.trim_end_matches('s') == "0" { Ok(Duration::ZERO) } else { units::duration(text) }
}

/// Warms up, then measures.
async fn measure(way: &Way, settings: Settings, session: &Session) -> Outcome {
    let crew = match Crew::gather(way, settings, session).await {
        Ok(crew) => crew,
        Err(failure) => return Outcome::failed(failure),
    };
    let mut outcome = None;
    for (round, lasts) in [settings.warmup, settings.lasts].into_iter().enumerate() {
        if !lasts.is_zero() {
            let ended = session.round(&crew, round as u32, lasts).await;
            let failed = ended.tally.failure.is_some();
            outcome = Some(ended);
            if failed {
                break;
            }
        }
    }
    crew.dismiss().await;
    outcome.expect("the time to measure is not zero")
}

/// What the other process does for this one.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) id: String,
    pub(super) control: Cell,
    /// The cell that everybody here attaches to, and the URL that led to it.
    pub(super) attached: Fqcn,
    pub(super) url: CellUrl,
    target: Fqcn,
    timeout: Duration,
    connection: Connection,
}

impl Session {
    /// Begins one, when it is this run's turn.
    async fn open(control: &Cell, way: &Way, workload: Workload) -> Result<Self, Failure> {
        let (attached, url) = way.check(control)?;
        let connection = Connection {
            name: control.name().to_string(),
            peer: way.target.to_string(),
            via: net::via(control),
            transport: url.scheme().to_string(),
            tls: control.protection(&attached).map(|mode| mode.to_string()),
            features: control
                .features(&attached)
                .map(|features| features.iter().map(ToString::to_string).collect()),
        };
        let (target, timeout) = (way.target.clone(), way.timeout);
        let mut session =
            Self { id: String::new(), control: control.clone(), attached, url, target, timeout, connection };
        let deadline = Instant::now() + timeout;
        let words = Open { workload, timeout_s: timeout.as_secs_f64() };
        loop {
            match talk::ask::<Opened>(control, &session.target, topic::OPEN, &words, timeout).await {
                Ok(opened) => {
                    session.id = opened.session;
                    return Ok(session);
                }
                Err(failure) if is_busy(&failure) && Instant::now() + PAUSE < deadline => {
                    tokio::time::sleep(PAUSE).await;
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Works for a while, and hears what the other process saw of it.
    async fn round(&self, crew: &Crew, round: u32, lasts: Duration) -> Outcome {
        let begin = Begin { session: self.id.clone(), round };
        if let Err(failure) = self.ask::<Nothing>(topic::BEGIN, &begin).await {
            return Outcome::failed(failure);
        }
        let before = crew.delivered();
        let mut tally: Tally = load::drive(crew.workers(self, round), lasts).await;
        tally.failure = tally.failure.map(load::gone);
        let fold = crew.fold();
        let end = End { session: self.id.clone(), round, sent: tally.done };
        let mut seen = match self.ask::<Seen>(topic::END, &end).await {
            Ok(seen) => seen,
            Err(failure) => {
                tally.failure.get_or_insert(failure);
                Seen::default()
            }
        };
        if let (Some(before), Some(after)) = (before, crew.delivered()) {
            seen.received = Some(after - before);
        }
        Outcome { tally, seen, fold }
    }

    /// Asks on the control channel.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        topic: &'static str,
        words: &(impl Serialize + Sync),
    ) -> Result<T, Failure> {
        self.ask_by(&self.control, topic, words).await
    }

    /// The same by another cell of this process.
    pub(super) async fn ask_by<T: DeserializeOwned>(
        &self,
        cell: &Cell,
        topic: &'static str,
        words: &(impl Serialize + Sync),
    ) -> Result<T, Failure> {
        talk::ask(cell, &self.target, topic, words, self.timeout + GRACE).await.map_err(load::gone)
    }

    /// Shows the other process that this one lives, until it is aborted.
    fn keep_alive(&self) -> JoinHandle<()> {
        let session = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SIGN_OF_LIFE).await;
                let named = Named { session: session.id.clone() };
                if let Err(failure) = session.ask::<Nothing>(topic::ALIVE, &named).await {
                    tracing::debug!("no sign of life was given: {failure}");
                }
            }
        })
    }
}

fn is_busy(failure: &Failure) -> bool {
    failure.status == Status::Limit && failure.code == Some(ReturnCode::SERVICE_UNAVAILABLE)
}

/// Between two tries to get one's turn.
const PAUSE: Duration = Duration::from_millis(200);
/// Well below the silence after which the other process gives up.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);
/// What the other process may take beside the time-out: it waits for stragglers, and for the links of pipes.
const GRACE: Duration = Duration::from_secs(5);

#[cfg(all(test, feature = "tcp"))]
mod tests {
    use super::*;
    use crate::cli::parsed;

    #[test]
    fn what_is_dialled_is_the_cell_itself_or_a_relay() {
        let url = "tcp://h:1";
        for (way, relay) in [
            (format!("--connect {url}"), None),
            (format!("--via relay-1@{url}"), Some("relay-1")),
            (format!("--via server@{url}"), None),
        ] {
            let (settings, urls, found) = check(&parsed(&format!("--workload rr {way}"))).unwrap();
            assert_eq!(found.as_ref().map(Fqcn::as_str), relay);
            assert_eq!(urls.iter().map(ToString::to_string).collect::<Vec<_>>(), [url]);
            assert_eq!((settings.size, settings.inflight, settings.connections), (64, 1, 1));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_to_give() {
        for (line, named) in [
            ("--connect tcp://h:1", "--workload"),
            ("--workload rr", "--connect URL"),
            ("--workload rr --connect tcp://h:1 --via r@tcp://h:2", "r@tcp://h:2"),
            ("--workload blob --connect tcp://h:1 --size 2GiB", "--size"),
            ("--workload pipe --connect tcp://h:1 --connections 65", "--connections"),
        ] {
            let failure = check(&parsed(line)).unwrap_err();
            assert!(
                failure.status == Status::Usage && failure.to_string().contains(named),
                "{line}: {failure}"
            );
        }
    }

    #[test]
    fn a_warm_up_may_be_none() {
        for (text, millis) in [("0", 0), ("0s", 0), ("500ms", 500), ("2", 2000)] {
            assert_eq!(warmup(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert!(warmup("soon").unwrap_err().contains("'soon'"));
    }
}
