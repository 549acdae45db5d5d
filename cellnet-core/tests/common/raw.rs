//! A peer over `mem://` that writes what it likes.

#![allow(dead_code, reason = "every test binary uses a part")]

use bytes::BytesMut;
use cellnet_core::{
    testkit::sim::Sim,
    transport::{
        Batch, ConnectionInfo, FrameReceiver, TransportError,
        framed::FramedReceiver,
        mem::{MemReader, MemWriter},
    },
    wire::{
        Frame, FrameKind, Headers, PREFIX_LEN, Prefix,
        hello::{Cellnet, Hello},
        keys::cn,
    },
};
use tokio::io::AsyncWriteExt;

/// One end of a connection, without any manners.
pub(crate) struct Raw {
    rx: FramedReceiver<MemReader>,
    tx: MemWriter,
    batch: Batch,
}

impl Raw {
    pub(crate) async fn connect(sim: &Sim) -> Self {
        let (rx, tx) = sim.net.connect_raw(&"mem://server".parse().unwrap()).await.unwrap();
        let info = ConnectionInfo::new("raw", "server");
        let mut rx = FramedReceiver::new(rx, &info, cellnet_core::stats::Budget::new(64 << 20));
        rx.set_max_frame(64 << 20);
        Self { rx, tx, batch: Batch::new() }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        // The other side may have closed already, which the next read shows.
        let _ = self.tx.write_all(bytes).await;
    }

    pub(crate) async fn frame(&mut self, kind: FrameKind, app_id: u16, headers: &Headers, payload: &[u8]) {
        let mut bytes = BytesMut::new();
        if !headers.is_empty() {
            headers.encode(&mut bytes).unwrap();
        }
        let header_len = bytes.len();
        bytes.extend_from_slice(payload);
        let length = (PREFIX_LEN + bytes.len()) as u32;
        let mut frame = BytesMut::new();
        let kind = kind.code();
        Prefix { length, header_len: header_len as u16, kind, app_id, ..Prefix::default() }
            .encode(&mut frame);
        frame.extend_from_slice(&bytes);
        self.write(&frame).await;
    }

    pub(crate) async fn hello(&mut self, name: &str) {
        self.hello_as(name, None).await;
    }

    /// Says HELLO as a cellnet peer with these features, or as a stranger.
    pub(crate) async fn hello_as(&mut self, name: &str, features: Option<&[&str]>) {
        self.open(FrameKind::Hello, name, features).await;
        assert_eq!(self.next_kind().await, Some(FrameKind::Ready));
    }

    /// Opens with HELLO, or with READY, which nobody answers.
    pub(crate) async fn open(&mut self, kind: FrameKind, name: &str, features: Option<&[&str]>) {
        let cellnet = features.map(|features| Cellnet {
            features: features.iter().map(|feature| (*feature).into()).collect(),
            ..Cellnet::new([7; 16])
        });
        let hello = Hello { name: name.into(), cellnet, timestamp: 1.0 };
        self.frame(kind, 0, &Headers::new(), &hello.encode()).await;
    }

    /// The next frame, or nothing once the connection is closed.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        while self.batch.is_empty() {
            match self.rx.recv(&mut self.batch).await {
                Ok(()) => {}
                Err(TransportError::Closed | TransportError::Io { .. }) => return None,
                Err(error) => panic!("{error}"),
            }
        }
        self.batch.pop_front()
    }

    pub(crate) async fn next_kind(&mut self) -> Option<FrameKind> {
        self.next().await.map(|frame| frame.prefix().unwrap().frame_kind().unwrap())
    }

    pub(crate) async fn request(&mut self, origin: &str, body: &[u8], change: impl FnOnce(&mut Headers)) {
        let mut headers: Headers = [
            (cn::MSG_TYPE, "req"),
            (cn::ORIGIN, origin),
            (cn::DESTINATION, "server"),
            (cn::CHANNEL, "task"),
            (cn::TOPIC, "echo"),
            (cn::REQ_ID, "5a8a1c5e-43f0-4c83-8f0e-0a4a4b1cbb57"),
            (cn::PAYLOAD_ENCODING, "bytes"),
        ]
        .into_iter()
        .collect();
        headers.set(cn::REPLY_EXPECTED, true);
        change(&mut headers);
        self.frame(FrameKind::Data, Prefix::APP_CELL, &headers, body).await;
    }

    /// The return code of the next message.
    pub(crate) async fn reply(&mut self) -> Option<String> {
        loop {
            let frame = self.next().await?;
            if frame.prefix().unwrap().frame_kind() == Some(FrameKind::Data) {
                let headers = Headers::decode(&frame.head().slice(PREFIX_LEN..)).unwrap();
                return headers.text(cn::RETURN_CODE).map(ToString::to_string);
            }
        }
    }

    /// Whether a request still gets its reply.
    pub(crate) async fn is_alive(&mut self, origin: &str) -> bool {
        self.request(origin, b"x", |_| {}).await;
        self.reply().await.as_deref() == Some("ok")
    }

    /// A DATA frame with these bytes for a head.
    pub(crate) async fn head(&mut self, head: &[u8]) {
        let mut frame = BytesMut::new();
        let length = (PREFIX_LEN + head.len()) as u32;
        let kind = FrameKind::Data.code();
        let app_id = Prefix::APP_CELL;
        Prefix { length, header_len: head.len() as u16, kind, app_id, ..Prefix::default() }
            .encode(&mut frame);
        frame.extend_from_slice(head);
        self.write(&frame).await;
    }
}
