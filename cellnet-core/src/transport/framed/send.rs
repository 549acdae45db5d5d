//! Many frames, few writes.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    io::{self, IoSlice},
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::AsyncWrite;

use crate::{
    stats::Meter,
    transport::{Batch, ConnectionInfo, FrameSender, TransportError},
};

/// Writes frames to a byte stream: small pieces are copied together, large ones stay shared, and everything that
/// waits goes out in as few vectored writes as the stream allows.
pub struct FramedSender<W> {
    io: W,
    remote: String,
    meter: Arc<Meter>,
    /// What this lane alone has written.
    lane: Arc<Meter>,
    /// The bytes of every [`Piece::Copied`]; reused.
    copied: Vec<u8>,
    /// What is still to be written, in order.
    pieces: VecDeque<Piece>,
    /// Frames and bytes taken since everything was last written.
    frames: usize,
    bytes: usize,
}

/// Consecutive bytes to write. Written ones are cut from the front.
enum Piece {
    Copied(Range<usize>),
    Shared(Bytes),
}

impl<W> FramedSender<W> {
    /// Writes to `io`, counts into `info.meter` and names `info.remote` in errors.
    pub fn new(io: W, info: &ConnectionInfo) -> Self {
        Self {
            io,
            remote: info.remote.clone(),
            meter: info.meter.clone(),
            lane: Arc::default(),
            copied: Vec::new(),
            pieces: VecDeque::new(),
            frames: 0,
            bytes: 0,
        }
    }

    fn take(&mut self, piece: Bytes) {
        if piece.len() >= SHARE_FROM {
            self.pieces.push_back(Piece::Shared(piece));
            return;
        }
        if piece.is_empty() {
            return;
        }
        let start = self.copied.len();
        self.copied.extend_from_slice(&piece);
        match self.pieces.back_mut() {
            Some(Piece::Copied(range)) => range.end = self.copied.len(),
            _ => self.pieces.push_back(Piece::Copied(start..self.copied.len())),
        }
    }

    /// Forgets the first `written` bytes.
    fn advance(&mut self, mut written: usize) {
        while let Some(piece) = self.pieces.front_mut() {
            let len = piece.len();
            if written < len {
                match piece {
                    Piece::Copied(range) => range.start += written,
                    Piece::Shared(bytes) => drop(bytes.split_to(written)),
                }
                return;
            }
            written -= len;
            self.pieces.pop_front();
        }
    }

    fn failed(&self, doing: &str, error: io::Error) -> TransportError {
        TransportError::io(format!("{doing} {}", self.remote), error)
    }
}

impl<W: AsyncWrite + Unpin> FramedSender<W> {
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pieces.is_empty() {
            let written = ready!(self.poll_write(cx))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.meter.add_tx(written);
            self.lane.add_tx(written);
            self.advance(written);
        }
        self.copied.clear();
        self.copied.shrink_to(KEEP_BUFFER);
        (self.frames, self.bytes) = (0, 0);
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let mut count = 0;
        let most = if self.io.is_write_vectored() { MAX_SLICES } else { 1 };
        for (slice, piece) in slices.iter_mut().zip(&self.pieces).take(most) {
            *slice = IoSlice::new(match piece {
                Piece::Copied(range) => &self.copied[range.clone()],
                Piece::Shared(bytes) => bytes,
            });
            count += 1;
        }
        match &slices[..count] {
            [one] => Pin::new(&mut self.io).poll_write(cx, one),
            many => Pin::new(&mut self.io).poll_write_vectored(cx, many),
        }
    }
}

#[async_trait]
impl<W: AsyncWrite + Unpin + Send + 'static> FrameSender for FramedSender<W> {
    fn feed(&mut self, batch: &mut Batch) {
        while let Some(next) = batch.front() {
            let full = self.frames >= MAX_FRAMES || self.bytes.saturating_add(next.len()) > MAX_BYTES;
            if full && self.frames > 0 {
                return;
            }
            let Some(frame) = batch.pop_front() else { return };
            self.frames += 1;
            self.bytes += frame.len();
            let (head, body) = frame.into_parts();
            self.take(head);
            self.take(body);
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
}

impl Piece {
    fn len(&self) -> usize {
        match self {
            Self::Copied(range) => range.len(),
            Self::Shared(bytes) => bytes.len(),
        }
    }
}

impl<W> fmt::Debug for FramedSender<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FramedSender")
            .field("remote", &self.remote)
            .field("frames", &self.frames)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// Below this, copying is cheaper than one more slice in a vectored write.
const SHARE_FROM: usize = 4 * 1024;

/// Taken at a time, unless a single frame is larger: enough to pay for the system call, little enough that a frame
/// which comes later and is more urgent does not wait long.
const MAX_FRAMES: usize = 64;
const MAX_BYTES: usize = 256 * 1024;

/// Slices per write. The smallest limit of a common system is 16, Linux takes 1024; 64 frames with shared bodies and
/// copied heads need 128 at most, two writes.
const MAX_SLICES: usize = 64;

/// The buffer that an idle connection keeps at most.
const KEEP_BUFFER: usize = 64 * 1024;
