//! The figures of a run.

use std::time::Duration;

use cellnet::ReturnCode;
use serde::Serialize;

use super::{
    load::Tally,
    talk::Seen,
    workload::{Settings, Workload},
};
use crate::cli::status::Failure;

/// How the two processes are connected.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Connection {
    /// This side's name for what it says to the other beside the load.
    pub(super) name: String,
    /// The cell that answers.
    pub(super) peer: String,
    /// The URLs by which the cell above was reached.
    pub(super) via: Vec<String>,
    /// The scheme of the URL.
    pub(super) transport: String,
    pub(super) tls: Option<String>,
    /// What the cell at the other end of the connection offers beyond the reference's protocol.
    pub(super) features: Option<Vec<String>>,
}

/// The one object of `--json`; the names are those that scripts rely on. Times in microseconds, MB = 10^6 bytes and
/// GB = 10^9 bytes of payload, memory in MiB. Fields of the serving process begin with `serve_`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    #[serde(flatten)]
    connection: Connection,
    return_code: Option<String>,
    error: Option<String>,
    workload: &'static str,
    /// Bytes of each payload.
    size: usize,
    inflight: usize,
    connections: usize,
    /// Bytes of a full chunk, and how many may be on their way without an ACK; null where nothing streams.
    chunk: Option<usize>,
    window: Option<u64>,
    seconds: f64,
    sent: u64,
    /// Those that arrived: acknowledged ones, or where nobody does that, those that the receiver counted.
    messages: u64,
    errors: u64,
    lost: u64,
    msgs_s: f64,
    #[serde(rename = "MBps")]
    mbps: f64,
    p50_us: Option<f64>,
    p99_us: Option<f64>,
    p999_us: Option<f64>,
    #[serde(flatten)]
    run: Cost,
    #[serde(flatten)]
    serve: ServeCost,
}

/// What a process used for the messages that were counted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Cost {
    cpu_s: Option<f64>,
    cpu_s_per_million: Option<f64>,
    cpu_s_per_gb: Option<f64>,
    /// At most, during the round.
    rss_mb: Option<f64>,
    /// What each connection that is only held has added, in KiB.
    rss_per_connection_kb: Option<f64>,
}

/// [`Cost`] of the other process.
#[derive(Debug, Serialize)]
struct ServeCost {
    serve_cpu_s: Option<f64>,
    serve_cpu_s_per_million: Option<f64>,
    serve_cpu_s_per_gb: Option<f64>,
    serve_rss_mb: Option<f64>,
    serve_rss_per_connection_kb: Option<f64>,
}

impl Cost {
    fn of(cpu_s: Option<f64>, rss_mb: Option<f64>, messages: u64, bytes: f64) -> Self {
        let per = |amount: f64| cpu_s.filter(|_| amount > 0.0).map(|cpu_s| cpu_s / amount);
        Self {
            cpu_s,
            cpu_s_per_million: per(messages as f64 / 1e6),
            cpu_s_per_gb: per(bytes / 1e9),
            rss_mb,
            rss_per_connection_kb: None,
        }
    }

    fn held(self, grown_mib: Option<f64>, connections: usize) -> Self {
        let each = grown_mib.map(|mib| mib * 1024.0 / connections as f64);
        Self { rss_per_connection_kb: each, ..self }
    }
}

impl From<Cost> for ServeCost {
    fn from(cost: Cost) -> Self {
        Self {
            serve_cpu_s: cost.cpu_s,
            serve_cpu_s_per_million: cost.cpu_s_per_million,
            serve_cpu_s_per_gb: cost.cpu_s_per_gb,
            serve_rss_mb: cost.rss_mb,
            serve_rss_per_connection_kb: cost.rss_per_connection_kb,
        }
    }
}

/// What a round brought, on both sides.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) tally: Tally,
    pub(super) seen: Seen,
    /// Messages that each doing of a worker is.
    pub(super) fold: u64,
}

