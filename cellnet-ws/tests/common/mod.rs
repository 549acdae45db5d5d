//! A WebSocket client that says what it likes.

#![allow(dead_code, reason = "each test file uses a part")]

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The request of a client.
pub(crate) const UPGRADE: &str = "GET /f3 HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: sH4VrDfurCapHIFadd+/+Q==\r\n\r\n";

/// Sends a request and reads the head of the answer.
pub(crate) async fn ask(io: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &str) -> io::Result<String> {
    io.write_all(request.as_bytes()).await?;
    io.flush().await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if io.read(&mut byte).await? == 0 {
            break;
        }
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// A frame as a client writes it, masked by a key if there is one.
pub(crate) fn ws_frame(first: u8, payload: &[u8], key: Option<[u8; 4]>) -> Vec<u8> {
    let mut bytes = ws_head(first, payload.len() as u64, key);
    let key = key.unwrap_or_default();
    bytes.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]));
    bytes
}

/// The head alone, with any length.
pub(crate) fn ws_head(first: u8, len: u64, key: Option<[u8; 4]>) -> Vec<u8> {
    let masked = if key.is_some() { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match len {
        0..126 => bytes.push(masked | len as u8),
        126..65536 => {
            bytes.push(masked | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        _ => {
            bytes.push(masked | 127);
            bytes.extend(len.to_be_bytes());
        }
    }
    bytes.extend(key.unwrap_or_default().iter().take(if key.is_some() { 4 } else { 0 }));
    bytes
}

/// Puts frames that are written to it, in whatever parts, into fragments of messages.
#[derive(Debug)]
pub(crate) struct Wrapping<S> {
    inner: S,
    /// Bytes left of the frame that is being written, once its length is known.
    frame: Vec<u8>,
    total: usize,
    begun: bool,
    count: usize,
    /// Wrapped and not yet written, for so many bytes that were given.
    out: Vec<u8>,
    taken: usize,
}

impl<S> Wrapping<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner, frame: Vec::new(), total: 0, begun: false, count: 0, out: Vec::new(), taken: 0 }
    }

    fn wrap(&mut self, bytes: &[u8]) {
        let sizes = [1, 2, 13, 125, 126, 4096, 65_536];
        let mut rest = bytes;
        while !rest.is_empty() {
            self.count += 1;
            let mut len = sizes[self.count % sizes.len()].min(rest.len());
            // The first four bytes say where the frame ends; until then one at a time.
            if self.frame.len() < 4 {
                len = 1;
            } else {
                let length = u32::from_be_bytes(self.frame[..4].try_into().unwrap()) as usize;
                len = len.min(length.max(16) - self.total);
            }
            let (part, after) = rest.split_at(len);
            self.frame.extend(part.iter().take(4 - self.frame.len().min(4)));
            self.total += len;
            let known = <[u8; 4]>::try_from(&self.frame[..]).ok();
            let last = known.is_some_and(|length| self.total == u32::from_be_bytes(length) as usize);
            let first = if last { 0x80 } else { 0 } | if self.begun { 0 } else { 2 };
            let key = [self.count as u8, 7, 200, 99];
            self.out.extend(ws_frame(first, part, Some(key)));
            self.begun = !last;
            if last {
                self.frame.clear();
                self.total = 0;
            }
            rest = after;
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wrapping<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.taken == 0 {
            this.wrap(bytes);
            this.taken = bytes.len();
        }
        while !this.out.is_empty() {
            let written = ready!(Pin::new(&mut this.inner).poll_write(cx, &this.out))?;
            this.out.drain(..written);
        }
        Poll::Ready(Ok(std::mem::take(&mut this.taken)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
