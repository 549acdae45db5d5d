//! Counts what is answered.

use std::time::Instant;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::{Job, warm};

/// What is answered after the warm-up. The clock runs from the first of these answers to the last.
pub(crate) struct Tally {
    from: Instant,
    until: Instant,
    first: Option<Instant>,
    last: Instant,
    /// In nanoseconds, without the first.
    times: Histogram<u64>,
}

impl Tally {
    /// The warm-up begins now.
    pub(crate) fn start(job: &Job) -> Self {
        let now = Instant::now();
        let from = now + job.warmup;
        let times = Histogram::new(3).expect("three digits are possible");
        Self { from, until: from + job.lasts, first: None, last: now, times }
    }

    /// Notes an answer to what began then; whether to go on, for as long as the job says and until there is a figure.
    pub(crate) fn note(&mut self, began: Instant) -> bool {
        let now = Instant::now();
        if self.first.is_some() {
            self.last = now;
            self.times.record((now - began).as_nanos() as u64).expect("the histogram grows");
        } else if now >= self.from {
            self.first = Some(now);
            warm();
        }
        now < self.until || self.times.is_empty()
    }

    pub(crate) fn figures(&self) -> Value {
        let first = self.first.expect("it goes on until there is a figure");
        let (messages, seconds) = (self.times.len(), (self.last - first).as_secs_f64());
        let micros = |quantile| self.times.value_at_quantile(quantile) as f64 / 1e3;
        json!({
            "messages": messages, "msgs_s": messages as f64 / seconds, "p50_us": micros(0.5), "p99_us": micros(0.99),
        })
    }
}
