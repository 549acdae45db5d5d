//! One read, many frames; and large frames without a copy.

use std::{
    fmt,
    future::{Future, poll_fn},
    io,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
};

use async_trait::async_trait;
use bytes::{BufMut, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::{
    stats::{Budget, Meter, Reservation},
    transport::{Batch, ConnectionInfo, FrameReceiver, MAX_FRAME_BEFORE_HELLO, TransportError},
    wire::{Frame, MAX_HEADERS, PREFIX_LEN, Prefix, PrefixError},
};

/// Reads frames from a byte stream.
///
/// Frames up to 32 KiB are copied out of a read buffer, so that a frame that is kept never holds more than
/// itself, or 1 KiB if it is smaller: as many as fit into that share one piece of memory. The body of a larger frame is
/// read straight into its own buffer, which grows as bytes arrive. Whoever waits with nothing read holds no read buffer: it
/// is borrowed from the budget's spare ones for as long as there are bytes in it.
///
/// A frame above the limit is judged when it is the first of a call to [`recv`](FrameReceiver::recv), so that a link
/// can raise the limit after the frame that says it may. Until [`set_max_frame`](FrameReceiver::set_max_frame) is
/// called, such a frame is handed over as soon as its prefix is there, with the prefix alone as its head.
///
/// After [`TransportError::OverBudget`] the half-read frame is kept, and another `recv` tries to go on with it. Every
/// other error is final.
pub struct FramedReceiver<R> {
    io: R,
    remote: String,
    meter: Arc<Meter>,
    budget: Arc<Budget>,
    /// Read and not yet used: `buffer[start..]`. Given back when that is nothing.
    buffer: Vec<u8>,
    start: usize,
    /// Bytes that came since nothing was there for the last time.
    rush: usize,
    partial: Partial,
    /// `None` until HELLO.
    max_frame: Option<usize>,
    /// The longest body handed over: the next one is likely to be as long.
    longest: usize,
}

/// What the stream is in the middle of, beyond what the buffer holds.
enum Partial {
    /// Between two frames, or in a frame that will fit into the buffer.
    Buffered,
    /// In the body of a large frame.
    Large(Large),
    /// In a body that is read past; this many bytes are left.
    Skipped(usize),
}

struct Large {
    head: Bytes,
    body: Vec<u8>,
    /// Length the body will have.
    total: usize,
    /// Covers the body's capacity beyond [`FREE`].
    reserved: Option<Reservation>,
}

impl<R> FramedReceiver<R> {
    /// Reads from `io`, counts into `info.meter` and names `info.remote` in errors.
    pub fn new(io: R, info: &ConnectionInfo, budget: Arc<Budget>) -> Self {
        Self {
            io,
            remote: info.remote.clone(),
            meter: info.meter.clone(),
            budget,
            buffer: Vec::new(),
            start: 0,
            rush: 0,
            partial: Partial::Buffered,
            max_frame: None,
            longest: 0,
        }
    }

    /// Moves every whole frame of the buffer to `batch`. Says whether there was one.
    fn take_frames(&mut self, batch: &mut Batch) -> Result<bool, TransportError> {
        let before = batch.len();
        loop {
            self.take_run(batch)?;
            let some = batch.len() > before;
            match self.take_frame(some) {
                Ok(Some(frame)) => batch.push_back(frame),
                Ok(None) => return Ok(some),
                // What is wrong stays in the buffer and is found again when the good frames are gone.
                Err(_) if some => return Ok(true),
                Err(error) => return Err(error),
            }
        }
    }

    /// Moves the small frames that come next to `batch`, as many as are whole and may share a piece of memory. For
    /// frames this small, a piece for each costs more than all the rest.
    fn take_run(&mut self, batch: &mut Batch) -> Result<(), PrefixError> {
        if !matches!(self.partial, Partial::Buffered) {
            return Ok(());
        }
        let unused = &self.buffer[self.start..];
        let longest = self.max_frame.map_or(SHARED, |most| most.min(SHARED));
        let mut run = 0;
        while let Some(length) = length(&unused[run..]) {
            let end = run.saturating_add(length);
            if !(PREFIX_LEN..=longest).contains(&length) || end > SHARED.min(unused.len()) {
                break;
            }
            run = end;
        }
        let mut shared = Bytes::copy_from_slice(&unused[..run]);
        self.start += run;
        while let Some(length) = length(&shared) {
            batch.push_back(Frame::split(shared.split_to(length))?);
        }
        Ok(())
    }

    /// The next frame, if all of it is here. `follows`: another one was handed over by the same call.
    fn take_frame(&mut self, follows: bool) -> Result<Option<Frame>, TransportError> {
        match &mut self.partial {
            Partial::Buffered => self.start_frame(follows),
            Partial::Large(large) => {
                let unused = &self.buffer[self.start..];
                self.start += large.take(unused, &self.budget)?;
                Ok(self.finish_large())
            }
            Partial::Skipped(left) => {
                let skipped = (*left).min(self.buffer.len() - self.start);
                self.start += skipped;
                *left -= skipped;
                if *left > 0 {
                    return Ok(None);
                }
                self.partial = Partial::Buffered;
                self.start_frame(follows)
            }
        }
    }

    fn start_frame(&mut self, follows: bool) -> Result<Option<Frame>, TransportError> {
        let unused = &self.buffer[self.start..];
        let Some(prefix) = unused.first_chunk::<PREFIX_LEN>() else { return Ok(None) };
        let prefix = Prefix::decode(prefix)?;
        let length = prefix.length as usize;
        let oversize = length > self.max_frame.unwrap_or(MAX_FRAME_BEFORE_HELLO);
        if oversize && follows {
            return Ok(None);
        }
        if length <= SMALL && !oversize {
            let Some(frame) = unused.get(..length) else { return Ok(None) };
            self.start += length;
            return Ok(Some(Frame::split(Bytes::copy_from_slice(frame))?));
        }
        let head_len = match self.max_frame {
            None if oversize => PREFIX_LEN,
            _ => length.min(PREFIX_LEN + prefix.header_len as usize),
        };
        let Some(head) = unused.get(..head_len).map(Bytes::copy_from_slice) else { return Ok(None) };
        self.start += head_len;
        let total = length - head_len;
        if oversize {
            self.partial = Partial::Skipped(total);
            return Ok(Some(Frame::new(head, Bytes::new())));
        }
        self.partial = Partial::Large(Large::new(head, total, self.longest, &self.budget));
        self.take_frame(follows)
    }

    fn finish_large(&mut self) -> Option<Frame> {
        match std::mem::replace(&mut self.partial, Partial::Buffered) {
            Partial::Large(large) if large.body.len() == large.total => {
                self.longest = self.longest.max(large.total);
                Some(Frame::new(large.head, self.budget.spares().lend(large.body, large.reserved)))
            }
            unfinished => {
                self.partial = unfinished;
                None
            }
        }
    }

    /// Bytes of its read buffer.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.buffer.capacity()
    }

    /// Gives the buffer back, and keeps a smaller one if there are bytes left in it, unless more are about to come.
    fn rest(&mut self) {
        let unused = &self.buffer[self.start..];
        let busy = std::mem::take(&mut self.rush) > FIRST_BUFFER;
        if !unused.is_empty() && (busy || unused.len() + FIRST_BUFFER > self.buffer.capacity() / 2) {
            return;
        }
        let mut kept = Vec::new();
        if !unused.is_empty() {
            kept.reserve_exact(unused.len() + FIRST_BUFFER);
            kept.extend_from_slice(unused);
        }
        self.start = 0;
        self.budget.read_buffers().put_back(std::mem::replace(&mut self.buffer, kept));
    }

    /// Makes room behind the unused bytes. There is some even for the largest head, see [`READ_BUFFER`].
    fn make_room(&mut self) {
        if self.buffer.capacity() == 0 {
            self.buffer = self.budget.read_buffers().take(FIRST_BUFFER);
        }
        let full = self.buffer.len() == self.buffer.capacity();
        let unused = self.buffer.len() - self.start;
        self.buffer.copy_within(self.start.., 0);
        self.buffer.truncate(unused);
        self.start = 0;
        // A connection that fills its buffer is busy and earns a larger one, but none before HELLO.
        let busy = full && self.max_frame.is_some();
        if busy || self.buffer.len() == self.buffer.capacity() {
            let capacity = (self.buffer.capacity() * 2).clamp(FIRST_BUFFER, READ_BUFFER);
            self.buffer.reserve_exact(capacity - unused);
        }
    }
}

