//! Objects of the reference for tests, from the data of cellnet-core.

use std::fmt::Debug;

use bytes::Bytes;
use cellnet_core::{
    fobs::{self, Document, Object},
    wire::Limits,
};
use serde_json::Value as Json;

/// The payload of a case.
pub(super) fn payload(name: &str) -> Bytes {
    let data: Json =
        serde_json::from_str(include_str!("../../tests/data/flare_objects.json")).expect("it is JSON");
    let hex = data[name].as_str().unwrap_or_else(|| panic!("no case {name}"));
    let digits = hex.as_bytes().chunks(2);
    digits
        .map(|two| u8::from_str_radix(std::str::from_utf8(two).expect("it is ASCII"), 16).expect("it is hex"))
        .collect::<Vec<_>>()
        .into()
}

/// The object of a case.
pub(super) fn object(name: &str) -> Object {
    fobs::decode(&payload(name), Limits::PAYLOAD)
        .expect("it was recorded")
        .into_object()
        .expect("it is an object")
}

/// A case is read as `T`, and what that becomes is the case again.
pub(super) fn comes_back<T: TryFrom<Object, Error: Debug> + Into<Object>>(name: &str) {
    let view = T::try_from(object(name)).expect("it is a case of this type");
    assert_eq!(fobs::encode(&Document::new(view.into())), payload(name), "{name}");
}
