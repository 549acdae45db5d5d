//! What was recorded from the reference, for tests.

use bytes::Bytes;
use cellnet_core::message::Payload;
use serde_json::Value as Json;

/// Everything that was recorded.
pub(super) fn golden() -> Json {
    serde_json::from_str(include_str!("../../tests/data/download.json")).expect("it is JSON")
}

/// A payload in hex.
pub(super) fn payload(hex: &Json) -> Payload {
    let hex = hex.as_str().expect("it is text");
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("it is hex");
    Payload::Fobs((0..hex.len()).step_by(2).map(byte).collect::<Bytes>())
}
