//! What is to be done in a turn.

use std::{fmt, str::FromStr, time::Duration};

use serde_json::{Value, json};

/// Work for a process that runs; as text it is an object of JSON.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Job {
    /// As `cellnet bench run --workload` calls it.
    pub(crate) workload: String,
    /// Bytes of each payload.
    pub(crate) size: usize,
    /// How many messages each client has under way at the same time.
    pub(crate) inflight: usize,
    pub(crate) clients: usize,
    /// What comes before and is not counted.
    pub(crate) warmup: Duration,
    pub(crate) lasts: Duration,
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { workload, size, inflight, clients, warmup, lasts } = self;
        let (warmup, seconds) = (warmup.as_secs_f64(), lasts.as_secs_f64());
        let job = json!({
            "workload": workload, "size": size, "inflight": inflight, "clients": clients, "warmup": warmup,
            "seconds": seconds,
        });
        job.fmt(f)
    }
}

impl FromStr for Job {
    type Err = serde_json::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let job: Value = serde_json::from_str(text)?;
        let many = |name: &str| job[name].as_u64().unwrap_or(1) as usize;
        let time = |name: &str| Duration::from_secs_f64(job[name].as_f64().unwrap_or(1.0));
        Ok(Self {
            workload: job["workload"].as_str().unwrap_or_default().into(),
            size: many("size"),
            inflight: many("inflight"),
            clients: many("clients"),
            warmup: time("warmup"),
            lasts: time("seconds"),
        })
    }
}
