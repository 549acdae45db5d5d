//! Measures what a command did: rates, percentiles, processor time and memory.

use std::{
    fs,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde::Serialize;

/// Times of single exchanges; every task records into one of its own.
#[derive(Debug)]
pub(crate) struct Times(Histogram<u64>);

impl Times {
    pub(crate) fn new() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST, 3).expect("1 ns to an hour with three digits is valid"))
    }

    pub(crate) fn record(&mut self, took: Duration) {
        self.0.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(LONGEST));
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all histograms have the same bounds");
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// Microseconds below which this share of the exchanges stayed.
    pub(crate) fn micros(&self, quantile: f64) -> f64 {
        if self.0.is_empty() { 0.0 } else { self.0.value_at_quantile(quantile) as f64 / 1000.0 }
    }
}

/// An hour in nanoseconds.
const LONGEST: u64 = 3_600_000_000_000;

/// A measurement that is under way.
#[derive(Debug)]
pub(crate) struct Watch {
    began: Instant,
    cpu: Option<f64>,
}

impl Watch {
    pub(crate) fn start() -> Self {
        Self { began: Instant::now(), cpu: cpu_seconds() }
    }

    /// The figures of what happened since the start: so many exchanges, each with a payload of so many bytes.
    pub(crate) fn stop(&self, times: &Times, size: usize) -> Figures {
        self.figures(self.began.elapsed(), times, size)
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Processor time since the start; `None` where the system does not say.
    pub(crate) fn cpu(&self) -> Option<f64> {
        cpu_seconds().zip(self.cpu).map(|(now, then)| now - then)
    }

    /// [`stop`](Self::stop) where only a part of the time counts.
    pub(crate) fn figures(&self, took: Duration, times: &Times, size: usize) -> Figures {
        let seconds = took.as_secs_f64().max(1e-9);
        let count = times.0.len() as f64;
        Figures {
            msgs_s: count / seconds,
            mbps: size as f64 * count / seconds / 1e6,
            p50_us: times.micros(0.5),
            p99_us: times.micros(0.99),
            p999_us: times.micros(0.999),
            cpu_s: self.cpu(),
            rss_mb: resident_mib(),
        }
    }
}

/// What scripts read. Times in microseconds, MB = 10^6 bytes of payload one way, memory in MiB; unknown ones are null.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Figures {
    pub(crate) msgs_s: f64,
    #[serde(rename = "MBps")]
    pub(crate) mbps: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) cpu_s: Option<f64>,
    pub(crate) rss_mb: Option<f64>,
}

impl Figures {
    /// A table for people.
    pub(crate) fn table(&self) -> String {
        let known = |value: Option<f64>, unit| value.map_or("unknown".into(), |v| format!("{v:.2} {unit}"));
        let rows = [
            ("rate", format!("{:.0} msgs/s", self.msgs_s)),
            ("payload", format!("{:.2} MB/s", self.mbps)),
            ("p50", format!("{:.1} µs", self.p50_us)),
            ("p99", format!("{:.1} µs", self.p99_us)),
            ("p99.9", format!("{:.1} µs", self.p999_us)),
            ("cpu", known(self.cpu_s, "s")),
            ("memory", known(self.rss_mb, "MiB")),
        ];
        rows.iter().map(|(name, value)| format!("{name:<9} {value}\n")).collect()
    }
}

/// Processor time that this process has used; `None` where the system does not say.
fn cpu_seconds() -> Option<f64> {
    parse_stat(&fs::read_to_string("/proc/self/stat").ok()?)
}

/// User and system time from `/proc/PID/stat`. The name in the second field may have blanks and parentheses.
fn parse_stat(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    let (user, system) = (ticks.next()?.ok()?, ticks.next()?.ok()?);
    Some((user + system) as f64 / USER_HZ)
}

/// The unit of times that Linux shows to programs, on every architecture.
const USER_HZ: f64 = 100.0;

/// Memory that this process holds; `None` where the system does not say.
pub(crate) fn resident_mib() -> Option<f64> {
    parse_status(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// The most memory that this process ever held; `None` where the system does not say.
pub(crate) fn peak_mib() -> Option<f64> {
    parse_status(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// Lets [`peak_mib`] begin anew from what is held now, where the system can do that.
pub(crate) fn forget_peak() {
    // Elsewhere the peak is that of the whole life of the process, which is still one.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

fn parse_status(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_the_names_that_scripts_rely_on() {
        let mut times = Times::new();
        times.record(Duration::from_micros(250));
        let json = serde_json::to_value(Watch::start().stop(&times, 10)).unwrap();
        for name in ["msgs_s", "MBps", "p50_us", "p99_us", "p999_us", "cpu_s", "rss_mb"] {
            assert!(json.get(name).is_some(), "{name} is missing in {json}");
        }
        let p50 = json["p50_us"].as_f64().unwrap();
        assert!((249.0..=251.0).contains(&p50), "{p50}");
    }

    #[test]
    fn nothing_measured_gives_zeros() {
        let figures = Watch::start().stop(&Times::new(), 10);
        assert_eq!((figures.msgs_s, figures.mbps, figures.p50_us), (0.0, 0.0, 0.0));
    }

    #[test]
    fn the_systems_texts_are_read() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194304 1 0 0 0 250 50 0 0 20 0 1 0 1 1 1";
        assert_eq!(parse_stat(stat), Some(3.0));
        assert_eq!(parse_status("Name:\tx\nVmRSS:\t  2048 kB\n", "VmRSS:"), Some(2.0));
        assert_eq!((parse_stat("7"), parse_status("", "VmRSS:")), (None, None));
    }
}
