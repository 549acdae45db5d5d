//! Many frames, few writes.

use std::{
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use async_trait::async_trait;
use tokio::io::AsyncWrite;

use super::Pieces;
use crate::{
    stats::Meter,
    transport::{Batch, ConnectionInfo, Frame, FrameSender, TransportError},
};

/// Writes frames to a byte stream: small pieces are copied together, large ones stay shared, and everything that
/// waits goes out in as few vectored writes as the stream allows.
pub struct FramedSender<W> {
    io: W,
    remote: String,
    meter: Arc<Meter>,
    /// What this lane alone has written.
    lane: Arc<Meter>,
    waiting: Pieces,
    share: Share,
}

impl<W> FramedSender<W> {
    /// Writes to `io`, counts into `info.meter` and names `info.remote` in errors.
    pub fn new(io: W, info: &ConnectionInfo) -> Self {
        Self {
            io,
            remote: info.remote.clone(),
            meter: info.meter.clone(),
            lane: Arc::default(),
            waiting: Pieces::default(),
            share: Share::default(),
        }
    }

    /// Bytes of memory for what waits.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.waiting.held()
    }

    fn failed(&self, doing: &str, error: io::Error) -> TransportError {
        TransportError::io(format!("{doing} {}", self.remote), error)
    }
}

impl<W: AsyncWrite + Unpin> FramedSender<W> {
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.waiting.poll_write(&mut self.io, &[&self.meter, &self.lane], cx))?;
        self.share = Share::default();
        Pin::new(&mut self.io).poll_flush(cx)
    }
}

#[async_trait]
impl<W: AsyncWrite + Unpin + Send + 'static> FrameSender for FramedSender<W> {
    fn feed(&mut self, batch: &mut Batch) {
        while let Some(frame) = self.share.take(batch) {
            let (head, body) = frame.into_parts();
            self.waiting.push(head);
            self.waiting.push(body);
        }
    }

    async fn flush(&mut self) -> Result<(), TransportError> {
        poll_fn(|cx| self.poll_flush(cx)).await.map_err(|error| self.failed("write to", error))
    }

    async fn close(&mut self) -> Result<(), TransportError> {
        self.flush().await?;
        poll_fn(|cx| Pin::new(&mut self.io).poll_shutdown(cx))
            .await
            .map_err(|error| self.failed("close the connection to", error))
    }

    fn meter(&self) -> Option<Arc<Meter>> {
        Some(self.lane.clone())
    }

    fn relax(&mut self) {
        self.waiting.relax();
    }
}

impl<W> fmt::Debug for FramedSender<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FramedSender")
            .field("remote", &self.remote)
            .field("share", &self.share)
            .finish_non_exhaustive()
    }
}

/// What a sender takes between two flushes: enough to pay for the system call, little enough that a frame which comes
/// later and is more urgent does not wait long. That is 64 frames and 256 KiB, or a single frame of any size.
#[derive(Debug, Default)]
pub struct Share {
    frames: usize,
    bytes: usize,
}

impl Share {
    /// The next frame, unless the share is full.
    pub fn take(&mut self, batch: &mut Batch) -> Option<Frame> {
        let next = batch.front()?;
        let full = self.frames >= MAX_FRAMES || self.bytes.saturating_add(next.len()) > MAX_BYTES;
        if full && self.frames > 0 {
            return None;
        }
        self.frames += 1;
        self.bytes += next.len();
        batch.pop_front()
    }
}

const MAX_FRAMES: usize = 64;
const MAX_BYTES: usize = 256 * 1024;