impl Report {
    pub(super) fn new(
        connection: Connection,
        settings: &Settings,
        (chunk, window): (usize, u64),
        outcome: &Outcome,
    ) -> Self {
        let Settings { workload, inflight, connections, .. } = *settings;
        let Outcome { tally, seen, fold } = outcome;
        let size = if workload.has_payload() { settings.size } else { 0 };
        let sent = tally.done * fold;
        let received = seen.received.unwrap_or(sent);
        let (messages, seconds, gaps) = match workload {
            // By the clock of who receives, from the first message to the last.
            Workload::Push => (received, seen.seconds, received.saturating_sub(1)),
            Workload::Idle => (received, tally.lasted.as_secs_f64(), received),
            _ => (sent, tally.lasted.as_secs_f64(), sent),
        };
        let rate = if seconds > 0.0 { gaps as f64 / seconds } else { 0.0 };
        let bytes = messages as f64 * size as f64;
        let micros = |quantile| (tally.times.count() > 0).then(|| tally.times.micros(quantile));
        Self {
            connection,
            return_code: match &tally.failure {
                None => Some(ReturnCode::OK.as_str().into()),
                Some(failure) => failure.code.as_ref().map(|code| code.as_str().into()),
            },
            error: tally.failure.as_ref().map(Failure::to_string),
            workload: workload.name(),
            size,
            inflight,
            connections,
            chunk: workload.streams().then_some(chunk),
            window: workload.streams().then_some(window),
            seconds,
            sent,
            messages,
            errors: tally.errors,
            lost: sent.saturating_sub(received),
            msgs_s: rate,
            mbps: rate * size as f64 / 1e6,
            p50_us: micros(0.5),
            p99_us: micros(0.99),
            p999_us: micros(0.999),
            run: Cost::of(tally.cpu_s, tally.peak_mib, messages, bytes).held(tally.grown_mib, connections),
            serve: Cost::of(seen.cpu_s, seen.peak_mib, messages, bytes)
                .held(seen.grown_mib, connections)
                .into(),
        }
    }

    /// A table for people.
    pub(super) fn table(&self) -> String {
        let Connection { peer, transport, tls, .. } = &self.connection;
        let many = |count: usize| if count == 1 { "" } else { "s" };
        let mut rows = vec![
            (
                "workload",
                format!(
                    "{}, {} B, {} connection{}, {} in flight on each",
                    self.workload,
                    self.size,
                    self.connections,
                    many(self.connections),
                    self.inflight
                ),
            ),
            ("with", format!("{peer} by {transport} ({})", tls.as_deref().unwrap_or("unknown"))),
            (
                "messages",
                format!(
                    "{} in {:.2} s, {} errors, {} lost",
                    self.messages, self.seconds, self.errors, self.lost
                ),
            ),
            ("rate", format!("{:.0} msgs/s", self.msgs_s)),
        ];
        if self.size > 0 {
            rows.push(("payload", format!("{:.2} MB/s", self.mbps)));
        }
        for (name, value) in [("p50", self.p50_us), ("p99", self.p99_us), ("p99.9", self.p999_us)] {
            rows.extend(value.map(|micros| (name, format!("{micros:.1} µs"))));
        }
        let serve = Cost {
            cpu_s: self.serve.serve_cpu_s,
            cpu_s_per_million: self.serve.serve_cpu_s_per_million,
            cpu_s_per_gb: self.serve.serve_cpu_s_per_gb,
            rss_mb: self.serve.serve_rss_mb,
            rss_per_connection_kb: self.serve.serve_rss_per_connection_kb,
        };
        rows.extend([("run", cost_row(&self.run)), ("serve", cost_row(&serve))]);
        rows.iter().map(|(name, value)| format!("{name:<9} {value}\n")).collect()
    }
}

fn cost_row(cost: &Cost) -> String {
    let known =
        |value: Option<f64>, unit: &str| value.map_or("unknown".into(), |value| format!("{value:.2}{unit}"));
    let held = cost.rss_per_connection_kb.map_or(String::new(), |kib| format!(", {kib:.1} KiB a connection"));
    format!(
        "{} of processor time, {} per million messages, {} per GB, {} at most{held}",
        known(cost.cpu_s, " s"),
        known(cost.cpu_s_per_million, " s"),
        known(cost.cpu_s_per_gb, " s"),
        known(cost.rss_mb, " MiB")
    )
}

