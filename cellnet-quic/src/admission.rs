//! Which handshakes begin, and which must wait or go.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use quinn::Incoming;

/// Counts handshakes in progress and keeps them within limits.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    all: Arc<AtomicUsize>,
    unvalidated: Arc<AtomicUsize>,
    most: usize,
    most_unvalidated: usize,
}

/// The place of a handshake in progress, given back on drop.
#[derive(Debug)]
pub(crate) struct Place {
    counters: [Option<Arc<AtomicUsize>>; 2],
}

impl Admission {
    pub(crate) fn new(most: usize, most_unvalidated: usize) -> Self {
        Self { all: Arc::default(), unvalidated: Arc::default(), most, most_unvalidated }
    }

    /// Lets a peer in, asks it to come again with proof of its address, or sends it away.
    pub(crate) fn admit(&self, incoming: Incoming) -> Option<(Incoming, Place)> {
        let validated = incoming.remote_address_validated();
        if self.all.load(Relaxed) >= self.most {
            tracing::debug!(remote = %incoming.remote_address(), "refused: too many handshakes in progress");
            incoming.refuse();
            return None;
        }
        if !validated && self.unvalidated.load(Relaxed) >= self.most_unvalidated {
            // It may always be asked, because its address is not validated.
            let _ = incoming.retry();
            return None;
        }
        let unvalidated = (!validated).then(|| self.unvalidated.clone());
        let counters = [Some(self.all.clone()), unvalidated];
        counters.iter().flatten().for_each(|counter| {
            counter.fetch_add(1, Relaxed);
        });
        Some((incoming, Place { counters }))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.counters.iter().flatten().for_each(|counter| {
            counter.fetch_sub(1, Relaxed);
        });
    }
}
