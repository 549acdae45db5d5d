//! What arrived and was not taken yet.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lru::LruCache;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use crate::{MessageType, PipeError, PipeMessage, Topic};

/// How much may wait until the application takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboxLimits {
    /// Messages. 1,024.
    pub messages: usize,
    /// Bytes. 256 MiB; a larger message is taken if none waits.
    pub bytes: usize,
}

impl Default for InboxLimits {
    fn default() -> Self {
        Self { messages: 1024, bytes: 256 << 20 }
    }
}

/// A bounded queue that delivers each message once.
#[derive(Debug)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    limits: InboxLimits,
    /// Something arrived, or the end.
    arrived: Notify,
    /// Something was taken, or the end.
    taken: Notify,
}

#[derive(Debug)]
struct State {
    waiting: VecDeque<PipeMessage>,
    bytes: usize,
    delivered: LruCache<Delivered, ()>,
    open: bool,
}

/// How a delivered message is known again. All come from one peer.
type Delivered = (MessageType, Topic, String);

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    /// It waits for the application.
    Taken,
    /// It came before and is not delivered again.
    Duplicate,
    /// There is no room now.
    Full,
    /// Nobody will take it.
    Closed,
}

impl Inbox {
    pub(crate) fn new(limits: InboxLimits) -> Self {
        // Bounded by hand, because a bounded one allocates all of it now.
        let delivered = LruCache::unbounded();
        let state = State { waiting: VecDeque::new(), bytes: 0, delivered, open: true };
        Self { state: Mutex::new(state), limits, arrived: Notify::new(), taken: Notify::new() }
    }

    /// Takes a message unless it came before or there is no room. Never waits.
    pub(crate) fn offer(&self, message: PipeMessage) -> Offer {
        let key = (message.msg_type, message.topic.clone(), message.msg_id.clone());
        let mut state = self.state();
        if !state.open {
            return Offer::Closed;
        }
        if state.delivered.contains(&key) {
            return Offer::Duplicate;
        }
        let cost = message.cost();
        if !state.has_room(&self.limits, &message.topic, cost) {
            return Offer::Full;
        }
        state.delivered.put(key, ());
        if state.delivered.len() > REMEMBERED {
            state.delivered.pop_lru();
        }
        state.bytes += cost;
        state.waiting.push_back(message);
        drop(state);
        self.arrived.notify_one();
        Offer::Taken
    }

    /// [`take`](Self::take) for a pipe: an error once the inbox is closed and empty. Cancel safe.
    pub(crate) async fn receive(&self, timeout: Option<Duration>) -> Result<Option<PipeMessage>, PipeError> {
        match self.take(timeout).await {
            None if self.is_closed() => Err(PipeError::NotOpen),
            taken => Ok(taken),
        }
    }

    /// The next message; `None` after `timeout`, or once the inbox is closed and empty. Cancel safe.
    pub(crate) async fn take(&self, timeout: Option<Duration>) -> Option<PipeMessage> {
        // `None` also for one that is too far away to be told.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            match self.try_take() {
                Ok(message) => return Some(message),
                Err(false) => return None,
                Err(true) => {}
            }
            match deadline {
                Some(deadline) => timeout_at(deadline, arrived).await.ok()?,
                None => arrived.await,
            }
        }
    }

    /// The next message, or whether one may still come.
    fn try_take(&self) -> Result<PipeMessage, bool> {
        let mut state = self.state();
        let Some(message) = state.waiting.pop_front() else { return Err(state.open) };
        state.bytes -= message.cost();
        let more = !state.waiting.is_empty();
        drop(state);
        if more {
            self.arrived.notify_one();
        }
        self.taken.notify_one();
        Ok(message)
    }

    /// Waits until there is room for a small message, or the inbox is closed. Cancel safe.
    pub(crate) async fn room(&self) {
        loop {
            let taken = self.taken.notified();
            tokio::pin!(taken);
            taken.as_mut().enable();
            {
                let state = self.state();
                if !state.open
                    || state.waiting.len() < self.limits.messages && state.bytes < self.limits.bytes
                {
                    return;
                }
            }
            taken.await;
        }
    }

    /// Puts a message in whatever the limits; for whoever waited for [`room`](Self::room).
    pub(crate) fn put(&self, message: PipeMessage) {
        let mut state = self.state();
        if state.open {
            state.bytes += message.cost();
            state.waiting.push_back(message);
            drop(state);
            self.arrived.notify_one();
        }
    }

    /// Forgets what waits. It stays known as delivered.
    pub(crate) fn clear(&self) {
        let mut state = self.state();
        state.waiting.clear();
        state.bytes = 0;
        drop(state);
        self.taken.notify_one();
    }

    /// Takes no more. What waits can still be taken.
    pub(crate) fn close(&self) {
        self.state().open = false;
        self.arrived.notify_waiters();
        self.taken.notify_waiters();
    }

    pub(crate) fn is_closed(&self) -> bool {
        !self.state().open
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The end of a conversation gets through a full inbox, a few times and if it is small.
    fn has_room(&self, limits: &InboxLimits, topic: &Topic, cost: usize) -> bool {
        if topic.is_last() && cost <= SMALL {
            return self.waiting.len() < limits.messages + LAST;
        }
        let fits = self.bytes.saturating_add(cost) <= limits.bytes || self.waiting.is_empty();
        fits && self.waiting.len() < limits.messages
    }
}

