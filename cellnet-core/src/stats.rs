//! Counters: bytes that moved, and bytes that are held.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{
        AtomicU64, AtomicUsize,
        Ordering::{Relaxed, SeqCst},
    },
};

use tokio::{sync::Notify, time::Instant};

use crate::spare::Spares;

/// Bytes that a connection has moved, counted by its driver on every read and write.
///
/// Every clock that asks "is this peer alive" or "is this write stalled" runs on these, so a frame that takes long is
/// not mistaken for a dead peer.
#[derive(Debug, Default)]
pub struct Meter {
    rx: AtomicU64,
    tx: AtomicU64,
}

impl Meter {
    /// Bytes read so far.
    pub fn rx(&self) -> u64 {
        self.rx.load(Relaxed)
    }

    /// Bytes written so far.
    pub fn tx(&self) -> u64 {
        self.tx.load(Relaxed)
    }

    /// Counts a read.
    pub fn add_rx(&self, bytes: usize) {
        self.rx.fetch_add(bytes as u64, Relaxed);
    }

    /// Counts a write.
    pub fn add_tx(&self, bytes: usize) {
        self.tx.fetch_add(bytes as u64, Relaxed);
    }
}

/// An amount of memory that several users share, in bytes.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
    /// How often something was given back.
    releases: AtomicU64,
    released: Notify,
    spares: Spares,
    read_buffers: Spares,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            used: AtomicUsize::new(0),
            releases: AtomicU64::new(0),
            released: Notify::new(),
            spares: Spares::bodies(),
            read_buffers: Spares::read_buffers(),
        })
    }

    /// Takes `bytes` if they are left. They return when the reservation is dropped.
    pub fn reserve(self: &Arc<Self>, bytes: usize) -> Option<Reservation> {
        self.reserve_below(bytes, self.limit)
    }

    /// [`reserve`](Self::reserve) for a user that leaves what is above `ceiling` to others.
    pub(crate) fn reserve_below(self: &Arc<Self>, bytes: usize, ceiling: usize) -> Option<Reservation> {
        self.take(bytes, ceiling).then(|| Reservation { budget: self.clone(), bytes })
    }

    /// How often something was given back; to be read before a reservation is tried, for
    /// [`released_since`](Self::released_since).
    pub fn releases(&self) -> u64 {
        self.releases.load(SeqCst)
    }

    /// Waits until something was given back after [`releases`](Self::releases) gave `seen`. Cancel safe.
    pub async fn released_since(&self, seen: u64) {
        loop {
            let mut released = std::pin::pin!(self.released.notified());
            released.as_mut().enable();
            if self.releases() != seen {
                return;
            }
            released.await;
        }
    }

    fn release(&self, bytes: usize) {
        if bytes > 0 {
            self.used.fetch_sub(bytes, Relaxed);
            self.releases.fetch_add(1, SeqCst);
            self.released.notify_waiters();
        }
    }

    /// Buffers that whoever shares this budget hands round. They are not counted: there are few.
    pub(crate) fn spares(&self) -> &Spares {
        &self.spares
    }

    /// What connections read into while they have something to read. Not counted either.
    pub(crate) fn read_buffers(&self) -> &Spares {
        &self.read_buffers
    }

    /// Bytes reserved now.
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// Bytes that may be reserved in all.
    pub fn limit(&self) -> usize {
        self.limit
    }

    fn take(&self, bytes: usize, ceiling: usize) -> bool {
        let ceiling = ceiling.min(self.limit);
        let fits = |used: usize| used.checked_add(bytes).filter(|&sum| sum <= ceiling || bytes == 0);
        self.used.fetch_update(Relaxed, Relaxed, fits).is_ok()
    }
}

/// A share of a [`Budget`], given back on drop.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Reservation {
    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes `bytes` more, or nothing at all. Says whether it did.
    #[must_use]
    pub fn grow(&mut self, bytes: usize) -> bool {
        self.grow_below(bytes, self.budget.limit)
    }

    /// [`grow`](Self::grow) for a user that leaves what is above `ceiling` to others.
    #[must_use]
    pub(crate) fn grow_below(&mut self, bytes: usize, ceiling: usize) -> bool {
        let took = self.budget.take(bytes, ceiling);
        if took {
            self.bytes += bytes;
        }
        took
    }

    /// Gives `bytes` back, at most what is held.
    pub fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.budget.release(bytes);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

/// Keeps peers from filling the log: a burst is let through, then one message a second.
#[derive(Debug)]
pub(crate) struct LogLimit(Mutex<(u32, Instant)>);

/// Messages of a burst.
const BURST: u32 = 50;

impl LogLimit {
    pub(crate) fn new() -> Self {
        Self(Mutex::new((BURST, Instant::now())))
    }

    /// Whether the next message may be logged.
    pub(crate) fn allows(&self) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, since) = &mut *state;
        let seconds = u32::try_from(since.elapsed().as_secs()).unwrap_or(u32::MAX);
        if seconds > 0 {
            (*left, *since) = (left.saturating_add(seconds).min(BURST), Instant::now());
        }
        let allowed = *left > 0;
        if *left == 1 {
            tracing::warn!("many messages of this kind; from now on one a second is logged");
        }
        *left = left.saturating_sub(1);
        allowed
    }
}

/// Something that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts `n` more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What a cell counted since it started.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Messages that arrived, transit included.
    pub received: Counter,
    /// Messages passed on to a next hop.
    pub forwarded: Counter,
    /// Messages given up: no way, no room, undecodable, or with nobody to answer to.
    pub dropped: Counter,
    /// Messages dropped because their link does not speak for their origin.
    pub foreign_origins: Counter,
    /// Replies that nobody waited for (any more), or from somebody who was not asked.
    pub late_replies: Counter,
    /// Requests refused because too many handlers were running or waiting.
    pub overloaded: Counter,
    /// Frames above the limit whose body was read past.
    pub oversize: Counter,
    /// Handshakes that failed.
    pub failed_handshakes: Counter,
    /// Requests for blocks of transfers in transit that were answered from what this cell keeps.
    pub block_hits: Counter,
    /// Requests for blocks of transfers that went on to their target.
    pub block_misses: Counter,
    /// Requests for blocks that waited for the reply to somebody else's request.
    pub block_coalesced: Counter,
    /// Requests for blocks that waited until other children of this cell had caught up.
    pub block_holds: Counter,
    /// Bytes of blocks that children of this cell got without another copy from above.
    pub block_bytes: Counter,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_never_overdrawn_and_refills() {
        let budget = Budget::new(10);
        let mut first = budget.reserve(6).unwrap();
        assert!(budget.reserve(5).is_none() && !first.grow(5) && first.grow(4));
        first.shrink(100);
        assert_eq!(budget.used(), 0);
        assert!(budget.reserve(usize::MAX).is_none());
        let again = budget.reserve(10);
        drop((first, again));
        assert_eq!(budget.used(), 0);
    }
}
