//! The task of a handler.

use std::{
    future::pending,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use tokio::{
    task::consume_budget,
    time::{Instant, sleep_until},
};

use super::{HandlerConfig, PipeEvent, Shared, Told};
use crate::{Pipe, PipeError, PipeMessage, Topic};

/// Sends heartbeats, brings what arrives to the application, and notices that the peer is gone.
pub(super) struct Reader {
    pipe: Arc<dyn Pipe>,
    config: HandlerConfig,
    told: Told,
    shared: Arc<Shared>,
    /// When a message was last read, or the clock started.
    heard: Instant,
    next_heartbeat: Instant,
    /// The heartbeat that is on its way to the next hop.
    heartbeat: Option<Heartbeat>,
    /// Until END, ABORT or the loss of the peer. Heartbeats go on, because the peer may still be at work.
    reading: bool,
}

type Heartbeat = Pin<Box<dyn Future<Output = Result<(), PipeError>> + Send>>;

impl Reader {
    pub(super) fn new(pipe: Arc<dyn Pipe>, config: HandlerConfig, told: Told, shared: Arc<Shared>) -> Self {
        let now = Instant::now();
        Self { pipe, config, told, shared, heard: now, next_heartbeat: now, heartbeat: None, reading: true }
    }

    pub(super) async fn run(mut self) {
        let shared = self.shared.clone();
        // However this ends, nobody must wait for events any more.
        let _end = End(&shared);
        let mut paused = shared.paused.subscribe();
        loop {
            let active = !*paused.borrow_and_update();
            let reading = self.reading && active;
            let silence = self.silent_until().filter(|_| reading);
            tokio::select! {
                biased;
                () = shared.stop.cancelled() => return,
                Ok(()) = paused.changed() => self.restart_clock(),
                () = shared.broken.notified(), if self.reading => self.lose_peer("the pipe is broken"),
                // Before what arrives, of which there may always be more.
                sent = progress(&mut self.heartbeat), if self.heartbeat.is_some() => self.heartbeat_sent(sent),
                () = sleep_until(self.next_heartbeat), if active && self.heartbeat.is_none() => self.send_heartbeat(),
                received = next_message(&self.pipe, &shared), if reading => self.read(received),
                () = until(silence), if silence.is_some() => self.check_silence(),
            }
            // A callback makes room at once, so nothing else here may ever wait.
            consume_budget().await;
        }
    }

    fn restart_clock(&mut self) {
        self.heard = Instant::now();
        self.next_heartbeat = self.heard;
    }

    /// When the peer is gone if nothing more comes from it.
    fn silent_until(&self) -> Option<Instant> {
        let heard = self.pipe.last_peer_active().map_or(self.heard, |active| active.max(self.heard));
        heard.checked_add(self.config.heartbeat_timeout?)
    }

    /// The silence may have been broken meanwhile.
    fn check_silence(&mut self) {
        if let (Some(until), Some(timeout)) = (self.silent_until(), self.config.heartbeat_timeout)
            && until <= Instant::now()
        {
            self.lose_peer(&format!("missing heartbeat after {} secs", secs(timeout)));
        }
    }

    fn read(&mut self, received: Result<Option<PipeMessage>, PipeError>) {
        self.heard = Instant::now();
        match received {
            Ok(Some(message)) if message.topic.is_last() => self.finish(message),
            Ok(Some(message)) => match &self.told.message {
                Some(told) => {
                    if !survives(|| told(message)) {
                        self.lose_peer(PANICKED);
                    }
                }
                None => self.shared.queue.put(message),
            },
            Ok(None) => {}
            Err(error) => self.lose_peer(&format!("the pipe is broken: {error}")),
        }
    }

    fn lose_peer(&mut self, why: &str) {
        tracing::info!(why, "the peer of a pipe is gone");
        self.finish(PipeMessage::new_request(Topic::PEER_GONE, why.to_owned()));
    }

    /// Tells the last event.
    fn finish(&mut self, last: PipeMessage) {
        self.reading = false;
        match &self.told.status {
            Some(told) => {
                if !survives(|| told(PipeEvent::from(last))) {
                    tracing::error!("{PANICKED}");
                }
            }
            None => self.shared.queue.put(last),
        }
        self.shared.queue.close();
    }

    fn send_heartbeat(&mut self) {
        self.next_heartbeat = Instant::now() + self.config.heartbeat_interval;
        let (pipe, timeout) = (self.pipe.clone(), self.config.heartbeat_interval);
        self.heartbeat =
            Some(Box::pin(
                async move { pipe.send(&PipeMessage::heartbeat(), Some(timeout)).await.map(drop) },
            ));
    }

    fn heartbeat_sent(&mut self, sent: Result<(), PipeError>) {
        self.heartbeat = None;
        if let Err(error) = sent
            && self.reading
        {
            self.lose_peer(&format!("the pipe is broken: {error}"));
        }
    }
}

/// Whether a callback of the application returns.
fn survives(callback: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(callback)).is_ok()
}

/// What the application is told if its callback for messages panics; no message is taken after that.
const PANICKED: &str = "the application's callback panicked";

/// Closes the queue.
struct End<'a>(&'a Shared);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.queue.close();
    }
}

/// The next message, once the application has room for it. Until then it stays in the pipe, where a full one makes its
/// sender wait. Cancel safe.
async fn next_message(pipe: &Arc<dyn Pipe>, shared: &Shared) -> Result<Option<PipeMessage>, PipeError> {
    shared.queue.room().await;
    pipe.receive(None).await
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}

async fn progress(heartbeat: &mut Option<Heartbeat>) -> Result<(), PipeError> {
    match heartbeat {
        Some(heartbeat) => heartbeat.as_mut().await,
        None => pending().await,
    }
}

/// Seconds as the reference writes them: `30`, `2.5`.
fn secs(duration: Duration) -> f64 {
    duration.as_secs_f64()
}
