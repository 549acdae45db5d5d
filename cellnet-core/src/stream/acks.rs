//! ACKs of one incoming stream, in order.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Which ACK goes out next. An ACK that cannot be sent stays owed; a larger one takes its place, and none is sent after
/// a larger one.
#[derive(Debug, Default)]
pub(super) struct Acks {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The largest offset that was sent.
    sent: u64,
    /// A larger one that is to be sent.
    owed: Option<u64>,
    /// Somebody sends one.
    busy: bool,
}

/// An ACK that is being sent, the only one of its stream. Dropped before it is done it stays owed.
#[derive(Debug)]
pub(super) struct Acking<'a> {
    acks: &'a Acks,
    pub(super) offset: u64,
}

impl Acks {
    /// So many bytes are to be acknowledged.
    pub(super) fn owe(&self, offset: u64) {
        let mut state = self.state();
        let largest = state.owed.unwrap_or(state.sent);
        if offset > largest {
            state.owed = Some(offset);
        }
    }

    /// Whether something is owed that nobody is sending.
    pub(super) fn wait(&self) -> bool {
        let state = self.state();
        state.owed.is_some() && !state.busy
    }

    /// What is owed, to be sent now, unless somebody is sending already.
    pub(super) fn begin(&self) -> Option<Acking<'_>> {
        let mut state = self.state();
        let offset = state.owed.filter(|_| !state.busy)?;
        state.busy = true;
        drop(state);
        Some(Acking { acks: self, offset })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Acking<'_> {
    /// It was sent, or can never be.
    pub(super) fn done(self) {
        let mut state = self.acks.state();
        state.sent = self.offset;
        state.owed = state.owed.filter(|&owed| owed > self.offset);
        drop(state);
    }
}

impl Drop for Acking<'_> {
    fn drop(&mut self) {
        self.acks.state().busy = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ack_that_was_not_sent_stays_owed() {
        let acks = Acks::default();
        acks.owe(4);
        for _ in 0..3 {
            assert_eq!(acks.begin().unwrap().offset, 4);
            assert!(acks.wait());
        }
        acks.begin().unwrap().done();
        assert!(acks.begin().is_none() && !acks.wait());
    }

    #[test]
    fn no_ack_follows_a_larger_one() {
        let acks = Acks::default();
        acks.owe(8);
        acks.owe(4);
        let first = acks.begin().unwrap();
        assert_eq!(first.offset, 8);
        acks.owe(12);
        assert!(acks.begin().is_none() && !acks.wait(), "one at a time");
        first.done();
        acks.owe(8);
        let second = acks.begin().unwrap();
        assert_eq!(second.offset, 12);
        second.done();
        acks.owe(10);
        assert!(acks.begin().is_none());
    }
}