/// Resends come within seconds; this many messages cover them at the highest rates.
const REMEMBERED: usize = 4096;
/// Room beyond the limit for END and ABORT.
const LAST: usize = 16;
/// What END and ABORT may bring into that room, in bytes.
const SMALL: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str) -> PipeMessage {
        PipeMessage::new_request("train".parse().unwrap(), "abc").with_id(id)
    }

    fn inbox(messages: usize, bytes: usize) -> Inbox {
        Inbox::new(InboxLimits { messages, bytes })
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_message_is_not_remembered() {
        let inbox = inbox(1, 1 << 20);
        assert_eq!(inbox.offer(message("a")), Offer::Taken);
        assert_eq!(inbox.offer(message("b")), Offer::Full);
        assert_eq!(inbox.take(None).await.unwrap().msg_id, "a");
        assert_eq!(inbox.offer(message("b")), Offer::Taken);
        assert_eq!(inbox.offer(message("b")), Offer::Duplicate);
        assert_eq!(inbox.offer(message("a")), Offer::Duplicate);
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_last_messages_are_remembered() {
        let inbox = inbox(REMEMBERED + 2, usize::MAX);
        for id in 0..=REMEMBERED {
            assert_eq!(inbox.offer(message(&id.to_string())), Offer::Taken);
        }
        assert_eq!(inbox.offer(message("1")), Offer::Duplicate);
        assert_eq!(inbox.offer(message("0")), Offer::Taken);
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_message_fits_if_none_waits() {
        let inbox = inbox(8, 10);
        assert_eq!(inbox.offer(message("a")), Offer::Taken);
        assert_eq!(inbox.offer(message("b")), Offer::Full);
        inbox.clear();
        assert_eq!(inbox.offer(message("b")), Offer::Taken);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_gets_through_a_full_inbox_but_not_forever() {
        let inbox = inbox(1, 10);
        assert_eq!(inbox.offer(message("a")), Offer::Taken);
        let last = || inbox.offer(PipeMessage::end("done".into()));
        assert_eq!((0..LAST).filter(|_| last() == Offer::Taken).count(), LAST);
        assert_eq!(last(), Offer::Full);
        inbox.clear();
        assert_eq!(inbox.offer(message("b")), Offer::Taken);
        assert_eq!(inbox.offer(PipeMessage::end(vec![0; SMALL].into())), Offer::Full);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_reader_is_woken_by_a_message_a_deadline_and_the_end() {
        let inbox = inbox(8, 1 << 20);
        let (taken, _) = tokio::join!(inbox.take(None), async { inbox.offer(message("a")) });
        assert_eq!(taken.unwrap().msg_id, "a");
        let began = Instant::now();
        assert_eq!(inbox.take(Some(Duration::from_secs(3))).await, None);
        assert_eq!(began.elapsed(), Duration::from_secs(3));
        inbox.offer(message("b"));
        let ((), first, second) = tokio::join!(async { inbox.close() }, inbox.take(None), inbox.take(None));
        assert_eq!((first.is_some(), second), (true, None));
        assert_eq!(inbox.offer(message("c")), Offer::Closed);
    }
}
