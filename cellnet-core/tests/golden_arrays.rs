//! Captured arrays and references to arrays decode to what they mean and encode to the same bytes.
//!
//! `data/arrays.json` holds the payloads of downloads and of messages that pass references on.

mod common;

use bytes::Bytes;
use cellnet_core::{
    fobs::{
        self, Array, ArrayKind, ByteOrder, DType, Datum, Document, Download, Object, Order, Source, npy, npz,
    },
    wire::Limits,
};
use common::{bytes, cases, name};
use serde_json::Value as Json;

/// Name, type, orders and shape of the arrays in `data/fobs.json`.
const ARRAYS: &[(&str, DType, ByteOrder, Order, &[usize])] = &[
    ("nd_f32_2x3", DType::F32, ByteOrder::Little, Order::C, &[2, 3]),
    ("nd_f64", DType::F64, ByteOrder::Little, Order::C, &[2]),
    ("nd_i64", DType::I64, ByteOrder::Little, Order::C, &[2]),
    ("nd_i32_0d", DType::I32, ByteOrder::Little, Order::C, &[]),
    ("nd_empty", DType::F32, ByteOrder::Little, Order::C, &[0, 3]),
    ("nd_bool", DType::Bool, ByteOrder::Little, Order::C, &[2]),
    ("nd_f16", DType::F16, ByteOrder::Little, Order::C, &[1]),
    ("nd_u8", DType::U8, ByteOrder::Little, Order::C, &[2]),
    ("nd_fortran", DType::F32, ByteOrder::Little, Order::Fortran, &[2, 3]),
    ("nd_bigendian", DType::F32, ByteOrder::Big, Order::C, &[1]),
    ("nd_complex64", DType::C64, ByteOrder::Little, Order::C, &[1]),
];

/// What is carried and not read.
const OTHERS: &[(&str, &str, usize)] = &[
    ("nd_unicode", "'<U2'", 2),
    ("nd_struct", "[('a', '<i4'), ('b', '<f8')]", 1),
    ("nd_datetime64", "'<M8[D]'", 1),
];

