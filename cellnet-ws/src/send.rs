//! From frames to messages.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use async_trait::async_trait;
use bytes::Bytes;
use cellnet_core::{
    stats::Meter,
    transport::{
        Batch, ConnectionInfo, Frame, FrameSender, TransportError,
        framed::{Pieces, Share},
    },
};
use tokio::io::AsyncWrite;
use tokio_tungstenite::tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

use crate::mask::Mask;

/// Which side of a connection this is: clients mask what they send, servers do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Server,
}

/// Writes each frame as one binary message.
///
/// A server copies small frames together and shares large bodies. A client has to mask: it does so a chunk at a time,
/// just before they are written, so that a frame of any size costs no more memory than that.
pub(crate) struct MessageSender<W> {
    shared: Arc<Mutex<Outgoing<W>>>,
    remote: String,
}

/// What waits to be written, shared with the half that reads, which answers pings and the close.
pub(crate) struct Outgoing<W> {
    io: W,
    role: Role,
    meter: Arc<Meter>,
    waiting: Pieces,
    /// Follows what is waiting, and is masked as it moves there.
    unmasked: VecDeque<(Bytes, Option<Mask>)>,
    share: Share,
    /// The answer to the last ping.
    pong: Option<Vec<u8>>,
    close: Close,
    peer_closed: bool,
    /// Whether a flush waits for the peer and takes answers along.
    flushing: bool,
}

/// Our close frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Close {
    Open,
    Wanted(u16),
    Queued,
}

impl<W> MessageSender<W> {
    pub(crate) fn new(shared: Arc<Mutex<Outgoing<W>>>, info: &ConnectionInfo) -> Self {
        Self { shared, remote: info.remote.clone() }
    }

    fn shared(&self) -> MutexGuard<'_, Outgoing<W>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, doing: &str, error: io::Error) -> TransportError {
        TransportError::io(format!("{doing} {}", self.remote), error)
    }
}

#[async_trait]
impl<W: AsyncWrite + Unpin + Send + 'static> FrameSender for MessageSender<W> {
    fn feed(&mut self, batch: &mut Batch) {
        let mut shared = self.shared();
        while let Some(frame) = shared.share.take(batch) {
            shared.put(frame);
        }
    }

    async fn flush(&mut self) -> Result<(), TransportError> {
        let flushed = poll_fn(|cx| {
            let mut shared = self.shared();
            ready!(shared.poll_flush(cx))?;
            let closed = shared.close != Close::Open;
            Poll::Ready(if closed { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) })
        });
        flushed.await.map_err(|error| self.failed("write to", error))
    }

    async fn close(&mut self) -> Result<(), TransportError> {
        self.shared().close_with(DONE);
        let closed = poll_fn(|cx| {
            let mut shared = self.shared();
            let closed = ready!(shared.poll_flush(cx));
            if !shared.peer_closed {
                // The peer answers, and whoever reads sees it.
                return Poll::Ready(closed);
            }
            let _ = ready!(Pin::new(&mut shared.io).poll_shutdown(cx));
            Poll::Ready(Ok(()))
        });
        closed.await.map_err(|error| self.failed("close the connection to", error))
    }

    fn relax(&mut self) {
        let mut shared = self.shared();
        shared.waiting.relax();
        shared.unmasked.shrink_to_fit();
    }
}

