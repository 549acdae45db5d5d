//! The object encoding of payloads: what the reference calls FOBS.
//!
//! A payload is a main section with one MessagePack value, and sections with large data that the value refers to. Maps
//! with the key `__fobs_type__` stand for objects. Nothing is ever made by name: a type that is not known here is an
//! [`Opaque`] map that encodes as it came.
//!
//! ```
//! use cellnet_core::{fobs::{self, Document, Object}, wire::Limits};
//!
//! let object = Object::Tuple(vec![1.into(), "a".into()]);
//! let bytes = fobs::encode(&Document::new(object.clone()));
//! assert_eq!(fobs::decode(&bytes, Limits::PAYLOAD)?.into_object()?, object);
//! # Ok::<(), fobs::FobsError>(())
//! ```
//!
//! Decoding and encoding again gives the same bytes for all that the reference sends. What it only accepts is
//! normalised: numbers and lengths to their shortest form, single to double precision, and the objects known here to
//! exactly the three keys of an object.
//!
//! Source: `fuel/utils/fobs/fobs.py`, `fuel/utils/fobs/lobs.py`, `fuel/utils/fobs/datum.py`.

mod array;
mod convert;
mod datum;
mod document;
mod lobs;
mod native;
mod object;
mod opaque;
pub mod reference;
mod scalar;

use bytes::Bytes;
use bytestring::ByteString;
use uuid::Uuid;

pub use array::{
    Array, ByteOrder, DType, Element, Elements, MAX_DIMENSIONS, Order, ReadError, ShapeError, Tensor,
    TensorError, npy, npz, safetensors,
};
pub use datum::{Datum, DatumRef, DatumValue, EmptyDatum};
pub use document::{Document, EXTERNAL_THRESHOLD};
pub use lobs::LobsError;
pub use native::{DeserializeError, SerializeError, from_bytes, from_object, to_bytes, to_object};
pub use object::{EnumMember, Object};
pub use opaque::Opaque;
pub use reference::{ArrayKind, ArrayRef, Download, PackError, ReferenceError, Source};
pub use scalar::Scalar;

use crate::wire::{DecodeError, Limits, Value};

/// Decodes a payload. References to other sections stay references; [`Document::into_object`] follows them.
pub fn decode(payload: &Bytes, limits: Limits) -> Result<Document, FobsError> {
    if payload.len() > limits.bytes {
        return Err(DecodeError::TooLong(limits.bytes).into());
    }
    let (main, datums) = lobs::decode(payload, limits.values)?;
    let main = Object::try_from(Value::decode(&main, limits)?)?;
    Ok(Document::from_parts(main, datums))
}

/// Encodes a payload.
pub fn encode(document: &Document) -> Bytes {
    lobs::encode(|out| Value::from(document.main()).encode(out), document.datums())
}

/// Why a payload is not a FOBS value, or not one that makes sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FobsError {
    /// The sections are broken.
    #[error("broken sections")]
    Lobs(#[from] LobsError),
    /// The main section is not one MessagePack value within the limits.
    #[error("broken main section")]
    Value(#[from] DecodeError),
    /// An object whose type name is not text.
    #[error("an object's type name is not text")]
    TypeName,
    /// An object without content.
    #[error("object {0} has no data")]
    NoData(ByteString),
    /// An object of a known type with content that does not fit.
    #[error("object {type_name} is not made from {expected}")]
    Data {
        /// The type.
        type_name: &'static str,
        /// What its data should have been.
        expected: &'static str,
    },
    /// A reference to a section that is not there.
    #[error("datum {0} is missing")]
    NoDatum(Uuid),
    /// A section that too many places refer to.
    #[error("too many places refer to datum {0}")]
    Repeated(Uuid),
    /// References to arrays that do not make sense.
    #[error("broken references to arrays")]
    Reference(#[from] ReferenceError),
    /// A section for a handler, and nobody took it.
    #[error("nobody handles datum object type {0}")]
    NoHandler(u8),
}
