//! The sending end of one stream: carries what [`SendState`] decides to the outbox of a link.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    ChunkHeader, Input, Next, SendChunk, SendError, SendState, StreamConfig, StreamError, headers,
    progress::Watch,
};
use crate::{
    cell::{Inner, RequestError},
    fqcn::Fqcn,
    link::{Link, PushError, Refused},
    wire::{Headers, keys::sm},
};

/// What the sender of a stream and the readers of links share.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) target: Fqcn,
    pub(super) link: Arc<Link>,
    watch: Option<Arc<Watch>>,
    state: Mutex<Shared>,
}

#[derive(Debug)]
struct Shared {
    send: SendState,
    /// What ended it besides the rules of streams.
    lost: Option<RequestError>,
    waker: Option<Waker>,
}

impl Sending {
    /// The receiver has used so many bytes.
    pub(super) fn on_ack(&self, offset: u64) {
        let mut shared = self.shared();
        let moved = shared.send.on_ack(offset, Instant::now());
        let waker = shared.waker.take();
        drop(shared);
        if let (Ok(true), Some(watch)) = (moved, &self.watch) {
            watch.touch();
        }
        wake(waker);
    }

    /// The receiver or a relay reports an error.
    pub(super) fn on_error(&self, text: &str) -> SendError {
        let mut shared = self.shared();
        let error = shared.send.on_error(text);
        let waker = shared.waker.take();
        drop(shared);
        wake(waker);
        error
    }