impl<W> Outgoing<W> {
    /// Writes to `io` and counts into `info.meter`.
    pub(crate) fn new(io: W, role: Role, info: &ConnectionInfo) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            io,
            role,
            meter: info.meter.clone(),
            waiting: match role {
                Role::Client => Pieces::keeping(STAGE),
                Role::Server => Pieces::default(),
            },
            unmasked: VecDeque::new(),
            share: Share::default(),
            pong: None,
            close: Close::Open,
            peer_closed: false,
            flushing: false,
        }))
    }

    /// Answers a ping, as soon as what waits is written. Only the last one is answered.
    pub(crate) fn pong(&mut self, payload: Vec<u8>) {
        self.pong = Some(payload);
    }

    /// Ends the connection after what waits, unless that is under way.
    pub(crate) fn close_with(&mut self, code: u16) {
        if self.close == Close::Open {
            self.close = Close::Wanted(code);
        }
    }

    /// The peer sends nothing more and reads nothing more.
    pub(crate) fn peer_closed(&mut self) {
        self.peer_closed = true;
        self.close_with(DONE);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.close != Close::Open
    }

    fn put(&mut self, frame: Frame) {
        if self.is_closing() {
            return;
        }
        let (head, body) = frame.into_parts();
        let mut mask = self.start(OpCode::Data(Data::Binary), head.len() + body.len());
        if mask.is_none() {
            self.waiting.push(head);
            self.waiting.push(body);
            return;
        }
        for bytes in [head, body] {
            if self.unmasked.is_empty() && bytes.len() <= self.room() {
                let copy = self.waiting.copy(&bytes);
                mask.iter_mut().for_each(|mask| mask.apply(copy));
            } else {
                let next = mask.map(|mask| mask.after(bytes.len()));
                self.unmasked.push_back((bytes, mask));
                mask = next;
            }
        }
    }

    /// Writes the head of a WebSocket frame, and says how to mask what follows.
    fn start(&mut self, opcode: OpCode, len: usize) -> Option<Mask> {
        let mask = (self.role == Role::Client).then(Mask::random);
        let head = FrameHeader { opcode, mask: mask.map(Mask::key), ..FrameHeader::default() };
        let mut bytes = io::Cursor::new([0; MAX_HEAD]);
        head.format(len as u64, &mut bytes).expect("a head is 14 bytes long at most");
        let len = bytes.position() as usize;
        let bytes = &bytes.get_ref()[..len];
        if self.unmasked.is_empty() {
            self.waiting.copy(bytes);
        } else {
            self.unmasked.push_back((Bytes::copy_from_slice(bytes), None));
        }
        mask
    }

    fn put_control(&mut self, kind: Control, payload: &[u8]) {
        let mask = self.start(OpCode::Control(kind), payload.len());
        let copy = self.waiting.copy(payload);
        mask.into_iter().for_each(|mut mask| mask.apply(copy));
    }

    /// How much may be copied yet.
    fn room(&self) -> usize {
        STAGE.saturating_sub(self.waiting.copied())
    }

    /// Masks what there is room for; answers go after everything else.
    fn stage(&mut self) {
        while let Some((bytes, mask)) = self.unmasked.front_mut() {
            let room = STAGE.saturating_sub(self.waiting.copied());
            let part = bytes.split_to(room.min(bytes.len()));
            let copy = self.waiting.copy(&part);
            mask.iter_mut().for_each(|mask| mask.apply(copy));
            if !bytes.is_empty() {
                return;
            }
            self.unmasked.pop_front();
        }
        if !self.waiting.is_empty() {
            return;
        }
        if let (Some(payload), false) = (self.pong.take(), self.close == Close::Queued) {
            self.put_control(Control::Pong, &payload);
        }
        if let Close::Wanted(code) = self.close {
            self.close = Close::Queued;
            self.put_control(Control::Close, &code.to_be_bytes());
        }
    }
}

impl<W: AsyncWrite + Unpin> Outgoing<W> {
    /// Writes everything.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.poll_write(cx);
        self.flushing = flushed.is_pending();
        flushed
    }

    /// Writes answers, unless a flush that waits will do so.
    pub(crate) fn poll_replies(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.flushing { Poll::Ready(Ok(())) } else { self.poll_write(cx) }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            self.stage();
            if self.waiting.is_empty() {
                break;
            }
            ready!(self.waiting.poll_write(&mut self.io, &[&self.meter], cx))?;
        }
        self.share = Share::default();
        Pin::new(&mut self.io).poll_flush(cx)
    }
}

impl<W> fmt::Debug for MessageSender<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageSender").field("remote", &self.remote).finish_non_exhaustive()
    }
}

/// The status code of an orderly end.
const DONE: u16 = 1000;

/// The longest head of a WebSocket frame.
const MAX_HEAD: usize = 14;

/// What a client masks at a time: the largest chunk of a stream with its head. With less, the peer is woken for every
/// piece, which costs a quarter of the throughput of large frames.
const STAGE: usize = 1024 * 1024 + 64 * 1024;
