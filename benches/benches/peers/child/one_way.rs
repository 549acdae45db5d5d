//! Messages that nobody answers.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Job, warm};

/// Somebody who sends to one who counts.
pub(crate) trait OneWay {
    /// Sends some, waiting for room; gives how many.
    fn send(&mut self) -> u64;

    /// How many have arrived since the first one. What was sent before is there when the answer comes, or is lost.
    fn arrived(&mut self) -> u64;
}

/// Sends as long as the job says. It is over when the last message has arrived.
pub(crate) fn push(job: &Job, way: &mut impl OneWay) -> Value {
    round(job.warmup, way);
    warm();
    let (messages, seconds) = round(job.lasts, way);
    json!({ "messages": messages, "msgs_s": messages as f64 / seconds, "p50_us": null, "p99_us": null })
}

/// Gives how many arrived, and within how many seconds.
fn round(lasts: Duration, way: &mut impl OneWay) -> (u64, f64) {
    let (before, began) = (way.arrived(), Instant::now());
    let mut sent = 0;
    while began.elapsed() < lasts {
        sent += way.send();
    }
    let arrived = way.arrived() - before;
    assert_eq!(arrived, sent, "every message arrives");
    (arrived, began.elapsed().as_secs_f64())
}

/// Asks again how many have arrived until all that were sent have; gives the last answer.
pub(crate) fn settle(sent: u64, mut counted: impl FnMut() -> u64) -> u64 {
    let began = Instant::now();
    loop {
        let arrived = counted();
        if arrived == sent || began.elapsed() > PATIENCE {
            return arrived;
        }
    }
}

/// For what takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);
