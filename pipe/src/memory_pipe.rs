//! A pipe within a process.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use cellnet_core::message::ReturnCode;
use tokio::time::Instant;

use crate::{
    Delivery, InboxLimits, OpenError, Pipe, PipeError, PipeExport, PipeMessage, Side, Topic,
    activity::Activity,
    inbox::{Inbox, Offer},
};

/// One of two ends that behave like a [`CellPipe`](crate::CellPipe) without any cells, for tests. Made in pairs; once
/// closed it stays closed.
#[derive(Debug)]
pub struct MemoryPipe {
    own: Arc<End>,
    peer: Arc<End>,
}

/// What one side receives.
#[derive(Debug)]
struct End {
    open: AtomicBool,
    inbox: Inbox,
    /// When the other side last sent.
    heard: Activity,
}

impl MemoryPipe {
    /// The two ends of a new pipe.
    pub fn pair() -> (Self, Self) {
        Self::pair_with(InboxLimits::default())
    }

    /// The two ends of a new pipe, each of which keeps so much.
    pub fn pair_with(limits: InboxLimits) -> (Self, Self) {
        let end = || {
            Arc::new(End { open: AtomicBool::new(false), inbox: Inbox::new(limits), heard: Activity::new() })
        };
        let (left, right) = (end(), end());
        (Self { own: left.clone(), peer: right.clone() }, Self { own: right, peer: left })
    }

    /// Puts a message into the peer's inbox, if it has room.
    pub(crate) fn offer(&self, message: &PipeMessage) -> Offer {
        let offer = self.peer.inbox.offer(message.clone());
        // The answer is a sign of life, too.
        self.own.heard.mark();
        offer
    }
}

#[async_trait]
impl Pipe for MemoryPipe {
    async fn open(&self, _name: &str) -> Result<(), OpenError> {
        if self.own.open.swap(true, Relaxed) { Err(OpenError::Already) } else { Ok(()) }
    }

    async fn send(&self, message: &PipeMessage, _timeout: Option<Duration>) -> Result<Delivery, PipeError> {
        if !self.own.open.load(Relaxed) {
            return Err(PipeError::NotOpen);
        }
        let refused = |code, text: &str| Ok(Delivery::Refused { code, text: text.into() });
        if !self.peer.open.load(Relaxed) {
            return refused(ReturnCode::TARGET_UNREACHABLE, "the peer is not open");
        }
        if message.topic == Topic::PEER_GONE {
            return refused(ReturnCode::INVALID_REQUEST, "'_PEER_GONE_' is never sent");
        }
        self.peer.heard.mark();
        if message.topic == Topic::HEARTBEAT {
            return Ok(Delivery::Taken);
        }
        match self.offer(message) {
            Offer::Taken | Offer::Duplicate => Ok(Delivery::Taken),
            Offer::Full => refused(ReturnCode::SERVICE_UNAVAILABLE, "too many messages wait in the pipe"),
            Offer::Closed => refused(ReturnCode::SERVICE_UNAVAILABLE, "the pipe is closed"),
        }
    }

    async fn receive(&self, timeout: Option<Duration>) -> Result<Option<PipeMessage>, PipeError> {
        if !self.own.open.load(Relaxed) && !self.own.inbox.is_closed() {
            return Err(PipeError::NotOpen);
        }
        self.own.inbox.receive(timeout).await
    }

    fn clear(&self) {
        self.own.inbox.clear();
    }

    async fn close(&self) {
        self.own.open.store(false, Relaxed);
        self.own.inbox.close();
    }

    fn last_peer_active(&self) -> Option<Instant> {
        self.own.heard.last()
    }

    fn export(&self, _side: Side) -> Option<PipeExport> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str) -> PipeMessage {
        PipeMessage::new_request("train".parse().unwrap(), "abc").with_id(id)
    }

    #[tokio::test(start_paused = true)]
    async fn a_resent_message_is_taken_and_delivered_once() {
        let (left, right) = MemoryPipe::pair();
        left.open("task").await.unwrap();
        assert!(!left.send(&message("a"), None).await.unwrap().is_taken());
        right.open("task").await.unwrap();
        assert!(left.send(&message("a"), None).await.unwrap().is_taken());
        assert!(left.send(&message("a"), None).await.unwrap().is_taken());
        assert_eq!(right.receive(None).await.unwrap().unwrap().msg_id, "a");
        assert_eq!(right.receive(Some(Duration::from_secs(1))).await.unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn heartbeats_are_signs_of_life_and_not_delivered() {
        let (left, right) = MemoryPipe::pair();
        left.open("task").await.unwrap();
        right.open("task").await.unwrap();
        assert_eq!(right.last_peer_active(), None);
        assert!(left.send(&PipeMessage::heartbeat(), None).await.unwrap().is_taken());
        assert_eq!(right.last_peer_active(), Some(Instant::now()));
        assert_eq!(right.receive(Some(Duration::ZERO)).await.unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn closing_ends_a_waiting_reader() {
        let (left, _right) = MemoryPipe::pair();
        left.open("task").await.unwrap();
        let (received, ()) = tokio::join!(left.receive(None), left.close());
        assert!(matches!(received, Err(PipeError::NotOpen)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_arrived_before_the_close_is_received_after_it() {
        let (left, right) = MemoryPipe::pair();
        left.open("task").await.unwrap();
        right.open("task").await.unwrap();
        left.send(&message("a"), None).await.unwrap();
        right.close().await;
        assert_eq!(right.receive(None).await.unwrap().unwrap().msg_id, "a");
        assert_eq!(right.receive(None).await, Err(PipeError::NotOpen));
    }
}