    /// Nothing carries the stream any more.
    pub(super) fn lose(&self, error: &RequestError) {
        let mut shared = self.shared();
        shared.lost.get_or_insert_with(|| error.clone());
        let waker = shared.waker.take();
        drop(shared);
        wake(waker);
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The sending end of one stream. Dropped before the end it tells the receiver.
pub(super) struct Outlet {
    inner: Arc<Inner>,
    id: u64,
    sending: Arc<Sending>,
    /// The headers of the next chunk but for its place.
    headers: Headers,
    pushing: Option<BoxFuture<'static, Result<(), PushError>>>,
    timer: Option<Pin<Box<Sleep>>>,
    begun: bool,
    over: bool,
    /// What the receiver is told if this is dropped.
    reason: Option<String>,
}

impl Outlet {
    /// Begins a stream with sealed headers. All its chunks take this link.
    pub(super) fn new(
        inner: &Arc<Inner>,
        link: &Arc<Link>,
        (id, target): (u64, &Fqcn),
        headers: Headers,
        (config, total): (&StreamConfig, Option<u64>),
        watch: Option<Arc<Watch>>,
    ) -> Self {
        let send = SendState::new(config, total);
        let state = Mutex::new(Shared { send, lost: None, waker: None });
        let sending = Arc::new(Sending { target: target.clone(), link: link.clone(), watch, state });
        inner.streams.begin_sending(id, &sending);
        Self {
            inner: inner.clone(),
            id,
            sending,
            headers,
            pushing: None,
            timer: None,
            begun: false,
            over: false,
            reason: None,
        }
    }

    /// Sends all of a body, chunk by chunk.
    pub(super) async fn send_all(&mut self, mut body: Bytes) -> Result<(), StreamError> {
        loop {
            let next = std::future::poll_fn(|cx| self.poll_next(cx, body.len(), Input::End)).await?;
            match next {
                Some(chunk) => self.push(chunk, body.split_to(chunk.len))?,
                None => return Ok(()),
            }
        }
    }

    /// What to send next, once it may go and all before it is in the outbox. None if there is nothing (more) to send
    /// with this input.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        ready: usize,
        input: Input,
    ) -> Poll<Result<Option<SendChunk>, StreamError>> {
        let polled = self.poll_step(cx, ready, input);
        if let Poll::Ready(Err(error)) = &polled {
            self.end(error);
        }
        polled
    }

    fn poll_step(
        &mut self,
        cx: &mut Context<'_>,
        ready: usize,
        input: Input,
    ) -> Poll<Result<Option<SendChunk>, StreamError>> {
        loop {
            let mut shared = self.sending.shared();
            shared.waker = Some(cx.waker().clone());
            if let Some(lost) = &shared.lost {
                return Poll::Ready(Err(lost.clone().into()));
            }
            if let Some(failure) = shared.send.failure() {
                return Poll::Ready(Err(failure.clone().into()));
            }
            if self.pushing.is_some() {
                drop(shared);
                ready!(self.poll_pushing(cx))?;
                continue;
            }
            let now = Instant::now();
            match shared.send.next(ready, input, now)? {
                Next::Chunk(chunk) => return Poll::Ready(Ok(Some(chunk))),
                Next::Data => return Poll::Ready(Ok(None)),
                Next::Done => {
                    self.over = true;
                    return Poll::Ready(Ok(None));
                }
                Next::Ack => {
                    let deadline = shared.send.deadline();
                    drop(shared);
                    ready!(self.poll_deadline(cx, deadline));
                    self.sending.shared().send.expire(Instant::now())?;
                }
            }
        }
    }

    /// Puts a chunk into the outbox, or begins to wait for room.
    pub(super) fn push(&mut self, chunk: SendChunk, body: Bytes) -> Result<(), StreamError> {
        let pushed = self.try_push(chunk, body);
        if let Err(error) = &pushed {
            self.end(error);
        }
        pushed
    }

    fn try_push(&mut self, chunk: SendChunk, body: Bytes) -> Result<(), StreamError> {
        let mut headers = match chunk.last {
            true => std::mem::take(&mut self.headers),
            false => self.headers.clone(),
        };
        headers::place(&mut headers, &chunk);
        let link = &self.sending.link;
        let message = self.inner.outgoing(link, headers, body)?;
        self.begun = true;
        match link.outbox.try_push(message) {
            Ok(()) => self.pushed(),
            Err(Refused::Closed(_)) => return Err(self.inner.link_lost(link).into()),
            Err(Refused::Full(message)) => {
                let (link, patience) = (link.clone(), self.inner.config.link.patience);
                self.pushing = Some(Box::pin(async move { link.outbox.push(message, patience).await }));
            }
        }
        Ok(())
    }

    fn poll_pushing(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        let Some(pushing) = &mut self.pushing else { return Poll::Ready(Ok(())) };
        let pushed = ready!(pushing.as_mut().poll(cx));
        self.pushing = None;
        let link = &self.sending.link;
        Poll::Ready(match pushed {
            Ok(()) => {
                self.pushed();
                Ok(())
            }
            Err(PushError::Closed) => Err(self.inner.link_lost(link).into()),
            Err(PushError::Full) => {
                let (hop, patience) = (link.peer.clone(), self.inner.config.link.patience);
                Err(RequestError::NoRoom { hop, patience }.into())
            }
        })
    }

    fn pushed(&self) {
        if let Some(watch) = &self.sending.watch {
            let sent = self.sending.shared().send.sent();
            watch.sent(sent);
        }
    }

    /// Waits until the moment; forever if there is none.
    fn poll_deadline(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()> {
        let Some(deadline) = deadline else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx)
    }

    /// Bytes sent, and in all if that is known.
    pub(super) fn sent(&self) -> (u64, Option<u64>) {
        let shared = self.sending.shared();
        (shared.send.sent(), shared.send.total())
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Ends the stream with a reason that the receiver is told.
    pub(super) fn abort(&mut self, reason: impl Into<String>) {
        self.reason.get_or_insert_with(|| reason.into());
        self.close();
    }

    fn end(&mut self, error: &StreamError) {
        match error {
            // The receiver knows.
            StreamError::Send(SendError::Peer(_)) => self.over = true,
            error => self.reason = Some(error.told()),
        }
        self.close();
    }

    fn close(&mut self) {
        self.pushing = None;
        self.inner.streams.end_sending(self.id);
        if std::mem::replace(&mut self.over, true) || !self.begun {
            return;
        }
        let reason = self.reason.take().unwrap_or_else(|| "sender gave up".into());
        let header = ChunkHeader::failure(self.id, self.sending.shared().send.sent(), reason);
        let own = std::mem::take(&mut self.headers);
        let Sending { link, target, .. } = &*self.sending;
        headers::tell(&self.inner, link, target, sm::DATA_TOPIC, &header, own);
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for Outlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outlet").field("id", &self.id).field("sending", &self.sending).finish_non_exhaustive()
    }
}
