//! Captured payloads decode to what they mean and encode to the same bytes.

mod common;

use bytes::Bytes;
use cellnet_core::{
    fobs::{self, Datum, Document, FobsError, LobsError, Object, ReferenceError},
    wire::{DecodeError, Frame, Headers, Limits, PREFIX_LEN, Value, keys},
};
use common::{bytes, cases, name, plain, same, same_datum};
use serde_json::Value as Json;

#[test]
fn payloads_come_back_byte_for_byte() {
    let data = common::fobs();
    for case in cases(&data, "encoded", 98).iter().chain(cases(&data, "threshold_1024", 8)) {
        let document = decode(&bytes(case)).unwrap();
        assert_eq!(fobs::encode(&document), bytes(case), "{}", name(case));
        assert!(same(&Value::from(document.main()), &case["main"]), "{}: {:?}", name(case), document.main());

        let datums = case["datums"].as_array().map(Vec::as_slice).unwrap_or_default();
        assert_eq!(document.datums().len(), datums.len(), "{}", name(case));
        for (datum, json) in document.datums().iter().zip(datums) {
            assert_eq!(json["id"], datum.id().to_string(), "{}", name(case));
            assert_eq!(json["dot"], datum.dot(), "{}", name(case));
            assert!(same_datum(datum.value(), &json["value"]), "{}", name(case));
        }
    }
}

#[test]
fn payloads_load_as_the_types_and_values_of_the_reference() {
    let data = common::fobs();
    for case in cases(&data, "encoded", 98).iter().chain(cases(&data, "threshold_1024", 8)) {
        check_loaded(&decode(&bytes(case)).unwrap().into_object().unwrap(), case);
    }
}

#[test]
fn payloads_of_captured_frames_come_back_byte_for_byte() {
    let mut seen = 0;
    for case in cases(&common::wire(), "frames", 147) {
        let frame = Frame::split(bytes(case)).unwrap();
        let headers = Headers::decode(&frame.head().slice(PREFIX_LEN..)).unwrap();
        let encoding = match headers.get(keys::sm::PAYLOAD_ENCODING) {
            Some(_) if headers.get(keys::sm::SEQUENCE) != Some(Value::Int(0)) => continue,
            Some(_) if headers.get(keys::sm::DATA_TYPE) != Some(Value::Int(2)) => continue,
            Some(encoding) => Some(encoding),
            None => headers.get(keys::cn::PAYLOAD_ENCODING),
        };
        if encoding.as_ref().and_then(Value::as_str) == Some("fobs") {
            let document = decode(frame.body()).unwrap_or_else(|e| panic!("{}: {e:?}", name(case)));
            assert_eq!(fobs::encode(&document), frame.body(), "{}", name(case));
            seen += 1;
        }
    }
    assert!(seen >= 40, "only {seen} payloads");
}

/// With the reference's threshold of 1024, the same values leave the main section.
#[test]
fn the_threshold_moves_what_the_reference_moves() {
    for case in cases(&common::fobs(), "threshold_1024", 8) {
        let captured = decode(&bytes(case)).unwrap();
        let object = captured.clone().into_object().unwrap();
        let ours = Document::with_threshold(object, 1024);
        assert_eq!(without_ids(&ours), without_ids(&captured), "{}", name(case));
    }
}

#[test]
fn the_default_threshold_is_10_mib_inclusive() {
    let payload = |len: usize| {
        let object = Object::from_iter([("b", Bytes::from(vec![0; len]))]);
        fobs::encode(&Document::new(object))
    };
    // Lengths of the reference's payloads for the same values.
    assert_eq!(payload((10 << 20) - 1).len(), 10_485_777);
    assert_eq!(payload(10 << 20).len(), 10_485_998);
}

