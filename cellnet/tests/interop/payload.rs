//! Payloads that both sides can make and describe, as `tests/python/common.py` does.

use bytes::Bytes;
use cellnet_core::{
    fobs::{self, Document, Object},
    message::Payload,
    wire::Limits,
};
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

/// All that a payload can be to an application.
pub(crate) const KINDS: [&str; 4] = ["none", "bytes", "str", "dict"];

/// A payload of a kind with `size` bytes of data that depend on the number.
pub(crate) fn payload(kind: &str, size: usize, number: usize) -> Payload {
    match kind {
        "none" => Payload::None,
        "bytes" => pattern(size, number).into(),
        "str" => {
            let text =
                pattern(size, number).iter().map(|byte| char::from(32 + byte % 90)).collect::<String>();
            object(text.into())
        }
        "dict" => object(Object::from_iter([
            ("number", Object::from(i64::try_from(number).expect("a small number"))),
            ("float", 0.5.into()),
            ("text", "Grüße".into()),
            ("nothing", Object::Nil),
            ("yes", true.into()),
            ("list", vec![1.into(), (-2).into(), (1_i64 << 40).into()].into()),
            ("map", Object::from_iter([("key", "value")])),
            ("data", pattern(size, number).into()),
        ])),
        other => panic!("no such kind of payload: {other}"),
    }
}

/// Bytes that repeat after a prime number, so that lost or swapped chunks show.
pub(crate) fn pattern(size: usize, number: usize) -> Bytes {
    let period: Vec<u8> = (0..251).cycle().skip(number % 251).take(251).collect();
    let mut data = period.repeat(size.div_ceil(period.len()));
    data.truncate(size);
    data.into()
}

/// An object in its encoding.
pub(crate) fn object(object: Object) -> Payload {
    Payload::Fobs(fobs::encode(&Document::new(object)))
}

/// JSON as an object in its encoding.
pub(crate) fn from_json(json: &Json) -> Payload {
    object(to_object(json))
}

fn to_object(json: &Json) -> Object {
    match json {
        Json::Null => Object::Nil,
        Json::Bool(value) => (*value).into(),
        Json::Number(number) => number.as_i64().map_or_else(|| number.as_f64().into(), Object::from),
        Json::String(text) => text.as_str().into(),
        Json::Array(items) => items.iter().map(to_object).collect::<Vec<_>>().into(),
        Json::Object(fields) => fields.iter().map(|(key, value)| (key.as_str(), to_object(value))).collect(),
    }
}

/// What a payload decodes to.
pub(crate) fn decoded(payload: &Payload) -> Object {
    match payload {
        Payload::None => Object::Nil,
        Payload::Bytes(bytes) => bytes.clone().into(),
        Payload::Fobs(bytes) => {
            let document = fobs::decode(bytes, Limits::PAYLOAD).expect("a payload that decodes");
            document.into_object().expect("a payload with all its data")
        }
    }
}

/// What is in a payload, in the words of `common.describe`.
pub(crate) fn describe(payload: &Payload) -> Json {
    describe_object(&decoded(payload))
}

pub(crate) fn describe_object(object: &Object) -> Json {
    let data = |kind: &str, bytes: &[u8]| json!({"type": kind, "size": bytes.len(), "sha256": sha256(bytes)});
    match object {
        Object::Nil => json!({"type": "NoneType", "value": null}),
        Object::Bool(value) => json!({"type": "bool", "value": value}),
        Object::Int(value) => json!({"type": "int", "value": value}),
        Object::F64(value) => json!({"type": "float", "value": value}),
        Object::Str(text) => data("str", text.as_bytes()),
        Object::Bin(bytes) => data("bytes", bytes),
        Object::List(items) => {
            json!({"type": "list", "items": items.iter().map(describe_object).collect::<Vec<_>>()})
        }
        Object::Map(pairs) => {
            let items = pairs.iter().map(|(key, value)| (key_text(key), describe_object(value)));
            json!({"type": "dict", "items": items.collect::<serde_json::Map<_, _>>()})
        }
        other => panic!("not described: {other:?}"),
    }
}

/// A payload without binary data as JSON.
pub(crate) fn to_json(payload: &Payload) -> Json {
    plain(&decoded(payload))
}

fn plain(object: &Object) -> Json {
    match object {
        Object::Nil => Json::Null,
        Object::Bool(value) => json!(value),
        Object::Int(value) => json!(value),
        Object::F64(value) => json!(value),
        Object::Str(text) => json!(&**text),
        Object::List(items) | Object::Tuple(items) => items.iter().map(plain).collect(),
        Object::Map(pairs) => pairs.iter().map(|(key, value)| (key_text(key), plain(value))).collect(),
        other => panic!("no JSON: {other:?}"),
    }
}

fn key_text(key: &Object) -> String {
    key.as_str().expect("keys are text").to_owned()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
