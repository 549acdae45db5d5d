//! Watches over a pipe: heartbeats, resends, and the news that the peer is done, gives up or is gone.

mod config;
mod reader;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use cellnet_core::message::Payload;
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

pub use self::config::{HandlerConfig, HandlerConfigError};
use self::reader::Reader;
use crate::{Delivery, Pipe, PipeError, PipeMessage, Topic, inbox::Inbox};

/// Watches over one side of a pipe, from [`start`](Self::start) to [`stop`](Self::stop). It has one task.
///
/// ```
/// # use std::sync::Arc;
/// # use cellnet_pipe::{HandlerConfig, MemoryPipe, Pipe, PipeEvent, PipeHandler, PipeMessage};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (left, right) = MemoryPipe::pair();
/// # left.open("task").await?;
/// # right.open("task").await?;
/// let job = PipeHandler::new(Arc::new(left), HandlerConfig::default())?;
/// let trainer = PipeHandler::new(Arc::new(right), HandlerConfig::default())?;
/// job.start();
/// trainer.start();
/// job.send_to_peer(&PipeMessage::new_request("train".parse()?, "weights"), None, None).await?;
/// let Some(PipeEvent::Message(ask)) = trainer.next().await else { panic!("a message was sent") };
/// assert_eq!(ask.topic.as_str(), "train");
/// job.stop().await;
/// trainer.stop().await;
/// # Ok(()) }
/// ```
pub struct PipeHandler {
    pipe: Arc<dyn Pipe>,
    config: HandlerConfig,
    told: Told,
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// What reaches the application from a pipe.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum PipeEvent {
    /// The peer sent this.
    Message(PipeMessage),
    /// The peer is done. Nothing comes after this.
    End(PipeMessage),
    /// The peer gave up. Nothing comes after this.
    Abort(PipeMessage),
    /// The peer was silent for too long, the pipe broke, or the application's callback panicked, in words. Nothing comes after this.
    PeerGone(String),
}

/// Why a handler ended a send.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The pipe does not send.
    #[error(transparent)]
    Pipe(#[from] PipeError),
    /// The caller gave the signal.
    #[error("aborted")]
    Aborted,
    /// The handler was stopped.
    #[error("the handler of the pipe was stopped")]
    Stopped,
}

/// Callbacks of the application.
#[derive(Clone, Default)]
struct Told {
    message: Option<Arc<dyn Fn(PipeMessage) + Send + Sync>>,
    status: Option<Arc<dyn Fn(PipeEvent) + Send + Sync>>,
}

/// What a handler and its task have in common.
#[derive(Debug)]
struct Shared {
    /// What waits for the application.
    queue: Inbox,
    paused: watch::Sender<bool>,
    /// A send found the pipe broken.
    broken: Notify,
    stop: CancellationToken,
}

impl PipeHandler {
    /// A handler of an open pipe, which nobody else should receive from.
    ///
    /// # Errors
    ///
    /// If the configuration makes no sense.
    pub fn new(pipe: Arc<dyn Pipe>, config: HandlerConfig) -> Result<Self, HandlerConfigError> {
        config.check()?;
        let shared = Shared {
            queue: Inbox::new(config.queue),
            paused: watch::Sender::new(false),
            broken: Notify::new(),
            stop: CancellationToken::new(),
        };
        let (told, shared) = (Told::default(), Arc::new(shared));
        Ok(Self { pipe, config, told, shared, task: Mutex::new(None) })
    }

    /// Calls `told` with each message, which then does not come through [`next`](Self::next). It must not block; if it panics, that is told as [`PipeEvent::PeerGone`] and no message is
    /// taken any more.
    #[must_use]
    pub fn on_message(mut self, told: impl Fn(PipeMessage) + Send + Sync + 'static) -> Self {
        self.told.message = Some(Arc::new(told));
        self
    }

    /// Calls `told` with END, ABORT and the news that the peer is gone, which then do not come through
    /// [`next`](Self::next). It must not block. Messages that came before and were not taken by `next` yet can be taken
    /// after that.
    #[must_use]
    pub fn on_status(mut self, told: impl Fn(PipeEvent) + Send + Sync + 'static) -> Self {
        self.told.status = Some(Arc::new(told));
        self
    }

