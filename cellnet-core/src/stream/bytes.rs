//! Byte streams: what an application writes while another one reads it.

use std::{
    fmt, io,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use bytestring::ByteString;
use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    ChunkHeader, Input, Progress, StreamError, blob::config_towards, headers::Envelope, incoming::Incoming,
    outlet::Outlet, params::clipped,
};
use crate::{
    cell::{
        Cell, Handler, HandlerError, Inner, Job, MESSAGE_COST, Passing, RequestError, Stage, StreamHandler,
    },
    fqcn::Fqcn,
    link::Link,
    message::MessageKind,
    wire::{Headers, keys::cn},
};

impl Cell {
    /// Opens a byte stream to another cell, where a [`handle_stream`](Self::handle_stream) for the channel and topic
    /// reads it while it comes. `size` is its length if that is known. `headers` go with it.
    ///
    /// Nothing is sent yet, so a stream that nobody takes fails at a later write. Channels that never stream are
    /// refused by the receiver; a cell cannot stream to itself.
    pub fn open_stream(
        &self,
        target: &Fqcn,
        channel: impl Into<ByteString>,
        topic: impl Into<ByteString>,
        headers: Headers,
        size: Option<u64>,
    ) -> Result<OutgoingStream, RequestError> {
        let inner = self.inner();
        let (channel, topic) = (channel.into(), topic.into());
        if inner.links.stop.is_cancelled() {
            return Err(RequestError::ShuttingDown);
        }
        let mut own = headers;
        own.set(cn::CHANNEL, channel.clone());
        own.set(cn::TOPIC, topic.clone());
        own.set(cn::DESTINATION, target);
        let mut passing = Passing { headers: &mut own, kind: Some(MessageKind::Request), from: None };
        inner
            .filters
            .pass(Stage::OutgoingRequest, &channel, &topic, &mut passing)
            .map_err(|instead| RequestError::Filtered(instead.error().unwrap_or_default().to_owned()))?;
        let link = inner.next_hop(target).ok_or_else(|| RequestError::Unreachable(target.clone()))?;
        let config = config_towards(inner, &link);
        let id = inner.streams.next_id();
        let envelope = Envelope {
            id,
            target,
            channel,
            topic,
            request_id: None,
            encoding: None,
            size: size.unwrap_or(0),
            optional: own.flag(cn::OPTIONAL),
        };
        let headers = envelope.seal(inner, Some(&link), own);
        let outlet = Outlet::new(inner, &link, (id, target), headers, (&config, size), None);
        Ok(OutgoingStream { outlet, partial: BytesMut::new(), rest: Bytes::new(), chunk: config.chunk_size })
    }

    /// Reads byte streams on a channel and a topic; [`ANY`](crate::cell::ANY) stands for all. Replaces what was
    /// registered there.
    ///
    /// An `Err` of the handler, or dropping the stream before its end, ends the stream for its sender too. Blobs on
    /// this channel and topic are read as streams as well; nobody answers them.
    pub fn handle_stream<F, Fut>(&self, channel: &str, topic: &str, handler: F)
    where
        F: Fn(IncomingStream) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        self.inner().register(channel, topic, Handler::stream(handler));
    }
}

/// A byte stream to another cell. Dropped before [`finish`](Self::finish) it ends in an error for the receiver.
///
/// It is also a [`tokio::io::AsyncWrite`], whose `shutdown` is `finish`. At most one chunk is kept here until it is
/// full or flushed.
pub struct OutgoingStream {
    outlet: Outlet,
    /// Copied, waits for the rest of a chunk.
    partial: BytesMut,
    /// Of the application, shared.
    rest: Bytes,
    chunk: usize,
}

impl OutgoingStream {
    /// Sends data, as soon as the receiver has room. Large data is not copied. If the future is dropped, the data
    /// counts as written and goes out with the next call.
    pub async fn write(&mut self, data: impl Into<Bytes>) -> Result<(), StreamError> {
        if self.outlet.is_over() {
            return Err(StreamError::Finished);
        }
        if !self.rest.is_empty() {
            self.pump(Input::More).await?;
        }
        self.rest = data.into();
        self.pump(Input::More).await
    }

