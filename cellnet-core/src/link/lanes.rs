//! Which lane a message takes.
//!
//! Control carries what must never wait behind bulk: small plain messages, ACKs, errors, and blobs that fit into one
//! small chunk. All chunks of a longer stream share one bulk lane, so their order holds. Large plain messages have no mutual
//! order and are spread over the bulk lanes.

use std::hash::{DefaultHasher, Hash, Hasher};

use bytestring::ByteString;

use crate::wire::{
    Headers,
    keys::{cn, sm},
};

/// Largest body on the control lane.
const CONTROL_BODY: usize = 64 * 1024;

const FINAL: u64 = 2;
const ACK: u64 = 3;
const ERROR: u64 = 6;

/// Where a message belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Class {
    /// The control lane.
    Control,
    /// The control lane, in place of an older ACK of the same stream that still waits.
    Ack(Box<AckKey>),
    /// One of the bulk lanes, chosen by this number.
    Bulk(u64),
}

/// Whose stream an ACK is about: the sender of the stream, who gets the ACK, the receiver, who makes it, and the id.
pub(crate) type AckKey = (ByteString, ByteString, u64);

/// Chooses by the headers and the size of the body.
pub(crate) fn classify(headers: &Headers, body: usize) -> Class {
    let text = |key: &str| headers.shared_text(key).unwrap_or_default();
    let is_stream = headers.is_on(sm::STREAM_CHANNEL);
    if !is_stream {
        return if body <= CONTROL_BODY {
            Class::Control
        } else {
            Class::Bulk(lane_of(&text(cn::ORIGIN), &text(cn::REQ_ID)))
        };
    }
    let number = |key: &str| headers.uint(key);
    let id = number(sm::ID).unwrap_or_default();
    match number(sm::DATA_TYPE) {
        Some(ACK) if body == 0 => Class::Ack(Box::new((text(cn::DESTINATION), text(cn::ORIGIN), id))),
        Some(ERROR) if body <= CONTROL_BODY => Class::Control,
        Some(FINAL) if number(sm::SEQUENCE) == Some(0) && body <= CONTROL_BODY => Class::Control,
        _ => Class::Bulk(lane_of(&text(cn::ORIGIN), &id)),
    }
}

fn lane_of(origin: &str, id: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    (origin, id).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(kind: i64, sequence: i64) -> Headers {
        let mut headers: Headers = [(cn::CHANNEL, sm::STREAM_CHANNEL)].into_iter().collect();
        headers.set(sm::DATA_TYPE, kind);
        headers.set(sm::SEQUENCE, sequence);
        headers.set(sm::ID, 7_i64);
        headers
    }

    #[test]
    fn large_plain_messages_spread_over_lanes() {
        let class = |id: &str| {
            let headers = [(cn::ORIGIN, "server"), (cn::REQ_ID, id)].into_iter().collect();
            classify(&headers, 1 << 20)
        };
        assert_eq!(class("a"), class("a"));
        assert_ne!(class("a"), class("b"));
    }

    #[test]
    fn chunks_go_by_stream_and_the_rest_by_size() {
        assert_eq!(classify(&Headers::new(), CONTROL_BODY), Class::Control);
        assert!(matches!(classify(&Headers::new(), CONTROL_BODY + 1), Class::Bulk(_)));
        assert_eq!(classify(&stream(2, 0), 10), Class::Control);
        assert_eq!(classify(&stream(2, 1), 10), classify(&stream(1, 0), 10));
        assert!(matches!(classify(&stream(2, 0), CONTROL_BODY + 1), Class::Bulk(_)));
        assert!(matches!(classify(&stream(3, 0), 0), Class::Ack(_)));
        assert_eq!(classify(&stream(6, 0), 0), Class::Control);
    }
}
