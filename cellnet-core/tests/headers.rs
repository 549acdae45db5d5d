//! Headers that arrived, were changed, and travel on.

use bytes::{Bytes, BytesMut};
use cellnet_core::wire::{Headers, Value};

/// `{"a": 1, "b": "text", "c": [1.5, nil], "b": "last"}`, with the number in a longer form than it needs.
const ARRIVED: &[u8] =
    b"\x84\xa1a\xd1\x00\x01\xa1b\xa4text\xa1c\x92\xcb\x3f\xf8\0\0\0\0\0\0\xc0\xa1b\xa4last";

fn arrived() -> Headers {
    Headers::decode(&Bytes::from_static(ARRIVED)).unwrap()
}

fn encoded(headers: &Headers) -> Bytes {
    let mut out = BytesMut::new();
    headers.encode(&mut out).unwrap();
    assert_eq!(out.len(), headers.encoded_len());
    out.freeze()
}

#[test]
fn what_nobody_changed_travels_on_as_it_came() {
    assert_eq!(encoded(&arrived()), ARRIVED);
}

#[test]
fn a_changed_value_stays_in_its_place_and_the_rest_as_it_came() {
    let mut headers = arrived();
    headers.set("c", true);
    headers.set("d", "new");
    headers.set("d", "newer");
    assert_eq!(
        encoded(&headers),
        &b"\x85\xa1a\xd1\x00\x01\xa1b\xa4text\xa1c\xc3\xa1b\xa4last\xa1d\xa5newer"[..]
    );
}

#[test]
fn values_are_read_as_what_they_are() {
    let mut headers = arrived();
    assert_eq!((headers.uint("a"), headers.number("a"), headers.text("a")), (Some(1), Some(1.0), None));
    assert_eq!((headers.text("b"), headers.uint("b")), (Some("last"), None));
    assert_eq!(headers.get("c"), Some(Value::Array(vec![Value::F64(1.5), Value::Nil])));
    assert!(headers.contains("c") && !headers.contains("d") && !headers.flag("c"));
    headers.set("c", true);
    headers.set("n", -3_i64);
    assert!(headers.flag("c"));
    assert_eq!((headers.uint("n"), headers.number("n")), (None, Some(-3.0)));
    assert_eq!(headers.shared_text("b").as_deref(), Some("last"));
    headers.set("b", "own");
    assert_eq!(headers.shared_text("b").as_deref(), Some("own"));
}

#[test]
fn a_key_that_came_twice_goes_as_a_whole() {
    let mut headers = arrived();
    assert_eq!(headers.take("b"), Some(Value::text("last")));
    assert_eq!(headers.keys().collect::<Vec<_>>(), ["a", "c"]);
    assert!(!headers.remove("b"));
}

#[test]
fn other_headers_are_laid_over() {
    let mut headers: Headers = [("c", "kept?"), ("z", "kept")].into_iter().collect();
    headers.extend(&arrived());
    assert_eq!(headers.text("z"), Some("kept"));
    assert_eq!(headers.get("c"), arrived().get("c"));
    assert_eq!(headers.keys().collect::<Vec<_>>(), ["c", "z", "a", "b"]);
}
