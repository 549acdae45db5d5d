//! What can be measured.

use std::{fmt, time::Duration};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::cli::status::Failure;

/// What the two processes do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Workload {
    /// Plain requests on a channel that does not stream; the reply carries the same payload
    Rr,
    /// The same on a channel that carries requests and replies as blobs
    Srr,
    /// Messages of a CellPipe, each acknowledged once it waits at the other end
    Pipe,
    /// Small messages that nobody answers; what arrives is counted, by the clock of who receives it
    Push,
    /// Blobs, each acknowledged with nothing once all of it is there
    Blob,
    /// A broadcast from the serving cell to all connections, which acknowledge it
    Fan,
    /// Connect, handshake and close
    Churn,
    /// Connections that are held and carry nothing but heartbeats; what each costs in memory
    Idle,
}

impl Workload {
    /// The name on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rr => "rr",
            Self::Srr => "srr",
            Self::Pipe => "pipe",
            Self::Push => "push",
            Self::Blob => "blob",
            Self::Fan => "fan",
            Self::Churn => "churn",
            Self::Idle => "idle",
        }
    }

    /// Whether somebody waits for every message, so that it is in memory until then.
    pub(super) fn waits(self) -> bool {
        self != Self::Push
    }

    /// Whether messages travel as blobs, whose chunks and windows matter.
    pub(super) fn streams(self) -> bool {
        matches!(self, Self::Srr | Self::Pipe | Self::Blob | Self::Fan)
    }

    /// Whether messages have a payload.
    pub(super) fn has_payload(self) -> bool {
        !matches!(self, Self::Churn | Self::Idle)
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How much of it, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) workload: Workload,
    /// Bytes of each payload.
    pub(super) size: usize,
    /// Messages that each connection has under way at the same time.
    pub(super) inflight: usize,
    pub(super) connections: usize,
    pub(super) lasts: Duration,
    /// What comes before and is not counted.
    pub(super) warmup: Duration,
}

impl Settings {
    /// Refuses what would not fit into memory, or into what one process may open.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let Self { workload, size, inflight, connections, .. } = *self;
        let limit = if workload == Workload::Pipe { MAX_PIPES } else { MAX_CONNECTIONS };
        if connections > limit {
            let text =
                format!("{connections} connections are more than the {limit} that '{workload}' can have");
            return Err(Failure::usage(format!("{text}; give less --connections")));
        }
        let all = connections * inflight;
        if all > MAX_INFLIGHT {
            return Err(Failure::usage(format!(
                "{connections} connections with {inflight} in flight each are {all} at once, and {MAX_INFLIGHT} is the \
                 most; give less --inflight"
            )));
        }
        if workload.waits() && workload.has_payload() && (all as u64).saturating_mul(size as u64) > MAX_HELD {
            return Err(Failure::usage(format!(
                "{all} payloads of {size} bytes at once are more than the {MAX_HELD} bytes that may be under way; give \
                 less --size or --inflight"
            )));
        }
        Ok(())
    }
}

/// Some 28,000 local ports lead to one address.
pub(super) const MAX_CONNECTIONS: usize = 28_000;
/// The serving process has a cell for each pipe, too, and starts them because it is asked to.
pub(super) const MAX_PIPES: usize = 64;
/// As many requests as the answering cell would keep waiting itself.
pub(super) const MAX_INFLIGHT: usize = 65_536;
/// What both processes can hold beside everything else on a small machine.
const MAX_HELD: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(workload: Workload, size: usize, inflight: usize, connections: usize) -> Settings {
        let lasts = Duration::from_secs(1);
        Settings { workload, size, inflight, connections, lasts, warmup: Duration::ZERO }
    }

    #[test]
    fn names_are_those_of_the_command_line_and_of_json() {
        for workload in Workload::value_variants() {
            let name = workload.to_possible_value().unwrap();
            assert_eq!(name.get_name(), workload.name());
            assert_eq!(serde_json::to_value(workload).unwrap(), workload.name());
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_to_give() {
        use Workload::{Blob, Churn, Idle, Pipe, Push, Rr};
        for (size, inflight, connections, workload) in [
            (64, 1, MAX_CONNECTIONS, Rr),
            (64, MAX_INFLIGHT, 1, Rr),
            (16 << 20, 64, 1, Blob),
            (64 << 20, 64, 1, Push),
            (1 << 30, 8, 8, Churn),
            (1 << 30, 1, MAX_CONNECTIONS, Idle),
            (64, 64, MAX_PIPES, Pipe),
        ] {
            assert!(settings(workload, size, inflight, connections).check().is_ok(), "{workload}");
        }
        for (size, inflight, connections, workload, named) in [
            (64, 1, MAX_CONNECTIONS + 1, Rr, "--connections"),
            (64, 1, MAX_PIPES + 1, Pipe, "--connections"),
            (64, 64, 1025, Rr, "--inflight"),
            (16 << 20, 65, 1, Blob, "--size"),
            (usize::MAX, 1, 1, Rr, "--size"),
        ] {
            let failure = settings(workload, size, inflight, connections).check().unwrap_err();
            assert!(failure.to_string().contains(named), "{failure}");
        }
    }
}
