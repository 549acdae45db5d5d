//! Memory for the windows of incoming streams, shared among neighbours.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{StreamConfig, StreamError};
use crate::{
    fqcn::Fqcn,
    stats::{Budget, Reservation},
};

/// What all incoming streams may hold before their applications have used it, and what of it came by each neighbour.
#[derive(Debug)]
pub(super) struct Windows {
    budget: Arc<Budget>,
    /// Bytes for one neighbour.
    share: u64,
    /// Only neighbours with streams.
    loads: Mutex<HashMap<Fqcn, Load>>,
}

/// What one neighbour uses.
#[derive(Debug, Clone, Copy, Default)]
struct Load {
    streams: usize,
    bytes: u64,
}

/// Streams that arrive by one neighbour at the same time.
pub(super) const MAX_PER_LINK: usize = 1024;

impl Windows {
    /// One neighbour gets at most half of the budget, so that it cannot take all of it, but always one window.
    pub(super) fn new(budget: usize, config: &StreamConfig) -> Arc<Self> {
        let share = (budget as u64 / 2).max(config.recv_window);
        Arc::new(Self { budget: Budget::new(budget), share, loads: Mutex::default() })
    }

    /// Takes `bytes` for a stream that begins.
    pub(super) fn admit(self: &Arc<Self>, peer: &Fqcn, bytes: u64) -> Result<Window, StreamError> {
        let mut loads = self.loads();
        let load = loads.get(peer).copied().unwrap_or_default();
        if load.streams >= MAX_PER_LINK {
            return Err(StreamError::TooManyFrom { peer: peer.clone(), limit: MAX_PER_LINK });
        }
        let sum = load.bytes.saturating_add(bytes);
        if sum > self.share {
            return Err(StreamError::ShareInUse { peer: peer.clone(), wanted: bytes, limit: self.share });
        }
        let reserved = usize::try_from(bytes).ok().and_then(|bytes| self.budget.reserve(bytes));
        let reserved = reserved.ok_or(StreamError::NoMemory(bytes))?;
        loads.insert(peer.clone(), Load { streams: load.streams + 1, bytes: sum });
        Ok(Window { windows: self.clone(), peer: peer.clone(), bytes, _reserved: reserved })
    }

    /// Bytes reserved now.
    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        assert_eq!(self.loads().values().map(|load| load.bytes).sum::<u64>(), self.budget.used() as u64);
        self.budget.used()
    }

    fn loads(&self) -> MutexGuard<'_, HashMap<Fqcn, Load>> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The window of one stream, given back on drop.
#[derive(Debug)]
pub(super) struct Window {
    windows: Arc<Windows>,
    peer: Fqcn,
    bytes: u64,
    _reserved: Reservation,
}

impl Drop for Window {
    fn drop(&mut self) {
        let mut loads = self.windows.loads();
        if let Some(load) = loads.get_mut(&self.peer) {
            load.streams -= 1;
            load.bytes -= self.bytes;
            if load.streams == 0 {
                loads.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(budget: usize, recv_window: u64) -> Arc<Windows> {
        Windows::new(budget, &StreamConfig { recv_window, ..StreamConfig::default() })
    }

    #[test]
    fn a_neighbour_gets_half_of_the_memory_and_leaves_no_trace() {
        let (windows, one, other) = (windows(100, 20), Fqcn::server(), "site".parse().unwrap());
        let held = [windows.admit(&one, 30).unwrap(), windows.admit(&one, 20).unwrap()];
        let error = windows.admit(&one, 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no memory for 1 bytes of a stream, streams by 'server' have 50 in all"
        );
        let rest = windows.admit(&other, 50).unwrap();
        assert!(matches!(windows.admit(&"third".parse().unwrap(), 1), Err(StreamError::NoMemory(1))));
        drop((held, rest));
        assert_eq!(windows.used(), 0);
        assert!(windows.loads().is_empty());
    }

    #[test]
    fn a_neighbour_gets_one_window_even_of_a_small_budget() {
        let (windows, peer) = (windows(25, 20), Fqcn::server());
        let window = windows.admit(&peer, 20).unwrap();
        assert!(windows.admit(&peer, 1).is_err());
        drop(window);
        assert!(windows.admit(&peer, 20).is_ok());
    }

    #[test]
    fn streams_of_one_neighbour_are_bounded_in_number() {
        let (windows, peer) = (windows(1 << 20, 20), Fqcn::server());
        let mut held: Vec<_> = (0..MAX_PER_LINK).map(|_| windows.admit(&peer, 1).unwrap()).collect();
        let error = windows.admit(&peer, 1).unwrap_err();
        assert_eq!(error.to_string(), "too many streams, 1024 are arriving by 'server' already");
        held.pop();
        assert!(windows.admit(&peer, 1).is_ok());
    }
}
