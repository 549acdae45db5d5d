//! Large data that travels beside the main value.

use bytes::Bytes;
use bytestring::ByteString;
use uuid::Uuid;

/// One section with data, never empty. Source: `fuel/utils/fobs/datum.py`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datum {
    id: Uuid,
    dot: u8,
    value: DatumValue,
}

/// What a datum holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatumValue {
    /// Text.
    Text(ByteString),
    /// Bytes.
    Blob(Bytes),
    /// Content of a file. The reference stores it in a folder; here it stays in memory.
    File(Bytes),
}

/// A place in the main value that a datum belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatumRef {
    /// The datum's id.
    pub id: Uuid,
    /// Whether the text or the bytes take this place, and not the [`Datum`] itself.
    pub unwrap: bool,
}

/// A datum without content, which the reference cannot decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a datum must not be empty")]
pub struct EmptyDatum;

impl Datum {
    /// A datum with a new id, for the application.
    pub fn new(value: DatumValue) -> Result<Self, EmptyDatum> {
        Self::with_id(Uuid::new_v4(), 0, value)
    }

    /// A datum with a given id. `dot` names the handler at the receiver, 0 for none.
    pub fn with_id(id: Uuid, dot: u8, value: DatumValue) -> Result<Self, EmptyDatum> {
        if value.as_bytes().is_empty() { Err(EmptyDatum) } else { Ok(Self { id, dot, value }) }
    }

    /// Its id.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The datum object type: which handler it is for, 0 for none. 3 and 6 are arrays to download.
    pub fn dot(&self) -> u8 {
        self.dot
    }

    /// What it holds.
    pub fn value(&self) -> &DatumValue {
        &self.value
    }

    /// What it holds.
    pub fn into_value(self) -> DatumValue {
        self.value
    }
}

impl DatumValue {
    /// The bytes, whatever they mean.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Blob(bytes) | Self::File(bytes) => bytes,
        }
    }
}