impl<R: AsyncRead + Unpin> FramedReceiver<R> {
    /// Reads once.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        let (into, end) = match &mut self.partial {
            Partial::Large(large) => {
                large.make_room(&self.budget)?;
                let end = large.total.min(large.body.capacity());
                (&mut large.body, end)
            }
            _ => {
                self.make_room();
                let end = self.buffer.capacity();
                (&mut self.buffer, end)
            }
        };
        let room = end - into.len();
        // A read that is dropped has taken nothing.
        let polled = pin!(self.io.read_buf(&mut into.limit(room))).poll(cx);
        let Poll::Ready(read) = polled else {
            self.rest();
            return Poll::Pending;
        };
        Poll::Ready(match read {
            Ok(0) if matches!(self.partial, Partial::Buffered) && self.start == self.buffer.len() => {
                Err(TransportError::Closed)
            }
            Ok(0) => Err(self.failed(io::ErrorKind::UnexpectedEof.into())),
            Ok(read) => {
                self.meter.add_rx(read);
                self.rush += read;
                Ok(())
            }
            Err(error) => Err(self.failed(error)),
        })
    }

    fn failed(&self, error: io::Error) -> TransportError {
        TransportError::io(format!("read from {}", self.remote), error)
    }
}

#[async_trait]
impl<R: AsyncRead + Unpin + Send + 'static> FrameReceiver for FramedReceiver<R> {
    async fn recv(&mut self, batch: &mut Batch) -> Result<(), TransportError> {
        // Cancel safe: nothing is kept outside `self`.
        while !self.take_frames(batch)? {
            poll_fn(|cx| self.poll_read(cx)).await?;
        }
        // Who filled the buffer has more to read, and earns a larger one.
        let used_up = self.start == self.buffer.len() && self.start < self.buffer.capacity();
        if used_up || self.max_frame.is_none() {
            self.rest();
        }
        Ok(())
    }

    fn set_max_frame(&mut self, bytes: usize) {
        self.max_frame = Some(bytes);
    }
}