    /// Starts to send heartbeats and to read, and the clock of the peer's silence. A second call does nothing.
    pub fn start(&self) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if task.is_none() && !self.shared.stop.is_cancelled() {
            let reader =
                Reader::new(self.pipe.clone(), self.config.clone(), self.told.clone(), self.shared.clone());
            *task = Some(tokio::spawn(reader.run()));
        }
    }

    /// Ends heartbeats, reading and sends that are under way. The peer is not told, and the pipe stays open. A dropped
    /// future leaves the task to end by itself. Of calls at the same time, only one waits for the end of the task.
    pub async fn stop(&self) {
        self.shared.stop.cancel();
        self.shared.queue.close();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Err(error)) = match task {
            Some(task) => Some(task.await),
            None => None,
        } {
            tracing::error!(%error, "the task of a pipe handler broke");
        }
    }

    /// The pipe.
    pub fn pipe(&self) -> &Arc<dyn Pipe> {
        &self.pipe
    }

    /// What comes next; `None` after the last event or [`stop`](Self::stop). Cancel safe.
    pub async fn next(&self) -> Option<PipeEvent> {
        self.shared.queue.take(None).await.map(PipeEvent::from)
    }

    /// Sends a message to the peer.
    ///
    /// With a `timeout` for each try, it is sent again as configured until the peer takes it. Without, it is tried once,
    /// for [`HandlerConfig::default_request_timeout`]. `abort` ends it at once. A dropped future gives up.
    ///
    /// # Errors
    ///
    /// If the pipe is not open, the handler is stopped, or `abort` was cancelled. The peer may have the message.
    pub async fn send_to_peer(
        &self,
        message: &PipeMessage,
        timeout: Option<Duration>,
        abort: Option<&CancellationToken>,
    ) -> Result<Delivery, SendError> {
        let _kept = Kept { pipe: &*self.pipe, message };
        let aborted = async {
            match abort {
                Some(abort) => abort.cancelled().await,
                None => std::future::pending().await,
            }
        };
        let outcome = tokio::select! {
            biased;
            () = aborted => Err(SendError::Aborted),
            () = self.shared.stop.cancelled() => Err(SendError::Stopped),
            outcome = self.send_until_taken(message, timeout) => outcome.map_err(SendError::from),
        };
        if matches!(outcome, Err(SendError::Pipe(_))) {
            self.shared.broken.notify_one();
        }
        outcome
    }

    async fn send_until_taken(
        &self,
        message: &PipeMessage,
        timeout: Option<Duration>,
    ) -> Result<Delivery, PipeError> {
        let may_resend = timeout.is_some() && self.pipe.can_resend();
        let pause = self.config.resend_interval.filter(|_| may_resend);
        let timeout = timeout.unwrap_or(self.config.default_request_timeout);
        let mut resends = 0;
        loop {
            let outcome = self.pipe.send(message, Some(timeout)).await?;
            let Some(pause) = pause.filter(|_| !outcome.is_taken()) else { return Ok(outcome) };
            if self.config.max_resends.is_some_and(|max| resends >= max) {
                tracing::warn!(topic = %message.topic, id = message.msg_id, resends, %outcome, "message given up");
                return Ok(outcome);
            }
            resends += 1;
            tracing::debug!(topic = %message.topic, id = message.msg_id, resends, %outcome, "message is sent again");
            sleep(pause).await;
        }
    }

    /// Tells the peer that this side is done, and does not care whether it hears.
    pub async fn notify_end(&self, data: Payload) {
        self.notify(PipeMessage::end(data)).await;
    }

    /// Tells the peer that this side gives up, and does not care whether it hears.
    pub async fn notify_abort(&self, data: Payload) {
        self.notify(PipeMessage::abort(data)).await;
    }

    async fn notify(&self, message: PipeMessage) {
        match self.pipe.send(&message, Some(NOTIFY)).await {
            Ok(Delivery::Taken) => {}
            Ok(outcome) => tracing::debug!(topic = %message.topic, %outcome, "the peer may not know"),
            Err(error) => tracing::debug!(topic = %message.topic, %error, "the peer was not told"),
        }
    }

    /// Stops reading, sending heartbeats and watching the peer's silence, until [`resume`](Self::resume). What was read
    /// before can still be taken; END and ABORT wait in the pipe like messages. A pipe that is found broken is told.
    pub fn pause(&self) {
        self.shared.paused.send_replace(true);
    }

    /// Goes on after [`pause`](Self::pause); the clock of the peer's silence starts anew.
    pub fn resume(&self) {
        self.shared.paused.send_replace(false);
    }
}

impl Drop for PipeHandler {
    fn drop(&mut self) {
        self.shared.stop.cancel();
        self.shared.queue.close();
    }
}

impl fmt::Debug for PipeHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeHandler")
            .field("pipe", &self.pipe)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl From<PipeMessage> for PipeEvent {
    fn from(message: PipeMessage) -> Self {
        match &message.topic {
            topic if *topic == Topic::END => Self::End(message),
            topic if *topic == Topic::ABORT => Self::Abort(message),
            topic if *topic == Topic::PEER_GONE => {
                Self::PeerGone(String::from_utf8_lossy(message.data.as_bytes()).into_owned())
            }
            _ => Self::Message(message),
        }
    }
}

/// Lets go of what a pipe keeps for resends, even if the sender is dropped.
struct Kept<'a> {
    pipe: &'a dyn Pipe,
    message: &'a PipeMessage,
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.pipe.release_send_cache(self.message);
    }
}

/// Enough for a peer that is there, and nothing to wait for otherwise. The reference's.
const NOTIFY: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
