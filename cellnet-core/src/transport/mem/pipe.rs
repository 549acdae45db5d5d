//! One direction of a connection in memory: bytes with a capacity, a latency and faults.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::coop::poll_proceed,
    time::{Instant, Sleep, sleep_until},
};

/// How a direction behaves; may change at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Conditions {
    /// Bytes written and not yet read, at most.
    pub(super) capacity: usize,
    /// From write to earliest read.
    pub(super) latency: Duration,
    /// Nothing arrives.
    pub(super) parted: bool,
    /// Neither end gets anything done.
    pub(super) frozen: bool,
}

/// Shared by the two ends of one direction.
#[derive(Debug)]
pub(super) struct Pipe(Mutex<State>);

#[derive(Debug)]
struct State {
    conditions: Conditions,
    /// What was written, with the time it arrives.
    flying: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    /// No more will be written.
    ended: bool,
    /// Nobody will read any more.
    deaf: bool,
    cut: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// The two ends of a new direction, and what controls it.
pub(super) fn pipe(conditions: Conditions) -> (MemWriter, MemReader, Arc<Pipe>) {
    let pipe = Arc::new(Pipe(Mutex::new(State {
        conditions,
        flying: VecDeque::new(),
        bytes: 0,
        ended: false,
        deaf: false,
        cut: false,
        reader: None,
        writer: None,
    })));
    (MemWriter(pipe.clone()), MemReader { pipe: pipe.clone(), timer: None }, pipe)
}

impl Pipe {
    pub(super) fn set(&self, conditions: Conditions) {
        let mut state = self.state();
        state.conditions = conditions;
        state.wake_both();
    }

    /// Ends both ends with an error. What was not read is lost.
    pub(super) fn cut(&self) {
        let mut state = self.state();
        state.cut = true;
        state.flying.clear();
        state.wake_both();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wake_both(&mut self) {
        wake(&mut self.reader);
        wake(&mut self.writer);
    }
}

fn wake(waiting: &mut Option<Waker>) {
    if let Some(waker) = waiting.take() {
        waker.wake();
    }
}

/// The reading end of a byte stream in memory.
#[derive(Debug)]
pub struct MemReader {
    pipe: Arc<Pipe>,
    /// Runs until the next bytes arrive.
    timer: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for MemReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        // A pipe that is always ready must not keep the runtime from other tasks.
        let budget = ready!(poll_proceed(cx));
        let arrival = {
            let mut state = this.pipe.state();
            state.reader = Some(cx.waker().clone());
            if state.cut {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            if state.conditions.parted || state.conditions.frozen {
                return Poll::Pending;
            }
            match state.flying.front() {
                None if state.ended => return Poll::Ready(Ok(())),
                None => return Poll::Pending,
                Some((arrival, _)) if *arrival > Instant::now() => *arrival,
                Some(_) => {
                    state.read(buf);
                    budget.made_progress();
                    return Poll::Ready(Ok(()));
                }
            }
        };
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(arrival)));
        if timer.deadline() != arrival {
            timer.as_mut().reset(arrival);
        }
        if timer.as_mut().poll(cx).is_ready() {
            this.timer = None;
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl State {
    /// Moves what has arrived.
    fn read(&mut self, buf: &mut ReadBuf<'_>) {
        let now = Instant::now();
        while let Some((arrival, bytes)) = self.flying.front_mut() {
            if *arrival > now || buf.remaining() == 0 {
                break;
            }
            let moved = bytes.len().min(buf.remaining());
            buf.put_slice(&bytes[..moved]);
            bytes.advance(moved);
            self.bytes -= moved;
            if bytes.is_empty() {
                self.flying.pop_front();
            }
        }
        wake(&mut self.writer);
    }
}

impl Drop for MemReader {
    fn drop(&mut self) {
        let mut state = self.pipe.state();
        state.deaf = true;
        state.wake_both();
    }
}

/// The writing end of a byte stream in memory. Dropping it ends the stream after what was written.
#[derive(Debug)]
pub struct MemWriter(Arc<Pipe>);

impl AsyncWrite for MemWriter {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let budget = ready!(poll_proceed(cx));
        let mut state = self.0.state();
        state.writer = Some(cx.waker().clone());
        let Conditions { capacity, latency, parted, frozen } = state.conditions;
        if state.cut {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        // Whoever is cut off does not learn that the other side hung up.
        if state.ended || (state.deaf && !parted && !frozen) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
        let room = wanted.min(capacity.saturating_sub(state.bytes));
        if frozen || (room == 0 && wanted > 0) {
            return Poll::Pending;
        }
        let mut written = Vec::with_capacity(room);
        for slice in slices {
            written.extend_from_slice(&slice[..slice.len().min(room - written.len())]);
        }
        if room > 0 {
            state.bytes += room;
            state.flying.push_back((Instant::now() + latency, written.into()));
            wake(&mut state.reader);
        }
        budget.made_progress();
        Poll::Ready(Ok(room))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end();
        Poll::Ready(Ok(()))
    }
}

impl MemWriter {
    fn end(&self) {
        let mut state = self.0.state();
        state.ended = true;
        wake(&mut state.reader);
    }
}

impl Drop for MemWriter {
    fn drop(&mut self) {
        self.end();
    }
}
