//! When a peer was last heard of.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::time::Instant;

/// A moment that many may set and read without waiting.
#[derive(Debug)]
pub(crate) struct Activity {
    began: Instant,
    /// Nanoseconds after `began`, and one more; 0 for never.
    last: AtomicU64,
}

impl Activity {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), last: AtomicU64::new(0) }
    }

    /// The peer was heard of now.
    pub(crate) fn mark(&self) {
        let since = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX - 1);
        self.last.fetch_max(since + 1, Relaxed);
    }

    /// When that was last.
    pub(crate) fn last(&self) -> Option<Instant> {
        let since = self.last.load(Relaxed).checked_sub(1)?;
        Some(self.began + std::time::Duration::from_nanos(since))
    }
}
