//! Payloads from Rust types and back, and objects for people to read.

use std::fmt::{self, Display, Write};

use bytes::{BufMut, Bytes};
use serde::{
    Serialize, Serializer,
    de::DeserializeOwned,
    ser::{SerializeMap, SerializeSeq},
};

use super::{DatumValue, FobsError, Object, decode, lobs};
use crate::wire::{Limits, Value};

/// Encodes a Rust value: structs as dicts, tuples as lists, unit variants as text. Everything stays in the main
/// section.
///
/// `Vec<u8>` becomes a list of numbers, as everywhere in serde; `bytes::Bytes` in an [`Object`] becomes bytes.
pub fn to_bytes<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, SerializeError> {
    let main = rmp_serde::to_vec_named(value)?;
    Ok(lobs::encode(|out| out.put_slice(&main), &[]))
}

/// Decodes a payload into a Rust value, within [`Limits::PAYLOAD`].
///
/// Objects are read as [`from_object`] does.
pub fn from_bytes<T: DeserializeOwned>(payload: &Bytes) -> Result<T, DeserializeError> {
    from_object(&decode(payload, Limits::PAYLOAD)?.into_object()?)
}

/// The value that [`to_bytes`] would send.
pub fn to_object<T: Serialize + ?Sized>(value: &T) -> Result<Object, SerializeError> {
    let main = Bytes::from(rmp_serde::to_vec_named(value)?);
    let limits = Limits { values: usize::MAX, bytes: usize::MAX, ..Limits::PAYLOAD };
    let object = Value::decode(&main, limits).map_err(FobsError::from).and_then(Object::try_from);
    object.map_err(SerializeError::Unusual)
}

/// Reads a Rust value. Tuples and sets are read as lists, ordered dicts as dicts, times and members of enums as text,
/// datums as what they hold, arrays as nested lists of numbers, references to arrays as their names, and other objects as the dict with `__fobs_type__`, `__fobs_data__` and `__fobs_dc__`.
pub fn from_object<T: DeserializeOwned>(object: &Object) -> Result<T, DeserializeError> {
    let plain = rmp_serde::to_vec(object).map_err(DeserializeError::Plain)?;
    let mut decoder = rmp_serde::Deserializer::from_read_ref(&plain);
    decoder.set_max_depth(MAX_DEPTH);
    Ok(T::deserialize(&mut decoder)?)
}

/// Rust types that nest deeper are refused; a payload cannot.
const MAX_DEPTH: usize = 2 * Limits::PAYLOAD.depth;

/// Why a Rust value cannot be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SerializeError {
    /// Its `Serialize` failed.
    #[error("value cannot be serialized")]
    Serde(#[from] rmp_serde::encode::Error),
    /// It looks like an object but is none, or nests too deep.
    #[error("value makes no object")]
    Unusual(#[source] FobsError),
}

/// Why a payload is not the expected Rust value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeserializeError {
    /// It is no payload.
    #[error("payload cannot be decoded")]
    Fobs(#[from] FobsError),
    /// The object nests too deep, which none from a payload does.
    #[error("object cannot be made plain data")]
    Plain(#[source] rmp_serde::encode::Error),
    /// It holds something else.
    #[error("payload is not what was expected")]
    Serde(#[from] rmp_serde::decode::Error),
}

/// For people and for plain formats: objects lose their type as [`from_object`] says. Formats for people get keys of
/// dicts as text.
impl Serialize for Object {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Nil => to.serialize_unit(),
            Self::Bool(value) => to.serialize_bool(*value),
            Self::Int(value) => to.serialize_i64(*value),
            Self::Uint(value) => to.serialize_u64(*value),
            Self::F64(value) => to.serialize_f64(*value),
            Self::Str(text) | Self::DateTime(text) => to.serialize_str(text),
            Self::Bin(bytes) => to.serialize_bytes(bytes),
            Self::List(items) | Self::Tuple(items) | Self::Set(items) => {
                let mut seq = to.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| seq.serialize_element(item))?;
                seq.end()
            }
            Self::Map(pairs) | Self::OrderedDict(pairs) => dict(pairs, to),
            Self::Enum(value) => to.serialize_str(&value.member),
            Self::DatumRef(datum) => to.collect_str(&datum.id),
            Self::Datum(datum) => match datum.value() {
                DatumValue::Text(text) => to.serialize_str(text),
                DatumValue::Blob(bytes) | DatumValue::File(bytes) => to.serialize_bytes(bytes),
            },
            Self::Array(array) => array.serialize(to),
            Self::Tensor(tensor) => tensor.array().serialize(to),
            Self::ArrayRef(reference) => to.serialize_str(&reference.item),
            Self::Scalar(scalar) => scalar.plain().serialize(to),
            Self::Opaque(opaque) => dict(opaque.fields(), to),
            Self::Ext(kind, bytes) => {
                let mut seq = to.serialize_seq(Some(2))?;
                seq.serialize_element(kind)?;
                seq.serialize_element(&Self::Bin(bytes.clone()))?;
                seq.end()
            }
        }
    }
}

