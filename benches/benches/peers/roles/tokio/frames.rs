//! Frames with their lengths, of a connection that is read and written in large pieces.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A connection, what of it was read and not taken, and what is to be written.
pub(super) struct Frames {
    stream: TcpStream,
    held: BytesMut,
    out: Vec<u8>,
}

impl Frames {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, held: BytesMut::new(), out: Vec::new() }
    }

    /// A frame as it travels.
    pub(super) fn encoded(body: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        encode(body, &mut frame);
        frame
    }

    /// The next frame of what was read.
    pub(super) fn next_held(&mut self) -> Option<BytesMut> {
        let length = u32::from_be_bytes(*self.held.first_chunk()?) as usize;
        if self.held.len() < HEAD + length {
            return None;
        }
        self.held.advance(HEAD);
        Some(self.held.split_to(length))
    }

    /// Waits for more to come.
    pub(super) async fn read_more(&mut self) -> io::Result<()> {
        self.held.reserve(READ);
        match self.stream.read_buf(&mut self.held).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Adds a frame to what the next flush writes.
    pub(super) fn put(&mut self, body: &[u8]) {
        encode(body, &mut self.out);
    }

    pub(super) async fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.out).await?;
        self.out.clear();
        Ok(())
    }

    /// Writes frames that are encoded, after what was put before.
    pub(super) async fn write(&mut self, frames: &[u8]) -> io::Result<()> {
        self.flush().await?;
        self.stream.write_all(frames).await
    }
}

fn encode(body: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(body.len()).expect("frames of benches are small");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(body);
}

/// Bytes of a length.
pub(super) const HEAD: usize = 4;

/// What is read at once.
const READ: usize = 64 << 10;
