//! A TCP connection that says what it likes.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cellnet_core::{
    stats::Budget,
    transport::{Batch, ConnectionInfo, FrameReceiver, framed::FramedReceiver},
    wire::{
        FrameKind, Headers, PREFIX_LEN, Prefix,
        hello::Hello,
        keys::{cn, sm},
    },
};
use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

/// A connection without manners.
#[derive(Debug)]
pub(crate) struct Raw {
    rx: FramedReceiver<OwnedReadHalf>,
    tx: OwnedWriteHalf,
    batch: Batch,
}

/// For anything that must come.
const PATIENCE: Duration = Duration::from_secs(30);

impl Raw {
    pub(crate) async fn connect(url: &str) -> Self {
        let address = url.strip_prefix("tcp://").expect("a TCP URL");
        let (rx, tx) = TcpStream::connect(address).await.expect("the server listens").into_split();
        let mut rx = FramedReceiver::new(rx, &ConnectionInfo::new("raw", address), Budget::new(64 << 20));
        rx.set_max_frame(64 << 20);
        Self { rx, tx, batch: Batch::new() }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.tx.write_all(bytes).await.expect("the server takes it");
    }

    /// Whether all of it was taken.
    pub(crate) async fn try_write(&mut self, bytes: &[u8]) -> bool {
        self.tx.write_all(bytes).await.is_ok()
    }

    pub(crate) async fn hello(&mut self, name: &str) {
        self.write(&hello(name)).await;
        timeout(PATIENCE, self.rx.recv(&mut self.batch)).await.expect("READY comes").expect("READY comes");
        self.batch.clear();
    }

    pub(crate) async fn data(&mut self, headers: &Headers, body: &[u8]) {
        let frame = frame(headers, body);
        self.write(&frame).await;
    }

    /// A message whose header block is these bytes.
    pub(crate) async fn data_raw(&mut self, block: &[u8], body: &[u8]) {
        let frame = encode(FrameKind::Data, Prefix::APP_CELL, block, body);
        self.write(&frame).await;
    }

    /// The next message; nothing once the connection is closed.
    pub(crate) async fn next_data(&mut self) -> Option<(Headers, Bytes)> {
        loop {
            while let Some(frame) = self.batch.pop_front() {
                if frame.prefix().ok()?.frame_kind() == Some(FrameKind::Data) {
                    let (head, body) = frame.into_parts();
                    return Some((Headers::decode(&head.slice(PREFIX_LEN..)).expect("valid headers"), body));
                }
            }
            timeout(PATIENCE, self.rx.recv(&mut self.batch)).await.expect("something comes").ok()?;
        }
    }

    /// Waits until the server has closed the connection.
    pub(crate) async fn closed(&mut self) {
        while self.rx.recv(&mut self.batch).await.is_ok() {
            self.batch.clear();
        }
    }
}

/// A frame that says who comes.
pub(crate) fn hello(name: &str) -> Vec<u8> {
    let hello = Hello { name: name.into(), cellnet: None, timestamp: 1.0 }.encode();
    encode(FrameKind::Hello, 0, &[], &hello)
}

/// Headers of a request to the server.
pub(crate) fn request(
    origin: &str,
    channel: &str,
    topic: &str,
    change: impl FnOnce(&mut Headers),
) -> Headers {
    let mut headers: Headers = [
        (cn::MSG_TYPE, "req"),
        (cn::ORIGIN, origin),
        (cn::DESTINATION, "server"),
        (cn::CHANNEL, channel),
        (cn::TOPIC, topic),
        (cn::REQ_ID, "5a8a1c5e-43f0-4c83-8f0e-0a4a4b1cbb57"),
        (cn::PAYLOAD_ENCODING, "bytes"),
    ]
    .into_iter()
    .collect();
    headers.set(cn::REPLY_EXPECTED, true);
    change(&mut headers);
    headers
}

/// Headers of a stream that asks for a reply.
pub(crate) fn stream_headers(headers: &mut Headers, channel: &str, id: i64) {
    headers.set(cn::REPLY_EXPECTED, false);
    headers.set(sm::ID, id);
    headers.set(sm::CHANNEL, channel);
    headers.set(sm::TOPIC, "t");
    headers.set(sm::REQ_ID, "7e7c2a8e-6a6f-4b1b-9a53-0a4a4b1cbb57");
    headers.set(sm::PAYLOAD_ENCODING, "bytes");
}

/// A whole message.
pub(crate) fn frame(headers: &Headers, body: &[u8]) -> Vec<u8> {
    let mut block = BytesMut::new();
    headers.encode(&mut block).expect("they fit");
    encode(FrameKind::Data, Prefix::APP_CELL, &block, body)
}

fn encode(kind: FrameKind, app_id: u16, block: &[u8], body: &[u8]) -> Vec<u8> {
    let length = (PREFIX_LEN + block.len() + body.len()) as u32;
    let prefix =
        Prefix { length, header_len: block.len() as u16, kind: kind.code(), app_id, ..Prefix::default() };
    let mut frame = BytesMut::new();
    prefix.encode(&mut frame);
    frame.extend_from_slice(block);
    frame.extend_from_slice(body);
    frame.to_vec()
}
