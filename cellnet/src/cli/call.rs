//! `cellnet call`: asks another cell, once or many times.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use cellnet::{Cell, Fqcn, Message, Payload, RequestError, ReturnCode, SHUTDOWN};
use clap::builder::NonEmptyStringValueParser;
use serde::Serialize;
use tokio::task::JoinSet;

use super::{
    data::{self, Source},
    figures::{Figures, Times, Watch},
    net::{self, Upward},
    security::{Security, Use},
    show,
    status::{Failure, Status},
    units,
};

/// Ask another cell and print its reply
///
/// With --count, asks many times and prints figures instead.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Whom to ask
    target: Fqcn,

    /// Half of the handler's name
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    channel: String,

    /// The other half of the handler's name
    topic: String,

    /// What to send: text, @FILE, or - for standard input; nothing for no payload. Text that begins with - goes after --
    #[arg(value_name = "DATA|@FILE|-")]
    data: Option<Source>,

    /// Name of this cell; a random one by default
    #[arg(long, env = "CELLNET_NAME", value_name = "FQCN")]
    name: Option<Fqcn>,

    #[command(flatten)]
    upward: Upward,

    /// How long to wait for a connection, and for each reply
    #[arg(long, env = "CELLNET_TIMEOUT", default_value = "5s", value_parser = units::duration)]
    timeout: Duration,

    /// How many requests to make
    #[arg(long, env = "CELLNET_COUNT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,

    /// How many requests may wait for their reply at the same time
    #[arg(long, env = "CELLNET_INFLIGHT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=MAX_INFLIGHT))]
    inflight: u64,

    #[command(flatten)]
    security: Security,
}

/// As many requests as a cell keeps waiting.
const MAX_INFLIGHT: u64 = 65_536;

const EXAMPLES: &str = "\
Examples:
  cellnet call server task greet 'hello' --root tcp://127.0.0.1:8002
  cellnet call site-1 echo model @model.bin --root tcp://127.0.0.1:8002 --json
  cellnet call server task ping 64-bytes --root tcp://127.0.0.1:8002 --count 10000 --inflight 64
  cellnet call server task greet hello --root stcp://server.example:8002 --credentials pki/site-1 --name site-1
  cellnet call server task greet hello --root quic://server.example:8002,wss://server.example:8443 --credentials pki/site-1";

pub(crate) async fn run(args: Args, json: bool) -> Result<(), Failure> {
    args.upward.lead_to(&args.target)?;
    let trust = args.security.load(args.upward.urls().map(|url| (Use::Dial, url)))?;
    let message = Message::new(data::payload(args.data.clone())?);
    let targets = std::slice::from_ref(&args.target);
    let (cell, reached) = net::join(&trust, &args.upward, args.name.as_ref(), targets, args.timeout).await?;
    let outcome = match reached {
        Ok(()) => ask(&cell, &args, message).await,
        Err(unreached) => Outcome::failed(unreached.code(), unreached.to_string(), unreached.into()),
    };
    let told = outcome.tell(&cell, &args, json);
    cell.shutdown(SHUTDOWN).await;
    told
}

/// How it went: the last reply or the first failure.
#[derive(Debug)]
struct Outcome {
    code: Option<ReturnCode>,
    error: Option<String>,
    payload: Payload,
    figures: Option<Figures>,
    failure: Option<Failure>,
}

impl Outcome {
    fn failed(code: ReturnCode, error: String, failure: Failure) -> Self {
        Self {
            code: Some(code),
            error: Some(error),
            payload: Payload::None,
            figures: None,
            failure: Some(failure),
        }
    }

    fn of(asked: Result<Message, RequestError>, target: &Fqcn) -> Self {
        let reply = match asked {
            Ok(reply) => reply,
            Err(error) => {
                let code = error.code();
                let failure = Failure::from(error);
                return Self::failed(code, failure.to_string(), failure);
            }
        };
        let (code, error) = (reply.code(), reply.error().map(str::to_owned));
        let failure = Status::of_reply(code.as_ref()).map(|status| {
            let code = code.as_ref().map_or("nothing", ReturnCode::as_str);
            let why = error.as_ref().map_or(String::new(), |error| format!(": {error}"));
            Failure::new(status, format!("the request to '{target}' ended with {code}{why}"))
        });
        Self { code, error, payload: reply.payload, figures: None, failure }
    }

