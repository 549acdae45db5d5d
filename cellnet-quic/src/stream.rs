//! One QUIC stream as a byte stream that ends in order or not at all.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use quinn::{ConnectionError, ReadError, RecvStream, SendStream, StoppedError, VarInt};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// Every lane ended in order.
pub(crate) const DONE: VarInt = VarInt::from_u32(0);
/// This side left without ending its lanes.
pub(crate) const GONE: VarInt = VarInt::from_u32(1);
/// The lanes were not opened as they should be.
pub(crate) const WRONG_LANES: VarInt = VarInt::from_u32(2);

/// The connection of all halves of all lanes. Closes when the last is dropped.
#[derive(Debug)]
pub(crate) struct Trunk {
    pub(crate) connection: quinn::Connection,
    /// Lanes whose sending half has not ended in order.
    sending: AtomicUsize,
    /// Lanes whose end has not been read.
    reading: AtomicUsize,
}

impl Trunk {
    pub(crate) fn new(connection: quinn::Connection, lanes: usize) -> Arc<Self> {
        let [sending, reading] = [lanes; 2].map(AtomicUsize::new);
        Arc::new(Self { connection, sending, reading })
    }
}

impl Drop for Trunk {
    fn drop(&mut self) {
        // Who leaves because the peer has left is in order too.
        if self.sending.load(Relaxed) == 0 || self.reading.load(Relaxed) == 0 {
            self.connection.close(DONE, b"done");
        } else {
            self.connection.close(GONE, b"gone");
        }
    }
}

/// The sending half. Shutting it down waits until the peer has everything; dropped before, it is reset.
pub(crate) struct Writer {
    stream: SendStream,
    trunk: Arc<Trunk>,
    patience: Duration,
    end: End,
}

enum End {
    Open,
    Closing(Closing),
    Done,
}

struct Closing {
    stopped: Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send + Sync>>,
    late: Pin<Box<Sleep>>,
}

impl Writer {
    pub(crate) fn new(stream: SendStream, trunk: Arc<Trunk>, patience: Duration) -> Self {
        Self { stream, trunk, patience, end: End::Open }
    }
}

impl AsyncWrite for Writer {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes).map_err(Into::into)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was written is on its way.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match &mut self.end {
                End::Done => return Poll::Ready(Ok(())),
                End::Open => {
                    // An error says that it was finished before.
                    let _ = self.stream.finish();
                    let stopped = Box::pin(self.stream.stopped());
                    let late = Box::pin(sleep(self.patience));
                    self.end = End::Closing(Closing { stopped, late });
                }
                End::Closing(closing) => {
                    let end = match closing.stopped.as_mut().poll(cx) {
                        Poll::Ready(Ok(None)) => Ok(()),
                        Poll::Ready(Ok(Some(_))) => Err(io::ErrorKind::BrokenPipe.into()),
                        Poll::Ready(Err(error)) => Err(error.into()),
                        Poll::Pending => {
                            ready!(closing.late.as_mut().poll(cx));
                            Err(io::ErrorKind::TimedOut.into())
                        }
                    };
                    if end.is_ok() {
                        self.end = End::Done;
                        self.trunk.sending.fetch_sub(1, Relaxed);
                    }
                    return Poll::Ready(end);
                }
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !matches!(self.end, End::Done) && self.trunk.reading.load(Relaxed) > 0 {
            // Or the peer would take what it has for everything. It fails if the peer has stopped the stream.
            let _ = self.stream.reset(GONE);
        }
    }
}

/// The receiving half.
pub(crate) struct Reader {
    stream: RecvStream,
    trunk: Arc<Trunk>,
    ended: bool,
}

impl Reader {
    pub(crate) fn new(stream: RecvStream, trunk: Arc<Trunk>) -> Self {
        Self { stream, trunk, ended: false }
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match ready!(self.stream.poll_read_buf(cx, buf)) {
            Ok(()) if buf.filled().len() > before || buf.remaining() == 0 => return Poll::Ready(Ok(())),
            Ok(()) => {}
            // The peer saw all our lanes end and left. Before, it is no order: quinn says the same of who just goes.
            Err(ReadError::ConnectionLost(ConnectionError::ApplicationClosed(close)))
                if close.error_code == DONE && self.trunk.sending.load(Relaxed) == 0 => {}
            Err(error) => return Poll::Ready(Err(error.into())),
        }
        if !std::mem::replace(&mut self.ended, true) {
            self.trunk.reading.fetch_sub(1, Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}