#[test]
fn arrays_are_what_they_are_in_the_reference() {
    for (name, dtype, byte_order, order, shape) in ARRAYS {
        let array = array(name);
        assert_eq!(
            (array.dtype(), array.byte_order(), array.order()),
            (dtype, *byte_order, *order),
            "{name}"
        );
        assert_eq!(array.shape(), *shape, "{name}");
    }
    for (name, descr, len) in OTHERS {
        let array = array(name);
        assert_eq!((array.dtype(), array.shape()), (&DType::Other((*descr).into()), &[*len][..]), "{name}");
        assert!(array.iter::<f64>().is_err(), "{name}");
    }
    let read = |name| array(name).to_vec::<f64>().unwrap();
    assert_eq!(read("nd_f32_2x3"), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(read("nd_fortran"), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(array("nd_fortran").to_standard().data(), array("nd_f32_2x3").data());
    assert_eq!(array("nd_bool").to_vec::<bool>().unwrap(), [true, false]);
}

/// Not only what was decoded, which remembers its file.
#[test]
fn arrays_made_here_are_written_as_numpy_writes_them() {
    let data = common::fobs();
    for case in cases(&data, "encoded", 98).iter().filter(|case| case["type"] == "numpy.ndarray") {
        let captured = array(name(case));
        let data = Bytes::copy_from_slice(captured.data());
        let (dtype, order) = (captured.dtype().clone(), captured.order());
        let made = Array::from_bytes(dtype, captured.byte_order(), order, captured.shape(), data).unwrap();
        assert_eq!(npy::encode(&made), npy::encode(&captured), "{}", name(case));
        assert_eq!(fobs::encode(&Document::new(made.into())), bytes(case), "{}", name(case));
    }
}

#[test]
fn what_is_decoded_lies_in_the_payload_and_encodes_without_being_written_anew() {
    for (name, ..) in ARRAYS {
        let payload = bytes(case(&common::fobs(), name));
        let array = first_array(&payload);
        assert!(array.is_empty() || contains(&payload, array.data()), "{name}");
        assert!(contains(&payload, &npy::encode(&array)), "{name}");
    }
    for case in payloads().iter().filter(|case| is_piece(case)) {
        let payload = bytes(case);
        let piece = piece(&payload);
        assert!(contains(&payload, &piece));
        let arrays = npz::decode(&piece, 1).unwrap();
        assert!(contains(&payload, arrays[0].1.data()));
    }
}

/// The same bytes even where a large array is in a section of its own.
#[test]
fn large_arrays_come_out_of_their_sections_without_a_copy() {
    let data = common::fobs();
    let case = cases(&data, "threshold_1024", 8).iter().find(|case| name(case) == "datum_ndarray_native");
    let payload = bytes(case.unwrap());
    let object = decode(&payload).into_object().unwrap();
    let array = object.get("w").and_then(Object::as_array).unwrap();
    assert!(contains(&payload, array.data()));
    let again = Document::with_threshold(object.clone(), 1024);
    assert_eq!(without_ids(&again), without_ids(&decode(&payload)));
}

#[test]
fn payloads_with_arrays_come_back_byte_for_byte() {
    for case in &payloads() {
        let payload = bytes(case);
        assert_eq!(fobs::encode(&decode(&payload)), payload, "{}", name(case));
    }
}

#[test]
fn archives_are_those_of_numpy() {
    let pieces: Vec<_> =
        payloads().iter().filter(|case| is_piece(case)).map(|case| piece(&bytes(case))).collect();
    assert_eq!(pieces.len(), 4);
    let mut written_by_numpy = 0;
    for piece in &pieces {
        let arrays = npz::decode(piece, 1).unwrap();
        let members = arrays.iter().map(|(name, array)| (&**name, array));
        // Two were written by Python's zipfile, without ZIP64 and with a date.
        written_by_numpy += usize::from(npz::encode(members).unwrap() == piece);
    }
    assert_eq!(written_by_numpy, 2);
}

#[test]
fn a_reference_is_followed_to_the_array_that_was_sent() {
    let sent = decode(&payload("download/dl_small_00_out")).into_object().unwrap();
    let mut object = decode(&payload("download/dl_small_01_in")).into_object().unwrap();
    let source = Source::new("server".parse().unwrap(), "42c473a7-9f74-455a-bd64-fd827091a85a");
    let downloads = object.downloads();
    assert_eq!(downloads, [Download { kind: ArrayKind::Numpy, source, items: vec!["T0".into()] }]);

    let piece = piece(&payload("download/dl_small_03_in"));
    let arrays = ArrayKind::Numpy.unpack(&piece, 1).unwrap();
    object.fill(&downloads[0], |item| Some(arrays.iter().find(|(name, _)| name == item)?.1.clone())).unwrap();
    assert_eq!(object, sent);
    assert!(object.downloads().is_empty());
}

#[test]
fn references_are_written_as_the_reference_writes_them() {
    let payload = payload("download/dl_small_01_in");
    let source = decode(&payload).into_object().unwrap().downloads().remove(0).source;
    let mut object = decode(&self::payload("download/dl_small_00_out")).into_object().unwrap();
    let array = object.get("w").and_then(Object::as_array).unwrap().clone();
    let kept = object.refer(ArrayKind::Numpy, &source);
    assert_eq!(kept, [("T0".into(), array.clone())]);
    assert!(kept[0].1.is_same(&array));
    assert_eq!(without_ids(&Document::new(object)), without_ids(&decode(&payload)));
}

/// A job process decodes a message and encodes it again without fetching its arrays.
#[test]
fn references_are_passed_on_as_the_reference_passes_them_on() {
    for (came, went) in [
        ("download/dl_raw_source_00_out", "download/dl_pass_through_03_in"),
        (
            "download_wire/pipe_pass_through_00_stream_final_sq0_cell_pipe.task",
            "download_wire/pipe_pass_through_02_stream_final_sq0_cell_pipe.task",
        ),
    ] {
        let object = decode(&payload(came)).into_object().unwrap();
        let went = decode(&payload(went));
        assert_eq!(went.clone().into_object().unwrap().downloads(), object.downloads());
        assert_eq!(without_ids(&Document::new(object)), without_ids(&went));
    }
}

fn case<'a>(data: &'a Json, wanted: &str) -> &'a Json {
    cases(data, "encoded", 98).iter().find(|case| name(case) == wanted).unwrap()
}

fn array(name: &str) -> Array {
    first_array(&bytes(case(&common::fobs(), name)))
}

fn first_array(payload: &Bytes) -> Array {
    let object = decode(payload).into_object().unwrap();
    object.as_array().unwrap_or_else(|| panic!("{object:?}")).clone()
}

fn payloads() -> Vec<Json> {
    cases(&common::arrays(), "payloads", 12).to_vec()
}

fn payload(wanted: &str) -> Bytes {
    bytes(payloads().iter().find(|case| name(case) == wanted).unwrap())
}

/// Whether a payload answers a request for arrays.
fn is_piece(case: &Json) -> bool {
    decode(&bytes(case)).main().get("status").is_some()
}

fn piece(payload: &Bytes) -> Bytes {
    let document = decode(payload);
    let [piece] = document.main().get("data").and_then(Object::items).unwrap() else {
        panic!("not one item")
    };
    piece.as_bin().unwrap().clone()
}

fn contains(outer: &Bytes, inner: &Bytes) -> bool {
    let (outer, inner) = (outer.as_ptr_range(), inner.as_ptr_range());
    outer.start <= inner.start && inner.end <= outer.end
}

/// The payload with all ids of datums blanked: they are random.
fn without_ids(document: &Document) -> Vec<u8> {
    let mut bytes = fobs::encode(document).to_vec();
    for id in document.datums().iter().map(Datum::id) {
        for what in [id.as_bytes().to_vec(), id.to_string().into_bytes()] {
            while let Some(at) = bytes.windows(what.len()).position(|window| window == what) {
                bytes[at..][..what.len()].fill(0);
            }
        }
    }
    bytes
}

fn decode(payload: &Bytes) -> Document {
    fobs::decode(payload, Limits::PAYLOAD).unwrap()
}
