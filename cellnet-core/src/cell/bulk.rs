//! Messages that the reference collects and sends as one (`queue_message`).

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;

use crate::{
    fobs::{self, FobsError, Object},
    message::{Message, Payload},
    wire::{DecodeError, Headers, Limits, Value, keys::cn},
};

/// Why a bulk message is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BulkError {
    #[error("payload is no FOBS")]
    Fobs(#[from] FobsError),
    #[error("headers are damaged")]
    Headers(#[from] DecodeError),
    #[error("an entry has no {0}")]
    Missing(&'static str),
    #[error("more than {MAX_MESSAGES} messages in one")]
    TooMany,
}

/// The reference sends at most 100.
const MAX_MESSAGES: usize = 1000;

/// The messages of a bulk message with their channels and topics. The outer headers go over the inner ones.
/// Source: `fuel/f3/cellnet/core_cell.py`.
pub(crate) fn split(
    outer: &Headers,
    body: &Bytes,
) -> Result<Vec<(ByteString, ByteString, Message)>, BulkError> {
    let document = fobs::decode(body, Limits::PAYLOAD)?.into_object()?;
    let entries = document.items().ok_or(BulkError::Missing("list of messages"))?;
    if entries.len() > MAX_MESSAGES {
        return Err(BulkError::TooMany);
    }
    entries.iter().map(|entry| one(outer, entry)).collect()
}

fn one(outer: &Headers, entry: &Object) -> Result<(ByteString, ByteString, Message), BulkError> {
    let text = |key: &'static str| match entry.get(key) {
        Some(Object::Str(text)) => Ok(text.clone()),
        _ => Err(BulkError::Missing(key)),
    };
    let (channel, topic) = (text("channel")?, text("topic")?);
    let message = entry.get("message").ok_or(BulkError::Missing("message"))?;
    let inner = message.get("headers").ok_or(BulkError::Missing("headers"))?;
    let mut headers = Headers::try_from(Value::from(inner))?;
    let encoding = headers.text(cn::PAYLOAD_ENCODING).cloned();
    for (key, value) in outer.iter() {
        if let Some(key) = key.as_text() {
            headers.set(key.clone(), value.clone());
        }
    }
    headers.set(cn::CHANNEL, channel.clone());
    headers.set(cn::TOPIC, topic.clone());
    let payload = Payload::from_wire(encoding.as_deref(), joined(message.get("payload")));
    Ok((channel, topic, Message { headers, payload }))
}

/// A payload is bytes, nothing, or a list of bytes to be joined.
fn joined(payload: Option<&Object>) -> Bytes {
    match payload {
        Some(Object::Bin(bytes)) => bytes.clone(),
        Some(Object::List(pieces)) => {
            let mut joined = BytesMut::new();
            pieces.iter().filter_map(Object::as_bin).for_each(|piece| joined.extend_from_slice(piece));
            joined.freeze()
        }
        _ => Bytes::new(),
    }
}
