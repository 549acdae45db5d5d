//! From messages back to the bytes of frames.

use std::{
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use cellnet_core::{stats::Meter, transport::ConnectionInfo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    messages::{Found, Messages, Signal},
    send::{Outgoing, Role},
    violation::Violation,
};

/// The content of all binary messages as one stream of bytes, for
/// [`FramedReceiver`](cellnet_core::transport::framed::FramedReceiver). It ends where the peer closes in order.
///
/// Nothing is reserved for a message: what arrives goes straight to whoever reads, or through a buffer of at most
/// 32 KiB. Pings are answered from here, by the half of the connection that writes.
pub(crate) struct Payloads<R, W> {
    io: R,
    remote: String,
    meter: Arc<Meter>,
    writer: Arc<Mutex<Outgoing<W>>>,
    messages: Messages,
    /// Read and not yet used: `buffer[start..end]`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Whether the writer has something that was asked for here.
    replying: bool,
    texts: bool,
    ending: Option<Ending>,
}

/// Why nothing follows.
#[derive(Debug, Clone)]
enum Ending {
    Orderly,
    /// The peer closed with a code that tells of a failure.
    Failed(u16, String),
    Violated(Violation),
}

impl<R, W> Payloads<R, W> {
    /// Reads from `io` what the peer of a `role` sends; `early` was read before.
    pub(crate) fn new(
        io: R,
        early: Vec<u8>,
        role: Role,
        writer: Arc<Mutex<Outgoing<W>>>,
        info: &ConnectionInfo,
    ) -> Self {
        info.meter.add_rx(early.len());
        Self {
            io,
            remote: info.remote.clone(),
            meter: info.meter.clone(),
            writer,
            messages: Messages::new(role),
            start: 0,
            end: early.len(),
            buffer: early,
            replying: false,
            texts: false,
            ending: None,
        }
    }

    /// Moves data from the buffer to `out` until one of them has no more, or the connection ends.
    fn unwrap_into(&mut self, out: &mut ReadBuf<'_>) {
        while self.ending.is_none() {
            let unused = &mut self.buffer[self.start..self.end];
            match self.messages.take(unused, out.remaining()) {
                Ok(Found::Nothing) => return,
                Ok(Found::Passed(used)) => {
                    self.start += used;
                    self.note_text();
                }
                Ok(Found::Data(used)) => {
                    out.put_slice(&unused[..used]);
                    self.start += used;
                }
                Ok(Found::Control(used, signal)) => {
                    self.start += used;
                    self.heed(signal);
                }
                Err(violation) => self.violated(violation),
            }
        }
    }

    fn heed(&mut self, signal: Signal) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        match signal {
            Signal::Pong => return,
            Signal::Ping(payload) => writer.pong(payload),
            Signal::Close(code, reason) => {
                writer.peer_closed();
                self.ending = Some(match code {
                    // Done, going away, or not said.
                    None | Some(1000 | 1001) => Ending::Orderly,
                    Some(code) => Ending::Failed(code, reason),
                });
            }
        }
        self.replying = true;
    }

    fn violated(&mut self, violation: Violation) {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).close_with(violation.code());
        self.replying = true;
        self.ending = Some(Ending::Violated(violation));
    }

    fn note_text(&mut self) {
        if self.messages.is_in_text() && !self.texts {
            self.texts = true;
            tracing::warn!(remote = self.remote, "the peer sends text, which is ignored; logged once");
        }
    }

    /// What a reader is told when nothing follows.
    fn end(&self, ending: &Ending) -> io::Result<()> {
        match ending {
            Ending::Orderly => Ok(()),
            Ending::Failed(code, reason) => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                format!("the peer closed the connection with code {code} '{reason}'"),
            )),
            Ending::Violated(violation) => Err((*violation).into()),
        }
    }

    /// The system says that nothing follows.
    fn ended(&mut self) -> io::Result<()> {
        let closing = self.writer.lock().unwrap_or_else(PoisonError::into_inner).is_closing();
        // Whoever has read our close may just go.
        if closing && self.messages.is_between() && self.start == self.end {
            self.ending = Some(Ending::Orderly);
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended without a close"))
    }
}

impl<R, W: AsyncWrite + Unpin> Payloads<R, W> {
    /// Tries to write answers. An error is the writer's to report.
    fn reply(&mut self, cx: &mut Context<'_>) {
        if self.replying {
            let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            self.replying = writer.poll_replies(cx).is_pending();
        }
    }
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Payloads<R, W> {
    /// Reads into the buffer, of which less than a head is in use.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let filled = self.end == self.buffer.len();
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if filled && self.buffer.len() < MAX_BUFFER {
            let size = (self.buffer.len() * 2).clamp(FIRST_BUFFER, MAX_BUFFER);
            self.buffer.resize(size, 0);
        }
        let mut room = ReadBuf::new(&mut self.buffer[self.end..]);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut room))?;
        let read = room.filled().len();
        self.end += read;
        self.meter.add_rx(read);
        Poll::Ready(Ok(read))
    }

    /// Reads data to where it is wanted.
    fn poll_direct(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        let before = out.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, out))?;
        let new = &mut out.filled_mut()[before..];
        let read = new.len();
        self.meter.add_rx(read);
        if read > 0
            && let Err(violation) = self.messages.take_data(new)
        {
            out.set_filled(before);
            self.violated(violation);
        }
        Poll::Ready(Ok(read))
    }
}

impl<R, W> AsyncRead for Payloads<R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = out.filled().len();
        loop {
            this.unwrap_into(out);
            this.reply(cx);
            if out.filled().len() > before || out.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            if let Some(ending) = &this.ending {
                return Poll::Ready(this.end(ending));
            }
            let wanted = out.remaining();
            let direct = wanted >= DIRECT && this.messages.data_left() >= wanted as u64;
            let read = if direct { this.poll_direct(cx, out) } else { this.poll_fill(cx) };
            if ready!(read)? == 0 {
                return Poll::Ready(this.ended());
            }
        }
    }
}

impl<R, W> fmt::Debug for Payloads<R, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payloads")
            .field("remote", &self.remote)
            .field("messages", &self.messages)
            .finish_non_exhaustive()
    }
}

/// Where the buffer starts; idle connections are many.
const FIRST_BUFFER: usize = 4 * 1024;

/// Where it ends: some hundred small frames in one read, and little to copy of a large one.
const MAX_BUFFER: usize = 32 * 1024;

/// From here on a read of its own, which ends with the frame, is cheaper than a copy.
const DIRECT: usize = 4 * 1024;
