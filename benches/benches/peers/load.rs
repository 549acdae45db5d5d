//! What is measured.

use std::time::Duration;

use cellnet_benches::figure::brief;

use crate::child::Job;

/// A row of figures for each side that can do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Load {
    /// What `--only` calls it.
    pub(crate) name: &'static str,
    /// As `cellnet bench run --workload` calls what is done.
    pub(crate) workload: &'static str,
    /// Bytes of each payload.
    pub(crate) size: usize,
    pub(crate) inflight: usize,
    pub(crate) clients: usize,
    /// Whether a third process passes everything on.
    pub(crate) relayed: bool,
}

impl Load {
    /// All of them, in the order of the table.
    pub(crate) const ALL: [Self; 17] = [
        Self::of("rr", "rr", 64, 1),
        Self::of("rr", "rr", 64, 8),
        Self::ONE_CLIENT,
        Self::of("clients", "rr", 64, 1).with_clients(1000),
        Self::of("relay", "rr", 64, 64).through_relay(),
        Self::STREAMED,
        Self::MANY_STREAMED,
        Self::LARGE,
        Self::PIPE,
        Self::of("pipe", "pipe", 64, 64).through_relay(),
        Self::of("push", "push", 64, 1),
        Self::of("blob", "blob", 1 << 20, 1),
        Self::of("blob", "blob", 16 << 20, 1),
        Self::of("relay", "blob", 1 << 20, 1).through_relay(),
        Self::of("fan", "fan", 64, 1).with_clients(100),
        Self::of("churn", "churn", 0, 1),
        Self::of("churn", "churn", 0, 64),
    ];

    /// One client asks with many requests under way.
    pub(crate) const ONE_CLIENT: Self = Self::of("rr", "rr", 64, 64);

    /// A request as most applications make them.
    pub(crate) const STREAMED: Self = Self::of("srr", "srr", 64, 1);

    /// Many of them at the same time.
    pub(crate) const MANY_STREAMED: Self = Self::of("srr", "srr", 64, 64);

    /// A large one.
    pub(crate) const LARGE: Self = Self::of("srr", "srr", 64 << 20, 1);

    /// A message of a pipe.
    pub(crate) const PIPE: Self = Self::of("pipe", "pipe", 64, 1).through_relay();

    const fn of(name: &'static str, workload: &'static str, size: usize, inflight: usize) -> Self {
        Self { name, workload, size, inflight, clients: 1, relayed: false }
    }

    const fn with_clients(self, clients: usize) -> Self {
        Self { clients, ..self }
    }

    const fn through_relay(self) -> Self {
        Self { relayed: true, ..self }
    }

    /// What a process that runs is told.
    pub(crate) fn job(&self, pace: Pace) -> Job {
        let Self { size, inflight, .. } = *self;
        let clients = self.clients.min(pace.most_clients);
        let (warmup, lasts) = (pace.warmup, pace.lasts);
        Job { workload: self.workload.into(), size, inflight, clients, warmup, lasts }
    }

    /// For people.
    pub(crate) fn title(&self) -> String {
        let size = match self.size {
            0 => String::new(),
            size if size < 1 << 20 => format!(" {size} B"),
            size => format!(" {} MiB", size >> 20),
        };
        let many = match (self.clients, self.inflight) {
            (1, 1) if self.is_bulk() || self.workload == "push" => String::new(),
            (1, inflight) => format!(", {inflight} in flight"),
            (clients, _) => format!(", {} clients", brief(clients as f64)),
        };
        let by = match (self.relayed, self.workload) {
            (true, "pipe") => ", through the root",
            (true, _) => ", through a relay",
            (false, _) => "",
        };
        format!("`{}`{size}{many}{by}", self.workload)
    }

    /// Whether bytes count, and not messages.
    pub(crate) fn is_bulk(&self) -> bool {
        self.size >= 1 << 20
    }
}

/// How long a turn is, and how large at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) warmup: Duration,
    pub(crate) lasts: Duration,
    pub(crate) most_clients: usize,
}