impl Outcome {
    /// Of a round that went wrong before anything was counted.
    pub(super) fn failed(failure: Failure) -> Self {
        let tally = Tally {
            times: crate::cli::figures::Times::new(),
            done: 0,
            errors: 1,
            lasted: Duration::ZERO,
            cpu_s: None,
            peak_mib: None,
            grown_mib: None,
            failure: Some(failure),
        };
        Self { tally, seen: Seen::default(), fold: 1 }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{
        super::workload::Workload::{Churn, Fan, Idle, Push, Rr},
        *,
    };
    use crate::cli::{figures::Times, status::Status};

    fn settings(workload: Workload) -> Settings {
        let lasts = Duration::from_secs(2);
        Settings { workload, size: 1000, inflight: 2, connections: 4, lasts, warmup: Duration::ZERO }
    }

    /// 2,000 doings in two seconds.
    fn outcome(received: Option<u64>, fold: u64) -> Outcome {
        let mut times = Times::new();
        times.record(Duration::from_micros(250));
        let lasted = Duration::from_secs(2);
        let (cpu_s, peak_mib) = (Some(0.5), Some(8.0));
        let tally =
            Tally { times, done: 2000, errors: 0, lasted, cpu_s, peak_mib, grown_mib: None, failure: None };
        let seen = Seen { received, seconds: 1.0, cpu_s: Some(0.25), ..Seen::default() };
        Outcome { tally, seen, fold }
    }

    fn json(workload: Workload, outcome: &Outcome) -> Value {
        let connection = Connection { peer: "server".into(), ..Connection::default() };
        let report = Report::new(connection, &settings(workload), (1 << 20, 16 << 20), outcome);
        assert!(report.table().lines().count() >= 5);
        serde_json::to_value(&report).unwrap()
    }

    #[test]
    fn what_is_acknowledged_counts_by_the_clock_of_who_sends() {
        let json = json(Rr, &outcome(Some(2000), 1));
        assert_eq!(
            (&json["messages"], &json["lost"], &json["seconds"]),
            (&2000.into(), &0.into(), &2.0.into())
        );
        assert_eq!((&json["msgs_s"], &json["MBps"]), (&1000.0.into(), &1.0.into()));
        assert_eq!((&json["cpu_s_per_million"], &json["cpu_s_per_gb"]), (&250.0.into(), &250.0.into()));
        assert_eq!((&json["serve_cpu_s"], &json["serve_rss_mb"]), (&0.25.into(), &Value::Null));
        assert_eq!((&json["chunk"], &json["return_code"]), (&Value::Null, &"ok".into()));
        assert!((249.0..=251.0).contains(&json["p50_us"].as_f64().unwrap()));
    }

    #[test]
    fn what_nobody_answers_counts_by_the_clock_of_who_receives_and_losses_show() {
        let mut outcome = outcome(Some(1501), 1);
        outcome.tally.times = Times::new();
        let json = json(Push, &outcome);
        assert_eq!(
            (&json["sent"], &json["messages"], &json["lost"]),
            (&2000.into(), &1501.into(), &499.into())
        );
        assert_eq!((&json["msgs_s"], &json["p50_us"]), (&1500.0.into(), &Value::Null));
    }

    #[test]
    fn a_broadcast_is_as_many_messages_as_it_has_targets() {
        let json = json(Fan, &outcome(Some(8000), 4));
        assert_eq!(
            (&json["messages"], &json["msgs_s"], &json["window"]),
            (&8000.into(), &4000.0.into(), &(16 << 20).into())
        );
    }

    #[test]
    fn what_has_no_payload_has_no_bytes() {
        let json = json(Churn, &outcome(None, 1));
        assert_eq!(
            (&json["size"], &json["MBps"], &json["cpu_s_per_gb"]),
            (&0.into(), &0.0.into(), &Value::Null)
        );
    }

    #[test]
    fn what_is_only_held_counts_while_it_lives_and_its_memory_is_shared_out() {
        let mut outcome = outcome(Some(1999), 1);
        outcome.tally.times = Times::new();
        (outcome.tally.grown_mib, outcome.seen.grown_mib) = (Some(2.0), None);
        let json = json(Idle, &outcome);
        assert_eq!(
            (&json["sent"], &json["messages"], &json["lost"]),
            (&2000.into(), &1999.into(), &1.into())
        );
        assert_eq!((&json["rss_per_connection_kb"], &json["p50_us"]), (&512.0.into(), &Value::Null));
        assert_eq!(json["serve_rss_per_connection_kb"], Value::Null);
    }

    #[test]
    fn a_failure_is_told_with_its_code() {
        let failure = Failure::new(Status::Timeout, "no reply").with_code(ReturnCode::TIMEOUT);
        let json = json(Rr, &Outcome::failed(failure));
        assert_eq!((&json["return_code"], &json["error"]), (&"timeout".into(), &"no reply".into()));
        assert_eq!((&json["errors"], &json["msgs_s"]), (&1.into(), &0.0.into()));
    }
}