#[test]
fn damaged_and_odd_payloads_end_as_in_the_reference_or_as_said_here() {
    for case in cases(&common::fobs(), "decode_only", 22) {
        let payload = bytes(case);
        let name = name(case);
        let object = decode(&payload).and_then(Document::into_object);
        assert!(object.is_ok() || case.get("refused").is_some(), "stricter: {name}");
        match name {
            "dec_empty" => assert_eq!(object, Err(LobsError::NoMain.into())),
            "dec_short_header" => assert_eq!(object, Err(LobsError::Header(9).into())),
            "dec_zero_size" => assert_eq!(object, Err(LobsError::Empty.into())),
            "dec_wrong_marker" => assert_eq!(object, Err(LobsError::NotMain(101).into())),
            "dec_trailing_garbage" => assert_eq!(object, Err(LobsError::Header(3).into())),
            "dec_truncated_body" => {
                assert_eq!(object, Err(LobsError::Truncated { size: 5, left: 1 }.into()));
            }
            "dec_two_objects" => assert_eq!(object, Err(DecodeError::Trailing(1).into())),
            "dec_missing_data" => assert_eq!(object, Err(FobsError::NoData("tuple".into()))),
            "dec_bad_utf8_str" => assert_eq!(object, Err(DecodeError::Utf8.into())),
            "dec_datum_empty_value" => assert_eq!(object, Err(LobsError::Empty.into())),
            "dec_datum_unknown_dot" => assert_eq!(object, Err(FobsError::NoHandler(99))),
            "dec_ref_no_datum" => {
                assert_eq!(object, Err(ReferenceError::NoSource("T0".into()).into()));
            }
            // More tolerant: nothing is made by name, so no type needs permission, and broken arrays are passed on.
            "dec_unknown_type" => check_opaque(&payload, "os.system"),
            "dec_unknown_decomposer" => check_opaque(&payload, "a.B"),
            "dec_native_empty" => check_opaque(&payload, "numpy.ndarray"),
            // An extension is an extension.
            "dec_timestamp_ext" => assert_eq!(object, Ok(Object::Ext(-1, vec![0, 0, 0, 1].into()))),
            _ => {
                assert!(case.get("refused").is_none(), "no claim about {name}");
                check_loaded(&object.unwrap(), case);
            }
        }
    }
}

/// Objects that are known here lose what the reference does not look at; all else stays.
#[test]
fn only_known_objects_in_an_unusual_shape_are_normalised() {
    let tuple = Document::new(Object::Tuple(vec![1.into()]));
    for case in cases(&common::fobs(), "decode_only", 22) {
        let Ok(document) = decode(&bytes(case)) else { continue };
        match name(case) {
            "dec_no_dc_for_known" | "dec_dc_ignored_for_known" | "dec_extra_keys" => {
                assert_eq!(document, tuple, "{}", name(case));
            }
            "dec_float32" => assert_eq!(document, Document::new(1.5.into())),
            _ => assert_eq!(fobs::encode(&document), bytes(case), "{}", name(case)),
        }
    }
}

fn check_opaque(payload: &Bytes, type_name: &str) {
    let document = decode(payload).unwrap();
    assert_eq!(fobs::encode(&document), payload);
    let object = document.into_object().unwrap();
    assert_eq!(object.as_opaque().map(|opaque| opaque.type_name()), Some(type_name));
}

fn check_loaded(object: &Object, case: &Json) {
    let kind = case["type"].as_str().unwrap();
    assert!(is_a(object, kind), "{}: {object:?} is no {kind}", name(case));
    if let Some(json) = case.get("value") {
        assert!(same(&plain(object), json), "{}: {object:?}", name(case));
    }
}

/// Whether an object has a Python type, given with its module or without.
fn is_a(object: &Object, kind: &str) -> bool {
    let short = kind.rsplit('.').next().unwrap();
    match object {
        Object::Nil => short == "NoneType",
        Object::Bool(_) => short == "bool",
        Object::Int(_) | Object::Uint(_) => short == "int",
        Object::F64(_) => short == "float",
        Object::Str(_) => short == "str",
        Object::Bin(_) => short == "bytes",
        Object::List(_) => short == "list",
        Object::Map(_) => short == "dict",
        Object::Tuple(_) => short == "tuple",
        Object::Set(_) => short == "set",
        Object::OrderedDict(_) => short == "OrderedDict",
        Object::DateTime(_) => short == "datetime",
        Object::Ext(..) => short == "ExtType",
        Object::Enum(value) => value.type_name == kind,
        Object::Array(_) => short == "ndarray",
        Object::Scalar(scalar) => scalar.type_name() == kind,
        Object::Opaque(opaque) => opaque.type_name().ends_with(kind),
        _ => false,
    }
}

/// The payload with all ids of datums blanked: they are random.
fn without_ids(document: &Document) -> Vec<u8> {
    let mut bytes = fobs::encode(document).to_vec();
    for id in document.datums().iter().map(Datum::id) {
        blank(&mut bytes, id.as_bytes());
        blank(&mut bytes, id.to_string().as_bytes());
    }
    bytes
}

fn blank(bytes: &mut [u8], what: &[u8]) {
    let places: Vec<_> = bytes
        .windows(what.len())
        .enumerate()
        .filter(|(_, window)| *window == what)
        .map(|(at, _)| at)
        .collect();
    assert_eq!(places.len(), 1);
    bytes[places[0]..][..what.len()].fill(0);
}

fn decode(payload: &Bytes) -> Result<Document, FobsError> {
    fobs::decode(payload, Limits::PAYLOAD)
}
