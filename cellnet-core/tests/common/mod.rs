//! Reads the captured data in `tests/data` and compares values with it.
//!
//! Bytes are in hex. JSON stands for values: `{"$bin": hex}` or length and hash for binary data, `{"$map": [[k, v]]}`
//! for dicts with keys that are no text, `{"$f64": "nan"}` for what JSON has no number for.

#![allow(dead_code, reason = "every test binary uses a part")]

use bytes::Bytes;
use cellnet_core::{
    fobs::{DatumValue, Object},
    wire::Value,
};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

pub(crate) fn wire() -> Json {
    serde_json::from_str(include_str!("../data/wire.json")).unwrap()
}

pub(crate) fn fobs() -> Json {
    serde_json::from_str(include_str!("../data/fobs.json")).unwrap()
}

pub(crate) fn arrays() -> Json {
    serde_json::from_str(include_str!("../data/arrays.json")).unwrap()
}

/// The cases of a group, of which there are so many.
pub(crate) fn cases<'a>(data: &'a Json, group: &str, count: usize) -> &'a [Json] {
    let cases = data[group].as_array().unwrap();
    assert_eq!(cases.len(), count, "cases of {group}");
    cases
}

pub(crate) fn name(case: &Json) -> &str {
    case["name"].as_str().unwrap()
}

/// The bytes of a case.
pub(crate) fn bytes(case: &Json) -> Bytes {
    hex(case["hex"].as_str().unwrap()).into()
}

pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

/// Whether a value is what the JSON stands for.
pub(crate) fn same(value: &Value, json: &Json) -> bool {
    match (value, json) {
        (Value::Nil, Json::Null) => true,
        (Value::Bool(value), Json::Bool(json)) => value == json,
        (Value::Int(value), Json::Number(json)) => Some(*value) == json.as_i64(),
        (Value::Uint(value), Json::Number(json)) => Some(*value) == json.as_u64(),
        (Value::F64(value), Json::Number(json)) => {
            // The JSON reader may be off by the last bit.
            json.is_f64()
                && json.as_f64().is_some_and(|json| {
                    (value - json).abs() <= value.abs() * f64::EPSILON
                        && value.is_sign_negative() == json.is_sign_negative()
                })
        }
        (Value::F64(value), Json::Object(json)) => {
            json["$f64"].as_str().is_some_and(|text| value.to_string().eq_ignore_ascii_case(text))
        }
        (Value::Str(text), Json::String(json)) => text == json,
        (Value::Bin(bytes), Json::Object(_)) => same_bytes(bytes, json),
        (Value::Array(items), Json::Array(json)) => {
            items.len() == json.len() && items.iter().zip(json).all(|(item, json)| same(item, json))
        }
        (Value::Map(pairs), Json::Object(json)) => match json.get("$map") {
            Some(json) => {
                let pairs = pairs.iter().map(|(k, v)| Value::Array(vec![k.clone(), v.clone()])).collect();
                same(&Value::Array(pairs), json)
            }
            None => {
                pairs.len() == json.len()
                    && pairs.iter().all(|(key, value)| {
                        json.get(key.as_str().unwrap()).is_some_and(|json| same(value, json))
                    })
            }
        },
        (Value::Ext(kind, bytes), Json::Array(json)) => json[0] == *kind && same_bytes(bytes, &json[1]),
        _ => false,
    }
}

fn same_bytes(bytes: &[u8], json: &Json) -> bool {
    match json.get("$bin") {
        Some(json) => bytes == hex(json.as_str().unwrap()),
        None => {
            json["$bin_len"] == bytes.len()
                && Sha256::digest(bytes).as_slice() == hex(json["$sha256"].as_str().unwrap())
        }
    }
}

pub(crate) fn same_datum(value: &DatumValue, json: &Json) -> bool {
    match value {
        DatumValue::Text(text) => json == &**text,
        DatumValue::Blob(bytes) | DatumValue::File(bytes) => same_bytes(bytes, json),
    }
}

/// What the reference's JSON shows of an object: its content without its type.
pub(crate) fn plain(object: &Object) -> Value {
    match object {
        Object::List(items) | Object::Tuple(items) | Object::Set(items) => {
            Value::Array(items.iter().map(plain).collect())
        }
        Object::Map(pairs) | Object::OrderedDict(pairs) => {
            Value::Map(pairs.iter().map(|(key, value)| (plain(key), plain(value))).collect())
        }
        Object::Opaque(opaque) => plain(opaque.data()),
        _ => Value::from(object),
    }
}
