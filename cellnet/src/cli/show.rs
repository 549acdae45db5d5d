//! Payloads for people and for scripts, and lines on standard output.

use std::{
    io::{self, IsTerminal, Write},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use cellnet::{
    Payload,
    fobs::{self, DatumValue, Object},
    wire::Limits,
};
use serde::Serialize;
use serde_json::{Map, Value as Json, json};

/// A payload as JSON: text if it is UTF-8, else `{"base64": …}`; objects as JSON; none as null.
pub(crate) fn payload_json(payload: &Payload) -> Json {
    match payload {
        Payload::None => Json::Null,
        Payload::Bytes(bytes) => bytes_json(bytes),
        Payload::Fobs(bytes) => {
            let object = fobs::decode(bytes, Limits::PAYLOAD).and_then(fobs::Document::into_object);
            object.map_or_else(|_| base64(bytes), |object| object_json(&object))
        }
    }
}

/// Writes a payload as people want it: bytes as they are, objects as JSON.
pub(crate) fn print_payload(payload: &Payload) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match payload {
        Payload::None => {}
        Payload::Bytes(bytes) => out.write_all(bytes)?,
        Payload::Fobs(_) => writeln!(out, "{}", payload_json(payload))?,
    }
    if matches!(payload, Payload::Bytes(bytes) if !bytes.ends_with(b"\n")) && out.is_terminal() {
        writeln!(out)?;
    }
    out.flush()
}

/// Writes one JSON object on a line of its own.
pub(crate) fn print_json(object: &impl Serialize) -> io::Result<()> {
    PRINTED_JSON.store(true, Relaxed);
    print_line(&serde_json::to_string(object)?)
}

/// Writes the command's object where people look for progress, as standard output belongs to something else.
pub(crate) fn print_json_aside(object: &impl Serialize) -> io::Result<()> {
    PRINTED_JSON.store(true, Relaxed);
    writeln!(io::stderr(), "{}", serde_json::to_string(object)?)
}

/// Writes one JSON object before the last: something that happens while the command runs.
pub(crate) fn print_event(event: &impl Serialize) -> io::Result<()> {
    print_line(&serde_json::to_string(event)?)
}

/// Whether the command has printed its object, or tried.
pub(crate) fn printed_json() -> bool {
    PRINTED_JSON.load(Relaxed)
}

static PRINTED_JSON: AtomicBool = AtomicBool::new(false);

/// Writes a line, at once.
pub(crate) fn print_line(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// What a command that runs until it is stopped says once it can be used.
#[derive(Debug, Serialize)]
pub(crate) struct Ready {
    pub(crate) name: String,
    pub(crate) listen: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer: Option<String>,
    /// The URLs by which those above were reached.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) via: Vec<String>,
}

impl Ready {
    pub(crate) fn print(&self) -> io::Result<()> {
        print_line(&format!("READY {}", serde_json::to_string(self)?))
    }
}

fn bytes_json(bytes: &[u8]) -> Json {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => base64(bytes),
    }
}

fn base64(bytes: &[u8]) -> Json {
    json!({ "base64": BASE64_STANDARD.encode(bytes) })
}

/// An object as JSON. What JSON has no form for becomes the nearest thing that a reader recognises: bytes become
/// `{"base64": …}`, enum members `TYPE.MEMBER`, unknown objects a map with their type, and dicts with keys that are
/// not text a list of pairs.
fn object_json(object: &Object) -> Json {
    match object {
        Object::Bool(value) => (*value).into(),
        Object::Int(value) => (*value).into(),
        Object::Uint(value) => (*value).into(),
        // JSON has no NaN and no infinity; their names are better than null.
        Object::F64(value) if value.is_finite() => (*value).into(),
        Object::F64(value) => value.to_string().into(),
        Object::Str(text) => Json::String(text.to_string()),
        Object::Bin(bytes) => base64(bytes),
        Object::List(items) | Object::Tuple(items) | Object::Set(items) => {
            items.iter().map(object_json).collect()
        }
        Object::Map(pairs) | Object::OrderedDict(pairs) => pairs_json(pairs),
        Object::DateTime(text) => Json::String(text.to_string()),
        Object::Enum(member) => format!("{}.{}", member.type_name, member.member).into(),
        Object::DatumRef(reference) => json!({ "datum": reference.id.to_string() }),
        Object::Datum(datum) => match datum.value() {
            DatumValue::Text(text) => Json::String(text.to_string()),
            DatumValue::Blob(bytes) | DatumValue::File(bytes) => base64(bytes),
        },
        Object::Opaque(opaque) => json!({ "type": opaque.type_name(), "data": object_json(opaque.data()) }),
        Object::Ext(kind, bytes) => json!({ "ext": kind, "base64": BASE64_STANDARD.encode(bytes) }),
        _ => Json::Null,
    }
}

fn pairs_json(pairs: &[(Object, Object)]) -> Json {
    let as_map: Option<Map<_, _>> =
        pairs.iter().map(|(key, value)| Some((key.as_str()?.to_owned(), object_json(value)))).collect();
    match as_map {
        Some(map) => map.into(),
        None => pairs.iter().map(|(key, value)| json!([object_json(key), object_json(value)])).collect(),
    }
}

#[cfg(test)]
mod tests {
    use cellnet::fobs::{Document, Opaque};

    use super::*;

    #[test]
    fn bytes_are_text_if_they_can_be() {
        assert_eq!(payload_json(&Payload::None), Json::Null);
        assert_eq!(payload_json(&Payload::Bytes("hé".into())), json!("hé"));
        assert_eq!(payload_json(&Payload::Bytes(vec![0xff, 0].into())), json!({ "base64": "/wA=" }));
    }

    #[test]
    fn objects_keep_their_shape() {
        let object: Object = [
            ("n", Object::Int(1)),
            ("t", Object::Tuple(vec![Object::F64(0.5), Object::Nil])),
            ("b", Object::Bin("ab".into())),
            ("e", Object::enum_member("m.Kind", "A")),
            ("o", Opaque::new("m.Thing", Object::Bool(true), "m.D").into()),
            ("k", Object::Map(vec![(Object::Int(1), Object::text("x"))])),
            ("inf", Object::F64(f64::INFINITY)),
        ]
        .into_iter()
        .collect();
        let payload = Payload::Fobs(fobs::encode(&Document::new(object)));
        let expected = json!({
            "n": 1, "t": [0.5, null], "b": { "base64": "YWI=" }, "e": "m.Kind.A",
            "o": { "type": "m.Thing", "data": true }, "k": [[1, "x"]], "inf": "inf",
        });
        assert_eq!(payload_json(&payload), expected);
    }

    #[test]
    fn a_broken_object_is_shown_as_bytes() {
        assert_eq!(payload_json(&Payload::Fobs("\u{1}".into())), json!({ "base64": "AQ==" }));
    }

    #[test]
    fn ready_names_a_peer_and_a_way_only_if_there_is_one() {
        let listen = vec!["tcp://127.0.0.1:1".into()];
        let mut ready = Ready { name: "server".into(), listen, peer: None, via: Vec::new() };
        let json = |ready: &Ready| serde_json::to_string(ready).unwrap();
        assert_eq!(json(&ready), r#"{"name":"server","listen":["tcp://127.0.0.1:1"]}"#);
        (ready.listen, ready.via) = (Vec::new(), vec!["quic://h:1".into()]);
        assert_eq!(json(&ready), r#"{"name":"server","listen":[],"via":["quic://h:1"]}"#);
    }
}
