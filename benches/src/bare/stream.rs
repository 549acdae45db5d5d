//! Length-prefixed frames over a stream of bytes.

use std::any::Any;

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::way::{Load, Sink, Source};

/// Small frames are copied together and written at once; a large one goes out from where it is.
pub(super) struct StreamSource<W> {
    io: W,
    buffer: Vec<u8>,
    _open: Box<dyn Any + Send>,
}

impl<W> StreamSource<W> {
    pub(super) fn new(io: W) -> Self {
        Self::kept(io, ())
    }

    /// With what must stay open as long.
    pub(super) fn kept(io: W, open: impl Any + Send) -> Self {
        Self { io, buffer: Vec::new(), _open: Box::new(open) }
    }
}

#[async_trait]
impl<W: AsyncWrite + Unpin + Send + 'static> Source for StreamSource<W> {
    async fn send(&mut self, load: &Load, frames: usize) {
        let mut left = frames;
        while left > 0 {
            let now = left.min(load.batch);
            if now == 1 {
                let mut frame = load.head.clone().chain(load.body.clone());
                self.io.write_all_buf(&mut frame).await.expect("the far end reads");
            } else {
                for _ in 0..now {
                    self.buffer.extend_from_slice(&load.head);
                    self.buffer.extend_from_slice(&load.body);
                }
                self.io.write_all(&self.buffer).await.expect("the far end reads");
                self.buffer.clear();
            }
            self.io.flush().await.expect("the far end reads");
            left -= now;
        }
    }
}

/// Small frames are split off a read buffer; a large one is read into a buffer that the next one uses again.
pub(super) struct StreamSink<R> {
    io: R,
    buffer: BytesMut,
    body: Vec<u8>,
    _open: Box<dyn Any + Send>,
}

impl<R> StreamSink<R> {
    pub(super) fn new(io: R) -> Self {
        Self::kept(io, ())
    }

    /// With what must stay open as long.
    pub(super) fn kept(io: R, open: impl Any + Send) -> Self {
        Self { io, buffer: BytesMut::new(), body: Vec::new(), _open: Box::new(open) }
    }
}

impl<R: AsyncRead + Unpin + Send> StreamSink<R> {
    async fn take_small(&mut self, frames: usize) {
        let mut taken = 0;
        while taken < frames {
            while let Some(length) = self.buffer.first_chunk::<4>() {
                let length = u32::from_be_bytes(*length) as usize;
                if self.buffer.len() < length {
                    break;
                }
                std::hint::black_box(self.buffer.split_to(length).freeze());
                taken += 1;
            }
            if taken < frames {
                self.buffer.reserve(READ_BUFFER - self.buffer.len().min(READ_BUFFER / 2));
                let read = self.io.read_buf(&mut self.buffer).await;
                assert_ne!(read.expect("the near end writes"), 0);
            }
        }
    }

    async fn take_large(&mut self) {
        let mut head = [0; 16];
        self.io.read_exact(&mut head).await.expect("the near end writes");
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize - head.len();
        self.body.resize(length, 0);
        self.io.read_exact(&mut self.body).await.expect("the near end writes");
        std::hint::black_box(&self.body);
    }
}

#[async_trait]
impl<R: AsyncRead + Unpin + Send + 'static> Sink for StreamSink<R> {
    async fn take(&mut self, load: &Load, frames: usize) {
        if load.batch > 1 {
            return self.take_small(frames).await;
        }
        for _ in 0..frames {
            self.take_large().await;
        }
    }
}

/// A stream to write, of which the peer has heard.
pub(super) async fn opened(connection: &quinn::Connection) -> quinn::SendStream {
    let mut tx = connection.open_uni().await.expect("one stream is allowed");
    tx.write_all(b"!").await.expect("the far end reads");
    tx
}

/// The stream that the peer opened.
pub(super) async fn taken(connection: &quinn::Connection) -> quinn::RecvStream {
    let mut rx = connection.accept_uni().await.expect("a stream comes");
    assert_eq!(rx.read_u8().await.expect("it says so"), b'!');
    rx
}

/// What drivers read into.
const READ_BUFFER: usize = 64 * 1024;
