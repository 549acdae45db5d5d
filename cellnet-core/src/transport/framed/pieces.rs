//! Bytes that wait to be written.

use std::{
    collections::VecDeque,
    fmt,
    io::{self, IoSlice},
    ops::Range,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::AsyncWrite;

use crate::stats::Meter;

/// Bytes that wait to be written, in order: small pieces are copied together, large ones stay shared.
pub struct Pieces {
    /// The bytes of every [`Piece::Copied`]; reused.
    copied: Vec<u8>,
    /// What that may hold on to when nothing waits.
    kept: usize,
    /// What is still to be written.
    pieces: VecDeque<Piece>,
}

/// Consecutive bytes to write. Written ones are cut from the front.
enum Piece {
    Copied(Range<usize>),
    Shared(Bytes),
}

impl Pieces {
    /// Nothing yet. The buffer for copies keeps `kept` bytes when nothing waits, and only what is above is given back.
    pub fn keeping(kept: usize) -> Self {
        Self { copied: Vec::new(), kept, pieces: VecDeque::new() }
    }

    /// Adds bytes: those below 4 KiB are copied, others shared.
    pub fn push(&mut self, bytes: Bytes) {
        if bytes.len() >= SHARE_FROM {
            self.pieces.push_back(Piece::Shared(bytes));
        } else {
            self.copy(&bytes);
        }
    }

    /// Adds a copy, and gives it to the caller who may still change it.
    pub fn copy(&mut self, bytes: &[u8]) -> &mut [u8] {
        let start = self.copied.len();
        self.copied.extend_from_slice(bytes);
        let end = self.copied.len();
        match self.pieces.back_mut() {
            _ if bytes.is_empty() => {}
            Some(Piece::Copied(range)) => range.end = end,
            _ => self.pieces.push_back(Piece::Copied(start..end)),
        }
        &mut self.copied[start..]
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Bytes that were copied since nothing waited for the last time.
    pub fn copied(&self) -> usize {
        self.copied.len()
    }

    /// Keeps no memory at all, if nothing waits.
    pub fn relax(&mut self) {
        if self.is_empty() {
            (self.copied, self.pieces) = (Vec::new(), VecDeque::new());
        }
    }

    /// Bytes of memory, used or not.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.copied.capacity() + self.pieces.capacity() * size_of::<Piece>()
    }

    /// Writes everything in as few vectored writes as the stream allows, and counts it. Pending or failed, it leaves
    /// what was not written. Does not flush the stream.
    ///
    /// After 512 KiB whoever else uses the thread has a turn. A stream that always takes more would keep it for the
    /// whole of a large frame otherwise, and what has arrived meanwhile would not even be noticed.
    pub fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        io: &mut W,
        meters: &[&Meter],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut turn = TURN;
        while !self.pieces.is_empty() {
            if turn == 0 {
                // It wakes this task after the events of the system were looked at, other than a task that wakes itself.
                let _ = pin!(tokio::task::yield_now()).poll(cx);
                return Poll::Pending;
            }
            let written = ready!(self.poll_write_once(io, turn, cx))?;
            turn -= written;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            meters.iter().for_each(|meter| meter.add_tx(written));
            self.advance(written);
        }
        self.copied.clear();
        self.copied.shrink_to(self.kept);
        Poll::Ready(Ok(()))
    }

    fn poll_write_once<W: AsyncWrite + Unpin>(
        &mut self,
        io: &mut W,
        mut most: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let mut count = 0;
        let slots = if io.is_write_vectored() { MAX_SLICES } else { 1 };
        for (slice, piece) in slices.iter_mut().zip(&self.pieces).take(slots) {
            let bytes = match piece {
                Piece::Copied(range) => &self.copied[range.clone()],
                Piece::Shared(bytes) => bytes,
            };
            let bytes = &bytes[..bytes.len().min(most)];
            if bytes.is_empty() {
                break;
            }
            *slice = IoSlice::new(bytes);
            most -= bytes.len();
            count += 1;
        }
        match &slices[..count] {
            [one] => Pin::new(io).poll_write(cx, one),
            many => Pin::new(io).poll_write_vectored(cx, many),
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
}

impl Default for Pieces {
    /// [Keeps](Self::keeping) 64 KiB.
    fn default() -> Self {
        Self::keeping(KEEP_BUFFER)
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

impl fmt::Debug for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pieces").field("waiting", &self.pieces.len()).finish_non_exhaustive()
    }
}

/// Bytes that are written before others have a turn.
const TURN: usize = 512 * 1024;

/// Below this, copying is cheaper than one more slice in a vectored write.
const SHARE_FROM: usize = 4 * 1024;

/// Slices per write. The smallest limit of a common system is 16, Linux takes 1024; 64 frames with shared bodies and
/// copied heads need 128 at most, two writes.
const MAX_SLICES: usize = 64;

/// The buffer that an idle connection keeps at most.
const KEEP_BUFFER: usize = 64 * 1024;
