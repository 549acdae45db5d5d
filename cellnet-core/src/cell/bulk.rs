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
    #[error("more than {0} headers")]
    TooManyHeaders(usize),
}

/// The reference sends at most 100.
const MAX_MESSAGES: usize = 100;

/// Outer headers, each of which every message may get a copy of.
const MAX_OUTER: usize = 32;

/// Headers of one message in a bulk message; the reference sends some five.
const MAX_INNER: usize = 64;

/// What the carrier says about each message too.
const CARRIED: [&str; 10] = [
    cn::ORIGIN,
    cn::DESTINATION,
    cn::FROM,
    cn::TO,
    cn::MSG_TYPE,
    cn::REPLY_EXPECTED,
    cn::SECURE,
    cn::OPTIONAL,
    cn::ROUTE,
    cn::SEND_TIME,
];

/// The messages of a bulk message with their channels and topics. What the outer headers say about the way, and what
/// an application added to them, such as proof of who sent it, goes over the inner ones.
/// Source: `fuel/f3/cellnet/core_cell.py`.
///
/// This runs in the reader of a link, so it takes and copies little whatever comes.
pub(crate) fn split(
    outer: &Headers,
    body: &Bytes,
) -> Result<Vec<(ByteString, ByteString, Message)>, BulkError> {
    if outer.len() > MAX_OUTER {
        return Err(BulkError::TooManyHeaders(MAX_OUTER));
    }
    let carried: Headers = outer.iter().filter_map(carried).collect();
    let document = fobs::decode(body, Limits::PAYLOAD)?.into_object()?;
    let entries = document.items().ok_or(BulkError::Missing("list of messages"))?;
    if entries.len() > MAX_MESSAGES {
        return Err(BulkError::TooMany);
    }
    entries.iter().map(|entry| one(&carried, entry)).collect()
}

/// A header of the whole that each of its messages gets.
fn carried((key, value): (Value, Value)) -> Option<(ByteString, Value)> {
    let Value::Str(key) = key else { return None };
    // The route is short by now; other lists may be as long as the headers.
    let nested = matches!(value, Value::Array(_) | Value::Map(_));
    let own = !key.starts_with("cn__") && !key.starts_with("sm__");
    (key == cn::ROUTE || !nested && (own || CARRIED.contains(&&*key))).then_some((key, value))
}

fn one(carried: &Headers, entry: &Object) -> Result<(ByteString, ByteString, Message), BulkError> {
    let text = |key: &'static str| match entry.get(key) {
        Some(Object::Str(text)) => Ok(text.clone()),
        _ => Err(BulkError::Missing(key)),
    };
    let (channel, topic) = (text("channel")?, text("topic")?);
    let message = entry.get("message").ok_or(BulkError::Missing("message"))?;
    let mut headers = match message.get("headers") {
        Some(Object::Map(own)) if own.len() > MAX_INNER => return Err(BulkError::TooManyHeaders(MAX_INNER)),
        Some(own) => Headers::try_from(Value::from(own))?,
        None => return Err(BulkError::Missing("headers")),
    };
    let encoding = headers.shared_text(cn::PAYLOAD_ENCODING);
    headers.extend(carried);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &'static str) -> Object {
        Object::Str(text.into())
    }

    fn bulk(entries: usize, headers: Vec<(Object, Object)>) -> Bytes {
        let message =
            Object::Map(vec![(text("headers"), Object::Map(headers)), (text("payload"), Object::Nil)]);
        let entry = Object::Map(vec![
            (text("channel"), text("task")),
            (text("topic"), text("t")),
            (text("message"), message),
        ]);
        fobs::encode(&fobs::Document::new(Object::List(vec![entry; entries])))
    }

    #[test]
    fn messages_get_what_the_carrier_says_about_the_way_and_no_other_header_of_its_own() {
        let outer: Headers = [
            (cn::ORIGIN, Value::text("site-1")),
            (cn::CHANNEL, Value::text(cn::CELLNET_CHANNEL)),
            (cn::TOPIC, Value::text(cn::BULK)),
            (cn::PAYLOAD_ENCODING, Value::text("fobs")),
            (cn::ROUTE, Value::Array(vec![Value::Array(vec![Value::text("site-1"), Value::F64(1.0)])])),
            ("token", Value::text("secret")),
            ("list", Value::Array(vec![Value::Nil; 1000])),
            (cn::ERROR, Value::text("no")),
        ]
        .into_iter()
        .collect();
        let own = vec![
            (text(cn::ORIGIN), text("forged")),
            (text("token"), text("forged")),
            (text(cn::PAYLOAD_ENCODING), text("none")),
            (text("app"), text("kept")),
        ];
        let messages = split(&outer, &bulk(2, own)).unwrap();
        assert_eq!(messages.len(), 2);
        for (channel, topic, message) in messages {
            assert_eq!((&*channel, &*topic), ("task", "t"));
            let found = |key| message.headers.text(key).map(|text| text.to_string());
            let expected = [
                (cn::ORIGIN, "site-1"),
                ("token", "secret"),
                ("app", "kept"),
                (cn::CHANNEL, "task"),
                (cn::TOPIC, "t"),
                (cn::PAYLOAD_ENCODING, "none"),
            ];
            for (key, value) in expected {
                assert_eq!(found(key).as_deref(), Some(value), "{key}");
            }
            assert_eq!(message.headers.get(cn::ROUTE), outer.get(cn::ROUTE));
            assert_eq!(message.headers.len(), expected.len() + 1);
        }
    }

    #[test]
    fn few_messages_and_few_headers_are_taken() {
        let many = |count: usize| (0..count).map(|at| (at.to_string(), Value::Nil)).collect::<Headers>();
        let own = |count: i64| {
            (0..count).map(|at| (Object::Str(at.to_string().into()), Object::Nil)).collect::<Vec<_>>()
        };
        assert_eq!(split(&many(32), &bulk(100, own(64))).unwrap().len(), 100);
        assert!(matches!(split(&many(32), &bulk(101, vec![])), Err(BulkError::TooMany)));
        assert!(matches!(split(&many(33), &bulk(1, vec![])), Err(BulkError::TooManyHeaders(32))));
        assert!(matches!(split(&many(1), &bulk(1, own(65))), Err(BulkError::TooManyHeaders(64))));
    }
}