    fn tell(self, cell: &Cell, args: &Args, json: bool) -> Result<(), Failure> {
        let many = args.count > 1;
        if json {
            show::print_json(&Report {
                name: cell.name().as_str(),
                peer: args.target.as_str(),
                via: net::via(cell),
                return_code: self.code.as_ref().map(ReturnCode::as_str),
                error: self.error.as_deref(),
                payload: if many { serde_json::Value::Null } else { show::payload_json(&self.payload) },
                bytes: self.payload.len(),
                figures: self.figures.as_ref(),
            })?;
        } else if let Some(figures) = self.figures.filter(|_| many) {
            show::print_line(figures.table().trim_end())?;
        } else if self.failure.is_none() {
            show::print_payload(&self.payload)?;
        }
        self.failure.map_or(Ok(()), Err)
    }
}

/// The one object of `--json`. `bytes` is the size of the last reply's payload.
#[derive(Debug, Serialize)]
struct Report<'a> {
    name: &'a str,
    peer: &'a str,
    /// The URLs by which those above were reached.
    via: Vec<String>,
    return_code: Option<&'a str>,
    error: Option<&'a str>,
    payload: serde_json::Value,
    bytes: usize,
    #[serde(flatten)]
    figures: Option<&'a Figures>,
}

/// Makes all requests; the first failure ends it.
async fn ask(cell: &Cell, args: &Args, message: Message) -> Outcome {
    let next = Arc::new(AtomicU64::new(0));
    let size = message.payload.len();
    let mut tasks = JoinSet::new();
    let watch = Watch::start();
    for _ in 0..args.inflight.min(args.count) {
        tasks.spawn(ask_on(cell.clone(), args, message.clone(), next.clone()));
    }
    let (mut times, mut outcome) = (Times::new(), None);
    while let Some(ended) = tasks.join_next().await {
        let (own, last) = ended.expect("a task that asks does not panic and is not aborted");
        times.add(&own);
        if outcome.as_ref().is_none_or(|outcome: &Outcome| outcome.failure.is_none()) {
            outcome = last.or(outcome);
        }
    }
    let mut outcome = outcome.expect("at least one request was made");
    outcome.figures = Some(watch.stop(&times, size));
    outcome
}

/// One of several tasks that share the requests that are left.
fn ask_on(
    cell: Cell,
    args: &Args,
    message: Message,
    next: Arc<AtomicU64>,
) -> impl Future<Output = (Times, Option<Outcome>)> + use<> {
    let (target, timeout, count) = (args.target.clone(), args.timeout, args.count);
    let (channel, topic): (Arc<str>, Arc<str>) = (args.channel.as_str().into(), args.topic.as_str().into());
    async move {
        let (mut times, mut last) = (Times::new(), None);
        while next.fetch_add(1, Relaxed) < count {
            let began = Instant::now();
            let asked = cell.request(&target, &*channel, &*topic, message.clone()).timeout(timeout).await;
            let outcome = Outcome::of(asked, &target);
            if outcome.failure.is_some() {
                next.store(count, Relaxed);
                return (times, Some(outcome));
            }
            times.record(began.elapsed());
            last = Some(outcome);
        }
        (times, last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_not_ok_fails_with_its_code_and_text() {
        let reply = Message::failure(ReturnCode::SERVICE_UNAVAILABLE, "busy");
        let outcome = Outcome::of(Ok(reply), &Fqcn::server());
        let failure = outcome.failure.unwrap();
        assert_eq!(failure.status, Status::Limit);
        assert_eq!(failure.to_string(), "the request to 'server' ended with service_unavailable: busy");
        let outcome = Outcome::of(Err(RequestError::Timeout(Duration::from_secs(1))), &Fqcn::server());
        assert_eq!(outcome.code, Some(ReturnCode::TIMEOUT));
        assert_eq!(outcome.failure.unwrap().status, Status::Timeout);
    }

    #[test]
    fn the_report_is_flat() {
        let figures = Watch::start().stop(&Times::new(), 0);
        let report = Report {
            name: "a",
            peer: "b",
            via: vec!["tcp://h:1".into()],
            return_code: Some("ok"),
            error: None,
            payload: "hi".into(),
            bytes: 2,
            figures: Some(&figures),
        };
        let json = serde_json::to_value(&report).unwrap();
        let names: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
        for name in [
            "name",
            "peer",
            "via",
            "return_code",
            "error",
            "payload",
            "bytes",
            "msgs_s",
            "MBps",
            "p50_us",
            "rss_mb",
        ] {
            assert!(names.contains(&name), "{name} is missing in {names:?}");
        }
    }
}