    /// Sends what waits for a full chunk. Cancel safe.
    pub async fn flush(&mut self) -> Result<(), StreamError> {
        self.pump(Input::Flush).await
    }

    /// Ends the stream. `Ok` means that all of it is in the queue of the next hop; the protocol has no receipt for the
    /// end of a stream. A dropped future ends it with an error.
    pub async fn finish(mut self) -> Result<(), StreamError> {
        self.pump(Input::End).await
    }

    /// Ends the stream with an error that the receiver is told.
    pub fn abort(mut self, reason: &str) {
        self.outlet.abort(&*clipped(reason));
    }

    /// Bytes sent so far, and in all if that is known.
    pub fn progress(&self) -> Progress {
        let (sent, total) = self.outlet.sent();
        Progress { sent, to_send: total.unwrap_or(0), ..Progress::default() }
    }

    async fn pump(&mut self, input: Input) -> Result<(), StreamError> {
        std::future::poll_fn(|cx| self.poll_pump(cx, input)).await
    }

    /// Sends what can be sent; what is left is less than a chunk.
    fn poll_pump(&mut self, cx: &mut Context<'_>, input: Input) -> Poll<Result<(), StreamError>> {
        loop {
            let waiting = self.partial.len() + self.rest.len();
            match ready!(self.outlet.poll_next(cx, waiting, input))? {
                Some(chunk) => {
                    let body = self.take(chunk.len);
                    self.outlet.push(chunk, body)?;
                }
                None => {
                    let rest = std::mem::take(&mut self.rest);
                    self.partial.extend_from_slice(&rest);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    fn take(&mut self, len: usize) -> Bytes {
        if self.partial.is_empty() {
            return self.rest.split_to(len);
        }
        if let Some(more) = len.checked_sub(self.partial.len()) {
            let more = self.rest.split_to(more);
            self.partial.extend_from_slice(&more);
        }
        self.partial.split_to(len).freeze()
    }
}

impl AsyncWrite for OutgoingStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let stream = self.get_mut();
        if stream.outlet.is_over() {
            return Poll::Ready(Err(StreamError::Finished.into()));
        }
        if stream.partial.len() + stream.rest.len() > stream.chunk {
            ready!(stream.poll_pump(cx, Input::More))?;
        }
        // One byte more than a chunk shows that the chunk is not the last.
        let room = (stream.chunk + 1).saturating_sub(stream.partial.len());
        let taken = data.len().min(room);
        stream.partial.extend_from_slice(&data[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_pump(cx, Input::Flush).map_err(Into::into)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_pump(cx, Input::End).map_err(Into::into)
    }
}

impl fmt::Debug for OutgoingStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutgoingStream").field("progress", &self.progress()).finish_non_exhaustive()
    }
}

/// A byte stream that arrives. Dropped before its end it ends in an error for the sender.
///
/// It is also a [`tokio::io::AsyncRead`]. What is not read stays with the sender, but for the receive window.
pub struct IncomingStream {
    inner: Arc<Inner>,
    incoming: Arc<Incoming>,
    headers: Headers,
    origin: Fqcn,
    channel: ByteString,
    topic: ByteString,
    size: Option<u64>,
    /// Taken out and not used yet.
    current: Bytes,
    used: u64,
}

impl IncomingStream {
    /// The headers of its first chunk.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// Who sends it, as its messages say.
    pub fn origin(&self) -> &Fqcn {
        &self.origin
    }

    /// The channel it came on.
    pub fn channel(&self) -> &ByteString {
        &self.channel
    }

    /// The topic it came on.
    pub fn topic(&self) -> &ByteString {
        &self.topic
    }

    /// Its length in bytes, if the sender said so.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// The next data; `None` at the end. Cancel safe.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, StreamError> {
        std::future::poll_fn(|cx| self.poll_fill(cx)).await?;
        let data = std::mem::take(&mut self.current);
        self.use_up(data.len());
        Ok((!data.is_empty()).then_some(data))
    }

    /// Bytes read so far, and in all if that is known.
    pub fn progress(&self) -> Progress {
        Progress { received: self.used, to_receive: self.size.unwrap_or(0), ..Progress::default() }
    }

    /// Makes `current` hold data, unless the stream is at its end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        if self.current.is_empty()
            && let Some(data) = ready!(self.incoming.poll_read(cx))?
        {
            self.current = data;
        }
        Poll::Ready(Ok(()))
    }

