//! Counts what arrives, and when.

use std::{
    sync::atomic::{
        AtomicU64,
        Ordering::{Relaxed, SeqCst},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

/// Messages of one round. Handlers count, whoever ends the round waits.
#[derive(Debug)]
pub(super) struct Count {
    origin: Instant,
    received: AtomicU64,
    /// Nanoseconds from the origin to the first and the last message.
    first: AtomicU64,
    last: AtomicU64,
    /// As many as somebody waits for.
    goal: AtomicU64,
    reached: Notify,
}

impl Count {
    pub(super) fn new() -> Self {
        Self {
            origin: Instant::now(),
            received: AtomicU64::new(0),
            first: AtomicU64::new(0),
            last: AtomicU64::new(0),
            goal: AtomicU64::new(u64::MAX),
            reached: Notify::new(),
        }
    }

    /// One message is there.
    pub(super) fn note(&self) {
        let now = u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        // Several threads may be here; then any of their moments is as good.
        self.last.store(now, Relaxed);
        let before = self.received.fetch_add(1, SeqCst);
        if before == 0 {
            self.first.store(now, Relaxed);
        }
        // Either the goal is seen here, or who sets it sees this message.
        if before + 1 >= self.goal.load(SeqCst) {
            self.reached.notify_one();
        }
    }

    pub(super) fn received(&self) -> u64 {
        self.received.load(SeqCst)
    }

    /// Seconds from the first to the last message.
    pub(super) fn seconds(&self) -> f64 {
        let nanos = self.last.load(Relaxed).saturating_sub(self.first.load(Relaxed));
        Duration::from_nanos(nanos).as_secs_f64()
    }

    /// Waits until so many are there, or no more came for the patience. Of one waiter at a time.
    pub(super) async fn arrive(&self, goal: u64, patience: Duration) {
        self.goal.store(goal, SeqCst);
        let mut seen = self.received();
        while seen < goal {
            if tokio::time::timeout(patience, self.reached.notified()).await.is_err()
                && self.received() == seen
            {
                return;
            }
            seen = self.received();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_told_of_the_last_one() {
        let count = Arc::new(Count::new());
        count.note();
        let waiting = tokio::spawn({
            let count = count.clone();
            async move { count.arrive(3, Duration::from_secs(3600)).await }
        });
        tokio::task::yield_now().await;
        count.note();
        count.note();
        waiting.await.unwrap();
        assert_eq!(count.received(), 3);
        count.arrive(2, PATIENCE).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_lost_is_waited_for_as_long_as_the_patience() {
        let count = Count::new();
        count.note();
        let began = tokio::time::Instant::now();
        count.arrive(2, PATIENCE).await;
        assert_eq!(began.elapsed(), PATIENCE);
    }
}
