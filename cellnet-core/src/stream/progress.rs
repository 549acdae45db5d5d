//! How far a transfer is, for whoever waits for it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

use super::incoming::Key;
use crate::cell::OnProgress;

/// Bytes of a transfer that have moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Bytes sent.
    pub sent: u64,
    /// Bytes to send.
    pub to_send: u64,
    /// Bytes received.
    pub received: u64,
    /// Bytes to receive; 0 while unknown.
    pub to_receive: u64,
}

/// The progress of one request and its reply.
pub(super) struct Watch {
    state: Mutex<State>,
    on_progress: Option<OnProgress>,
}

#[derive(Debug)]
struct State {
    progress: Progress,
    moved: Instant,
    /// The reply that is arriving.
    reply: Option<Key>,
    telling: Telling,
}

/// Whether the callback runs. Only one thread calls it at a time, so that nobody sees an older state after a newer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Telling {
    Idle,
    Busy,
    /// More has moved since it was called.
    Stale,
}

impl Watch {
    pub(super) fn new(to_send: u64, on_progress: Option<OnProgress>) -> Self {
        let progress = Progress { to_send, ..Progress::default() };
        let state = State { progress, moved: Instant::now(), reply: None, telling: Telling::Idle };
        Self { state: Mutex::new(state), on_progress }
    }

    pub(super) fn sent(&self, bytes: u64) {
        self.update(|progress| progress.sent = progress.sent.max(bytes));
    }

    pub(super) fn received(&self, bytes: u64, of: u64) {
        self.update(|progress| {
            progress.received = progress.received.max(bytes);
            progress.to_receive = of;
        });
    }

    /// Something happened that shows that the other end lives.
    pub(super) fn touch(&self) {
        self.state().moved = Instant::now();
    }

    pub(super) fn bytes_sent(&self) -> u64 {
        self.state().progress.sent
    }

    /// When something last moved.
    pub(super) fn moved(&self) -> Instant {
        self.state().moved
    }

    pub(super) fn set_reply(&self, key: Key) {
        self.state().reply = Some(key);
    }

    pub(super) fn reply(&self) -> Option<Key> {
        self.state().reply.clone()
    }

    /// To be called with nothing locked: the callback may drop the request that it belongs to.
    fn update(&self, change: impl FnOnce(&mut Progress)) {
        let mut state = self.state();
        state.moved = Instant::now();
        change(&mut state.progress);
        let Some(on_progress) = &self.on_progress else { return };
        if state.telling != Telling::Idle {
            state.telling = Telling::Stale;
            return;
        }
        while state.telling != Telling::Busy {
            state.telling = Telling::Busy;
            let progress = state.progress;
            drop(state);
            let told = catch_unwind(AssertUnwindSafe(|| on_progress(progress)));
            if told.is_err() {
                tracing::error!("a progress callback panicked");
            }
            state = self.state();
        }
        state.telling = Telling::Idle;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("state", &*self.state()).finish_non_exhaustive()
    }
}