fn dict<S: Serializer>(pairs: &[(Object, Object)], to: S) -> Result<S::Ok, S::Error> {
    let for_people = to.is_human_readable();
    let mut map = to.serialize_map(Some(pairs.len()))?;
    for (key, value) in pairs {
        match key {
            Object::Str(_) => map.serialize_entry(key, value)?,
            _ if for_people => map.serialize_entry(&Readable(key).to_string(), value)?,
            _ => map.serialize_entry(key, value)?,
        }
    }
    map.end()
}

/// A key as text: `1`, `(1, a)`, `None` is `null`, bytes in hex.
struct Readable<'a>(&'a Object);

impl Display for Readable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Object::Nil => f.write_str("null"),
            Object::Bool(value) => value.fmt(f),
            Object::Int(value) => value.fmt(f),
            Object::Uint(value) => value.fmt(f),
            Object::F64(value) => write!(f, "{value:?}"),
            Object::Str(text) | Object::DateTime(text) => f.write_str(text),
            Object::Bin(bytes) | Object::Ext(_, bytes) => {
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Object::List(items) => list(f, items, '[', ']'),
            Object::Tuple(items) => list(f, items, '(', ')'),
            Object::Set(items) => list(f, items, '{', '}'),
            Object::Map(pairs) | Object::OrderedDict(pairs) => {
                let pairs = pairs.iter().map(|(key, value)| format!("{}: {}", Self(key), Self(value)));
                write!(f, "{{{}}}", pairs.collect::<Vec<_>>().join(", "))
            }
            Object::Enum(value) => write!(f, "{}.{}", value.type_name, value.member),
            Object::DatumRef(datum) => datum.id.fmt(f),
            Object::Datum(datum) => datum.id().fmt(f),
            Object::Array(array) => write!(f, "{array:?}"),
            Object::Tensor(tensor) => write!(f, "{:?}", tensor.array()),
            Object::ArrayRef(reference) => f.write_str(&reference.item),
            Object::Scalar(scalar) => write!(f, "{}", Readable(&scalar.plain())),
            Object::Opaque(opaque) => write!(f, "{}({})", opaque.type_name(), Self(opaque.data())),
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, items: &[Object], open: char, close: char) -> fmt::Result {
    f.write_char(open)?;
    for (at, item) in items.iter().enumerate() {
        f.write_str(if at == 0 { "" } else { ", " })?;
        Readable(item).fmt(f)?;
    }
    f.write_char(close)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::fobs::{Document, encode};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Task {
        name: String,
        rounds: Vec<u32>,
        note: Option<String>,
    }

    fn task() -> Task {
        Task { name: "train".into(), rounds: vec![1, 2], note: None }
    }

    #[test]
    fn structs_travel_as_dicts() {
        let payload = to_bytes(&task()).unwrap();
        let object = decode(&payload, Limits::PAYLOAD).unwrap().into_object().unwrap();
        assert_eq!(object.get("rounds").and_then(Object::items), Some(&[1.into(), 2.into()][..]));
        assert_eq!(object, to_object(&task()).unwrap());
        assert_eq!(from_bytes::<Task>(&payload).unwrap(), task());
    }

    #[test]
    fn tuples_ordered_dicts_and_datums_are_read_as_plain_data() {
        let object = Object::OrderedDict(vec![
            ("name".into(), "train".into()),
            ("rounds".into(), Object::Tuple(vec![1.into(), 2.into()])),
            ("note".into(), Object::Nil),
        ]);
        let payload = encode(&Document::with_threshold(object, 5));
        assert_eq!(from_bytes::<Task>(&payload).unwrap(), task());
    }

    #[test]
    fn people_get_keys_as_text() {
        let object = Object::from_iter([
            (Object::Tuple(vec![1.into(), "a".into()]), Object::enum_member("a.B", "C")),
            (Object::Nil, 1.5.into()),
        ]);
        assert_eq!(serde_json::to_string(&object).unwrap(), r#"{"(1, a)":"C","null":1.5}"#);
    }
}