impl Large {
    /// Starts with what every connection may have, or with the size of what came before if there is memory for it.
    fn new(head: Bytes, total: usize, longest: usize, budget: &Arc<Budget>) -> Self {
        let like_before = longest.min(MAX_START).min(total);
        let beyond = like_before.checked_sub(FREE);
        let reserved = beyond.and_then(|beyond| budget.reserve_below(beyond, ceiling(total, budget)));
        let capacity = if reserved.is_some() { like_before } else { FREE.min(total) };
        Self { head, body: budget.spares().take(capacity), total, reserved }
    }

    /// Moves bytes to the body; says how many.
    fn take(&mut self, mut bytes: &[u8], budget: &Arc<Budget>) -> Result<usize, TransportError> {
        let wanted = bytes.len().min(self.total - self.body.len());
        bytes = &bytes[..wanted];
        // Room first: an error in the middle would leave bytes both here and in the buffer.
        while self.body.capacity() - self.body.len() < wanted {
            self.grow(budget)?;
        }
        self.body.extend_from_slice(bytes);
        Ok(wanted)
    }

    fn make_room(&mut self, budget: &Arc<Budget>) -> Result<(), TransportError> {
        if self.body.len() == self.body.capacity() { self.grow(budget) } else { Ok(()) }
    }

    /// Twice the size, at most what is needed. Only bytes that arrived ask for more.
    fn grow(&mut self, budget: &Arc<Budget>) -> Result<(), TransportError> {
        let old = self.body.capacity();
        let new = old.saturating_mul(2).clamp(1, self.total);
        let more = new.saturating_sub(old.max(FREE));
        let granted = match &mut self.reserved {
            Some(reserved) => reserved.grow_below(more, ceiling(self.total, budget)),
            none => {
                *none = budget.reserve_below(more, ceiling(self.total, budget));
                none.is_some()
            }
        };
        if !granted {
            return Err(TransportError::OverBudget(self.head.len() + self.total));
        }
        self.body.reserve_exact(new - self.body.len());
        Ok(())
    }
}

impl<R> fmt::Debug for FramedReceiver<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FramedReceiver")
            .field("remote", &self.remote)
            .field("buffered", &(self.buffer.len() - self.start))
            .field("max_frame", &self.max_frame)
            .finish_non_exhaustive()
    }
}

/// The length that the first bytes of a frame claim.
fn length(frame: &[u8]) -> Option<usize> {
    frame.first_chunk().map(|length| u32::from_be_bytes(*length) as usize)
}

/// What frames may hold together in one piece. Whoever keeps messages counts at least as much for each.
const SHARED: usize = 1024;

/// Frames up to this length are gathered in the read buffer and copied out.
const SMALL: usize = 32 * 1024;

/// Where a read buffer starts.
pub(crate) const FIRST_BUFFER: usize = 8 * 1024;

/// Where it ends: 64 KiB, and the longest head fits.
pub(crate) const READ_BUFFER: usize = PREFIX_LEN + MAX_HEADERS;

/// Frames longer than a chunk leave half of the budget to the others.
fn ceiling(total: usize, budget: &Budget) -> usize {
    if total > MAX_START { budget.limit() / 2 } else { budget.limit() }
}

/// What a half-read body may hold without asking the budget.
const FREE: usize = 64 * 1024;

/// What the body of a large frame may start with if the connection has delivered as much before.
const MAX_START: usize = 1024 * 1024;
