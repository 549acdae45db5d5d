//! What is written on a lane: messages and signals as frames.

use std::{
    cell::RefCell,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use bytes::{BufMut, Bytes, BytesMut};

use super::{Outgoing, outbox::Signals};
use crate::{
    transport::{Batch, Frame},
    wire::{FrameKind, HeadEncoder, HeadersError, MAX_FRAME, MAX_HEADERS, PREFIX_LEN, Prefix},
};

/// Numbers the frames of a connection, as the reference does; nobody checks them.
#[derive(Debug)]
pub(super) struct Numbers {
    sequence: AtomicU32,
    stream: AtomicU32,
}

impl Default for Numbers {
    fn default() -> Self {
        // HELLO or READY took sequence 1; stream ids of endpoints start at 17.
        Self { sequence: AtomicU32::new(2), stream: AtomicU32::new(17) }
    }
}

impl Numbers {
    fn next_stream(&self) -> u16 {
        self.stream.fetch_add(1, Relaxed) as u16
    }

    fn next_sequence(&self) -> u16 {
        self.sequence.fetch_add(1, Relaxed) as u16
    }
}

/// Appends the frames of signals.
pub(super) fn push_signals(signals: Signals, batch: &mut Batch, numbers: &Numbers) {
    let kinds = [(signals.ping, FrameKind::Ping), (signals.pong, FrameKind::Pong)];
    for (_, kind) in kinds.into_iter().filter(|(wanted, _)| *wanted) {
        batch.push_back(bare_frame(kind, numbers.next_stream(), numbers.next_sequence(), NIL));
    }
}

/// Why a message cannot be a frame.
#[derive(Debug, thiserror::Error)]
pub(super) enum EncodeError {
    #[error(transparent)]
    Headers(#[from] HeadersError),
    #[error("frame of {0} bytes exceeds the {MAX_FRAME} of the protocol")]
    TooLong(usize),
}

/// The frame of a message.
pub(super) fn frame(
    message: &Outgoing,
    heads: &mut HeadEncoder,
    numbers: &Numbers,
) -> Result<Frame, EncodeError> {
    // Most bodies are so short that the headers need not be measured.
    if message.body.len() > MAX_FRAME - PREFIX_LEN - MAX_HEADERS {
        let full = PREFIX_LEN + message.headers.encoded_len() + message.body.len();
        if full > MAX_FRAME {
            return Err(EncodeError::TooLong(full));
        }
    }
    SPACE.with_borrow_mut(|space| {
        if space.capacity() < PREFIX_LEN + USUAL_HEAD {
            *space = BytesMut::with_capacity(SPACE_BYTES);
        }
        space.put_bytes(0, PREFIX_LEN);
        heads.encode(&message.headers, message.body.len(), space).inspect_err(|_| space.clear())?;
        let header_len = space.len() - PREFIX_LEN;
        let prefix = Prefix {
            length: u32::try_from(space.len() + message.body.len()).expect("checked against MAX_FRAME"),
            header_len: u16::try_from(header_len).expect("checked by the headers"),
            kind: FrameKind::Data.code(),
            app_id: Prefix::APP_CELL,
            stream_id: numbers.next_stream(),
            sequence: numbers.next_sequence(),
            ..Prefix::default()
        };
        prefix.write_to(space.first_chunk_mut::<PREFIX_LEN>().expect("it was put there"));
        Ok(Frame::new(space.split().freeze(), message.body.clone()))
    })
}

thread_local! {
    /// Heads are pieces of this, many to one allocation.
    static SPACE: RefCell<BytesMut> = RefCell::default();
}

/// Few enough that a head which is kept holds little else.
const SPACE_BYTES: usize = 16 * 1024;

/// What most heads fit into.
const USUAL_HEAD: usize = 1024;

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
