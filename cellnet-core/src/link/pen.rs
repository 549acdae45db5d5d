//! The sending half of a lane, and what it takes to write with it.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};

use bytes::BytesMut;

use super::{
    Links, Outgoing,
    outbox::Signals,
    writer::{NIL, bare_frame},
};
use crate::{
    transport::{Batch, Frame, FrameSender, TransportError},
    wire::{FrameKind, HeadersError, MAX_FRAME, PREFIX_LEN, Prefix},
};

/// The sending half of a lane. Clones are the same one; whoever holds its [`Ink`] writes, for as long as that does not
/// wait.
#[derive(Debug, Clone)]
pub(super) struct Pen(Arc<Mutex<Ink>>);

impl Pen {
    pub(super) fn new(tx: Box<dyn FrameSender>, links: Arc<Links>, counters: Arc<Counters>) -> Self {
        Self(Arc::new(Mutex::new(Ink {
            tx: Some(tx),
            links,
            counters,
            taken: Vec::new(),
            batch: Batch::new(),
            heads: BytesMut::new(),
            failure: None,
            busy: false,
            rested: Instant::now(),
        })))
    }

    pub(super) fn ink(&self) -> MutexGuard<'_, Ink> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ink, if nobody writes and nobody did a moment ago.
    pub(super) fn idle(&self) -> Option<MutexGuard<'_, Ink>> {
        let ink = self.0.try_lock().ok()?;
        (ink.tx.is_some() && !ink.busy && ink.rested.elapsed() >= QUIET).then_some(ink)
    }
}

/// Who sends again so soon has more to send, which is better written together.
const QUIET: Duration = Duration::from_micros(20);

/// What is in a pen.
pub(super) struct Ink {
    /// Gone when the lane has ended.
    pub(super) tx: Option<Box<dyn FrameSender>>,
    links: Arc<Links>,
    counters: Arc<Counters>,
    /// What is being written.
    pub(super) taken: Vec<Outgoing>,
    batch: Batch,
    /// Heads are encoded into pieces of this, which are used again once the driver is done with them.
    heads: BytesMut,
    /// What a write that did not wait has found.
    failure: Option<TransportError>,
    /// Whether something is not written yet.
    busy: bool,
    /// When all was written.
    rested: Instant,
}

impl Ink {
    /// Takes messages to be written. What cannot be a frame is dropped and counted.
    pub(super) fn dip(&mut self, signals: Signals, messages: &mut Vec<Outgoing>) {
        self.busy = true;
        push_signals(signals, &mut self.batch, &self.counters);
        for message in messages.iter() {
            match encode(message, &self.counters, &mut self.heads) {
                Ok(frame) => self.batch.push_back(frame),
                Err(error) => {
                    self.links.counters.dropped.add(1);
                    tracing::warn!(%error, "message dropped");
                }
            }
        }
        self.taken.append(messages);
    }

    /// Writes what was taken.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        if let Some(failure) = self.failure.take() {
            return Poll::Ready(Err(failure));
        }
        let Some(tx) = &mut self.tx else { return Poll::Ready(Err(TransportError::Closed)) };
        loop {
            tx.feed(&mut self.batch);
            // Cancel safe: what is not written stays in the driver.
            ready!(tx.flush().as_mut().poll(cx))?;
            if self.batch.is_empty() {
                break;
            }
        }
        self.taken.clear();
        self.busy = false;
        self.rested = Instant::now();
        Poll::Ready(Ok(()))
    }

    /// Writes one message as far as that goes without waiting. Says whether all of it is written.
    pub(super) fn write_now(&mut self, message: Outgoing) -> bool {
        self.dip(Signals::default(), &mut vec![message]);
        match self.poll_flush(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(error)) => {
                self.failure = Some(error);
                false
            }
            Poll::Pending => false,
        }
    }
}

impl fmt::Debug for Ink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ink")
            .field("busy", &self.busy)
            .field("taken", &self.taken.len())
            .finish_non_exhaustive()
    }
}

/// Numbers the frames of a connection, as the reference does; nobody checks them.
#[derive(Debug)]
pub(super) struct Counters {
    sequence: AtomicU32,
    stream: AtomicU32,
}

impl Default for Counters {
    fn default() -> Self {
        // HELLO or READY took sequence 1; stream ids of endpoints start at 17.
        Self { sequence: AtomicU32::new(2), stream: AtomicU32::new(17) }
    }
}

fn push_signals(signals: Signals, batch: &mut Batch, counters: &Counters) {
    let kinds = [(signals.ping, FrameKind::Ping), (signals.pong, FrameKind::Pong)];
    for (_, kind) in kinds.into_iter().filter(|(wanted, _)| *wanted) {
        let stream = counters.stream.fetch_add(1, Relaxed) as u16;
        batch.push_back(bare_frame(kind, stream, counters.next_sequence(), NIL));
    }
}

/// Why a message cannot be a frame.
#[derive(Debug, thiserror::Error)]
enum EncodeError {
    #[error(transparent)]
    Headers(#[from] HeadersError),
    #[error("frame of {0} bytes exceeds the {MAX_FRAME} of the protocol")]
    TooLong(usize),
}

/// Encodes the head into a piece of `heads`, which is reused once the driver is done with it.
fn encode(message: &Outgoing, counters: &Counters, heads: &mut BytesMut) -> Result<Frame, EncodeError> {
    let blank = Prefix::default();
    blank.encode(heads);
    let start = heads.len();
    message.headers.encode(heads).inspect_err(|_| heads.clear())?;
    let header_len = heads.len() - start;
    let length = PREFIX_LEN + header_len + message.body.len();
    if length > MAX_FRAME {
        heads.clear();
        return Err(EncodeError::TooLong(length));
    }
    let prefix = Prefix {
        length: u32::try_from(length).expect("checked against MAX_FRAME"),
        header_len: u16::try_from(header_len).expect("checked by the headers"),
        kind: FrameKind::Data.code(),
        app_id: Prefix::APP_CELL,
        stream_id: counters.stream.fetch_add(1, Relaxed) as u16,
        sequence: counters.next_sequence(),
        ..Prefix::default()
    };
    prefix.write_to(heads.first_chunk_mut::<PREFIX_LEN>().expect("it was encoded above"));
    Ok(Frame::new(heads.split().freeze(), message.body.clone()))
}

impl Counters {
    fn next_sequence(&self) -> u16 {
        self.sequence.fetch_add(1, Relaxed) as u16
    }
}
