//! HELLO and READY: who is at the other end, and whether it is cellnet.

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;

use super::{DecodeError, Limits, Value};

/// Payload of HELLO and READY.
#[derive(Debug, Clone, PartialEq)]
pub struct Hello {
    /// The sender's name, as it says. Not checked.
    pub name: ByteString,
    /// What a cellnet peer tells of itself; `None` for a stranger, for example the Python reference.
    pub cellnet: Option<Cellnet>,
    /// The sender's clock, Unix seconds. The reference sends it and ignores it.
    pub timestamp: f64,
}

/// What cellnet peers tell one another. The reference keeps and ignores it. Agreed for one link only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cellnet {
    /// 1. A peer with another version is treated as a stranger.
    pub version: u64,
    /// Random per process start, so that two claimants of a name can be told apart.
    pub instance: [u8; 16],
    /// What the sender offers. Unknown entries are ignored.
    pub features: Vec<ByteString>,
}

const NAME: &str = "endpoint_name";
const TIMESTAMP: &str = "timestamp";
const FQCN: &str = "fqcn";
const CELLNET: &str = "cellnet";
const VERSION: u64 = 1;
/// More features than anybody will ever have; the rest is ignored.
const MAX_FEATURES: usize = 64;

impl Cellnet {
    /// This version, without features.
    pub fn new(instance: [u8; 16]) -> Self {
        Self { version: VERSION, instance, features: Vec::new() }
    }

    fn from_value(value: &Value) -> Option<Self> {
        let version = value.get("v")?.as_u64().filter(|&v| v == VERSION)?;
        let instance = value.get("instance")?.as_bin()?.as_ref().try_into().ok()?;
        let features = value.get("features").and_then(Value::as_array).unwrap_or_default();
        let features = features.iter().filter_map(Value::as_text).take(MAX_FEATURES).cloned().collect();
        Some(Self { version, instance, features })
    }

    fn to_value(&self) -> Value {
        Value::Map(vec![
            (Value::text("v"), self.version.into()),
            (Value::text("instance"), Value::Bin(Bytes::copy_from_slice(&self.instance))),
            (Value::text("features"), Value::Array(self.features.iter().cloned().map(Value::Str).collect())),
        ])
    }
}

impl Hello {
    /// Reads a payload. A name in binary is accepted, as the reference does.
    pub fn decode(payload: &Bytes) -> Result<Self, DecodeError> {
        let map = Value::decode(payload, Limits::HEADERS)?;
        if map.as_map().is_none() {
            return Err(DecodeError::Expected("a map in the handshake"));
        }
        let name = match map.get(NAME) {
            Some(Value::Str(name)) => name.clone(),
            Some(Value::Bin(name)) => ByteString::try_from(name.clone()).map_err(|_| DecodeError::Utf8)?,
            _ => return Err(DecodeError::Expected("the text endpoint_name in the handshake")),
        };
        Ok(Self {
            name,
            cellnet: map.get(CELLNET).and_then(Cellnet::from_value),
            timestamp: map.get(TIMESTAMP).and_then(Value::as_f64).unwrap_or_default(),
        })
    }

    /// The payload, with the keys in the reference's order and ours last.
    pub fn encode(&self) -> Bytes {
        let name = Value::Str(self.name.clone());
        let mut map = vec![
            (Value::text(NAME), name.clone()),
            (Value::text(TIMESTAMP), Value::F64(self.timestamp)),
            (Value::text(FQCN), name),
        ];
        if let Some(cellnet) = &self.cellnet {
            map.push((Value::text(CELLNET), cellnet.to_value()));
        }
        let mut out = BytesMut::new();
        Value::Map(map).encode(&mut out);
        out.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_tells_survives_and_damage_makes_it_a_stranger() {
        let cellnet = Cellnet { features: vec!["x".into()], ..Cellnet::new([7; 16]) };
        let hello = Hello { name: "a.b".into(), cellnet: Some(cellnet), timestamp: 1.5 };
        assert_eq!(Hello::decode(&hello.encode()), Ok(hello));

        let odd = Value::Map(vec![
            (Value::text(NAME), Value::text("a")),
            (Value::text(CELLNET), Value::Map(vec![(Value::text("v"), Value::Int(1))])),
        ]);
        let mut out = BytesMut::new();
        odd.encode(&mut out);
        assert_eq!(Hello::decode(&out.freeze()).unwrap().cellnet, None);
    }
}
