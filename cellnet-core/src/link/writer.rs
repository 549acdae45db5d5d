//! Writes one lane.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use bytes::{Bytes, BytesMut};

use super::{Link, LinkError, Links, Outgoing, liveness::unless_stalled, outbox::Signals};
use crate::{
    transport::{Batch, Frame, FrameSender},
    wire::{FrameKind, HeadersError, MAX_FRAME, PREFIX_LEN, Prefix},
};

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

/// Writes one lane until its outbox is closed and empty. Sole owner of the sending half.
pub(super) async fn write_lane(
    links: Arc<Links>,
    link: Arc<Link>,
    lane: usize,
    mut tx: Box<dyn FrameSender>,
    counters: Arc<Counters>,
) -> Result<(), LinkError> {
    let stall = links.config.stall;
    let meter = tx.meter().unwrap_or_else(|| link.info.meter.clone());
    let mut taken = Taken { messages: Vec::new(), link: &link };
    let (mut batch, mut heads) = (Batch::new(), BytesMut::new());
    while let Some(signals) = link.outbox.take(lane, &mut taken.messages).await {
        push_signals(signals, &mut batch, &counters);
        for message in &taken.messages {
            match encode(message, &counters, &mut heads) {
                Ok(frame) => batch.push_back(frame),
                Err(error) => {
                    links.counters.dropped.add(1);
                    tracing::warn!(peer = %link.peer, %error, "message dropped");
                }
            }
        }
        while !batch.is_empty() {
            tx.feed(&mut batch);
            unless_stalled(&meter, stall, tx.flush()).await?;
        }
        taken.messages.clear();
    }
    unless_stalled(&meter, stall, tx.close()).await
}

/// What the writer is busy with; if it is stopped, others must learn what became of it.
struct Taken<'a> {
    messages: Vec<Outgoing>,
    link: &'a Link,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.link.outbox.give_back(&mut self.messages);
    }
}

fn push_signals(signals: Signals, batch: &mut Batch, counters: &Counters) {
    let kinds = [(signals.ping, FrameKind::Ping), (signals.pong, FrameKind::Pong)];
    for (_, kind) in kinds.into_iter().filter(|(wanted, _)| *wanted) {
        let stream = counters.stream.fetch_add(1, Relaxed) as u16;
        batch.push_back(bare_frame(kind, stream, counters.next_sequence(), NIL));
    }
}

/// MessagePack nil, the payload of PING and PONG.
pub(super) const NIL: Bytes = Bytes::from_static(&[0xc0]);

/// A frame without headers.
pub(super) fn bare_frame(kind: FrameKind, stream_id: u16, sequence: u16, payload: Bytes) -> Frame {
    let length = u32::try_from(PREFIX_LEN + payload.len()).expect("handshake payloads are small");
    let prefix = Prefix { length, kind: kind.code(), stream_id, sequence, ..Prefix::default() };
    let mut head = BytesMut::with_capacity(PREFIX_LEN);
    prefix.encode(&mut head);
    Frame::new(head.freeze(), payload)
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
