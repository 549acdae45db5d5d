//! Which handshakes begin at once, and which must prove their address first.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use quinn::Incoming;

/// Counts handshakes in progress from addresses that are not proved. How many there may be in all is up to whoever
/// awaits them.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    unvalidated: Arc<AtomicUsize>,
    most: usize,
}

/// The place of a handshake in progress, given back on drop.
#[derive(Debug)]
pub(crate) struct Place(Option<Arc<AtomicUsize>>);

impl Admission {
    pub(crate) fn new(most: usize) -> Self {
        Self { unvalidated: Arc::default(), most }
    }

    /// Lets a peer in, or asks it to come again with proof of its address.
    pub(crate) fn admit(&self, incoming: Incoming) -> Option<(Incoming, Place)> {
        if incoming.remote_address_validated() {
            return Some((incoming, Place(None)));
        }
        if self.unvalidated.load(Relaxed) >= self.most {
            // It may always be asked, because its address is not validated.
            let _ = incoming.retry();
            return None;
        }
        self.unvalidated.fetch_add(1, Relaxed);
        Some((incoming, Place(Some(self.unvalidated.clone()))))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(counter) = &self.0 {
            counter.fetch_sub(1, Relaxed);
        }
    }
}