    fn use_up(&mut self, bytes: usize) {
        self.used += bytes as u64;
        self.incoming.consumed(&self.inner, bytes as u64);
    }
}

impl AsyncRead for IncomingStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        ready!(stream.poll_fill(cx))?;
        let bytes = stream.current.len().min(into.remaining());
        into.put_slice(&stream.current[..bytes]);
        stream.current.advance(bytes);
        stream.use_up(bytes);
        Poll::Ready(Ok(()))
    }
}

impl Drop for IncomingStream {
    fn drop(&mut self) {
        self.incoming.abandon(&self.inner);
    }
}

impl fmt::Debug for IncomingStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IncomingStream")
            .field("origin", &self.origin)
            .field("channel", &self.channel)
            .field("topic", &self.topic)
            .field("progress", &self.progress())
            .finish_non_exhaustive()
    }
}

/// Gives a stream that begins to its handler.
pub(super) fn serve(
    inner: &Arc<Inner>,
    link: &Arc<Link>,
    incoming: &Arc<Incoming>,
    handler: StreamHandler,
    chunk: &ChunkHeader,
    mut headers: Headers,
) {
    let text = |text: &Option<ByteString>| text.clone().unwrap_or_default();
    let (channel, topic) = (text(&chunk.channel), text(&chunk.topic));
    let kind = Some(MessageKind::Request);
    let mut passing = Passing { headers: &mut headers, kind, from: Some(&link.peer) };
    if let Err(instead) = inner.filters.pass(Stage::IncomingRequest, &channel, &topic, &mut passing) {
        let reason = clipped(instead.error().unwrap_or("refused by a filter"));
        return incoming.fail(inner, StreamError::Aborted(reason));
    }
    let stream = IncomingStream {
        inner: inner.clone(),
        incoming: incoming.clone(),
        headers,
        origin: incoming.origin.clone(),
        channel,
        topic,
        size: (chunk.size > 0).then_some(chunk.size),
        current: Bytes::new(),
        used: 0,
    };
    let run = Box::pin(run(inner.clone(), incoming.clone(), handler, stream));
    inner.start(link.id, Job { run, cost: MESSAGE_COST });
}

/// Runs a handler. If it fails, its text is what the sender is told.
async fn run(inner: Arc<Inner>, incoming: Arc<Incoming>, handler: StreamHandler, stream: IncomingStream) {
    let serving = Serving::begin(&inner, &incoming);
    let mut handling = pin!(AssertUnwindSafe(async { handler(stream).await }).catch_unwind());
    let outcome = std::future::poll_fn(|cx| {
        let polled = handling.as_mut().poll(cx);
        if polled.is_pending() {
            incoming.end_if_abandoned(&inner);
        }
        polled
    })
    .await;
    let reason = match outcome {
        Ok(Ok(())) => return,
        Ok(Err(error)) => clipped(&error.to_string()),
        Err(_) => {
            tracing::error!(origin = %incoming.origin, "stream handler panicked");
            "handler panicked".into()
        }
    };
    incoming.fail(&inner, StreamError::Aborted(reason));
    drop(serving);
}

/// A handler runs: its stream may be dropped and the reason come a moment later.
struct Serving<'a> {
    inner: &'a Arc<Inner>,
    incoming: &'a Arc<Incoming>,
}

impl<'a> Serving<'a> {
    fn begin(inner: &'a Arc<Inner>, incoming: &'a Arc<Incoming>) -> Self {
        incoming.set_served(true);
        Self { inner, incoming }
    }
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        self.incoming.set_served(false);
        self.incoming.end_if_abandoned(self.inner);
    }
}
