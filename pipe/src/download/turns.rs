//! Whose references are pulled now.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cellnet_core::Fqcn;
use tokio::sync::Notify;

/// Lets a bounded number of references be pulled.
///
/// Owners under one root of names may have as many turns as are still free for others. So owners that never answer hold half
/// of them at most, and those under a second root half of the rest: there is always one left.
#[derive(Debug)]
pub(super) struct Turns {
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug)]
struct State {
    free: usize,
    /// By the root of the owners; there as long as they have one.
    taken: HashMap<String, usize>,
}

/// A turn, which ends when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Arc<Turns>,
    root: String,
}

impl Turns {
    pub(super) fn new(at_once: usize) -> Arc<Self> {
        let state = State { free: at_once.max(1), taken: HashMap::new() };
        Arc::new(Self { state: Mutex::new(state), freed: Notify::new() })
    }

    /// Waits for a turn to pull from an owner. Cancel safe.
    pub(super) async fn take(self: &Arc<Self>, owner: &Fqcn) -> Turn {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            if let Some(turn) = self.try_take(owner.root()) {
                return turn;
            }
            freed.await;
        }
    }

    fn try_take(self: &Arc<Self>, root: &str) -> Option<Turn> {
        let mut state = self.state();
        let taken = state.taken.get(root).copied().unwrap_or(0);
        if taken >= state.free {
            return None;
        }
        state.free -= 1;
        state.taken.insert(root.to_owned(), taken + 1);
        Some(Turn { turns: self.clone(), root: root.to_owned() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.turns.state();
        state.free += 1;
        if let Some(taken) = state.taken.get_mut(&self.root) {
            *taken -= 1;
            if *taken == 0 {
                state.taken.remove(&self.root);
            }
        }
        drop(state);
        self.turns.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn owners_under_one_root_leave_turns_for_others() {
        let turns = Turns::new(8);
        let take = |root, times| (0..times).map_while(|_| turns.try_take(root)).collect::<Vec<_>>();
        let (slow, other) = (take("site-1", 9), take("site-2", 9));
        assert_eq!((slow.len(), other.len(), take("site-3", 9).len()), (4, 2, 1));
        drop(slow);
        assert_eq!(take("site-4", 9).len(), 3);
        drop(other);
        assert_eq!(turns.state().free, 8);
        assert!(turns.state().taken.is_empty());
    }

    #[tokio::test]
    async fn who_waits_goes_on_when_a_turn_ends() {
        let (turns, owner) = (Turns::new(1), "site-1.job".parse().unwrap());
        let first = turns.take(&owner).await;
        let mut second = std::pin::pin!(turns.take(&owner));
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        second.await;
    }
}
