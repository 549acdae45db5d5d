//! Captured frames decode to what they mean and encode to the same bytes.

mod common;

use bytes::{Bytes, BytesMut};
use cellnet_core::{
    Fqcn,
    wire::{DecodeError, Frame, Headers, Limits, PREFIX_LEN, Prefix, PrefixError, Value, hello::Hello},
};
use common::{bytes, cases, name, same};
use serde_json::Value as Json;

#[test]
fn prefixes_encode_to_the_captured_bytes() {
    for case in cases(&common::wire(), "prefixes", 5) {
        let prefix = prefix_of(case);
        let mut out = BytesMut::new();
        prefix.encode(&mut out);
        assert_eq!(out, bytes(case), "{}", name(case));

        let expected = match prefix.length {
            0 => Err(PrefixError::TooShort(0)),
            u32::MAX => Err(PrefixError::TooLong(u32::MAX as usize)),
            _ => Ok(prefix),
        };
        assert_eq!(Prefix::decode(out.first_chunk().unwrap()), expected, "{}", name(case));
    }
}

#[test]
fn whole_frames_come_back_byte_for_byte() {
    for case in cases(&common::wire(), "frames", 147) {
        let frame = Frame::split(bytes(case)).unwrap();
        assert!(!frame.is_truncated(), "{}", name(case));
        assert_eq!([&check_head(&frame, case)[..], frame.body()].concat(), bytes(case), "{}", name(case));
    }
}

#[test]
fn heads_of_long_frames_come_back_byte_for_byte() {
    for case in cases(&common::wire(), "cut_frames", 22) {
        let frame = Frame::split(bytes(case)).unwrap();
        assert!(frame.is_truncated(), "{}", name(case));
        check_head(&frame, case);
    }
}

#[test]
fn handshakes_come_back_byte_for_byte() {
    let wire = common::wire();
    let frames = cases(&wire, "frames", 147).iter().filter(|case| matches!(kind(case), 4 | 5));
    let mut seen = 0;
    for case in frames {
        let frame = Frame::split(bytes(case)).unwrap();
        let hello = Hello::decode(frame.body()).unwrap();
        assert_eq!(case["payload"]["endpoint_name"], *hello.name, "{}", name(case));
        assert_eq!(hello.cellnet, None, "{}", name(case));
        assert_eq!(hello.encode(), frame.body(), "{}", name(case));
        seen += 1;
    }
    assert_eq!(seen, 18, "handshakes");
}

#[test]
fn control_payloads_mean_what_was_captured() {
    for case in cases(&common::wire(), "frames", 147).iter().filter(|case| kind(case) >= 4) {
        let frame = Frame::split(bytes(case)).unwrap();
        let value = Value::decode(frame.body(), Limits::HEADERS).unwrap();
        assert!(same(&value, &case["payload"]), "{}: {value:?}", name(case));
        assert_eq!(encoded(&value), frame.body(), "{}", name(case));
    }
}

#[test]
fn header_values_have_the_references_encoding() {
    for case in cases(&common::wire(), "headers", 14) {
        check_headers(&bytes(case), case);
    }
}

#[test]
fn damaged_frames_fail_where_the_reference_drops_them() {
    let wire = common::wire();
    for case in cases(&wire, "odd", 26) {
        let outcome = Frame::split(bytes(case)).map(|frame| (headers(&frame), Hello::decode(frame.body())));
        let name = name(case);
        match name {
            // The connection ends.
            "odd_length_0" => assert_eq!(outcome, Err(PrefixError::TooShort(0))),
            "odd_length_1" => assert_eq!(outcome, Err(PrefixError::TooShort(1))),
            "odd_length_15" => assert_eq!(outcome, Err(PrefixError::TooShort(15))),
            "odd_length_over_max" => assert_eq!(outcome, Err(PrefixError::TooLong(2_145_386_497))),
            // The frame is dropped.
            "odd_bad_header_msgpack" => assert_eq!(outcome.unwrap().0, Err(DecodeError::Reserved)),
            "odd_header_len_beyond_frame" => assert_eq!(outcome.unwrap().0, Err(DecodeError::Trailing(2))),
            "odd_int_header_key" => assert_eq!(outcome.unwrap().0, Err(DecodeError::Key)),
            "odd_type_0" | "odd_type_2" | "odd_type_3" | "odd_type_8" | "odd_type_255" => {
                let prefix = Frame::split(bytes(case)).unwrap().prefix().unwrap();
                assert_eq!(prefix.frame_kind(), None, "{name}");
            }
            "odd_length_16_data" => assert_eq!(outcome.unwrap().0, Ok(Headers::new())),
            "odd_unknown_app" => assert!(outcome.unwrap().0.is_ok()),
            // The peer gets no name.
            "odd_hello_no_name" => {
                assert!(matches!(outcome.unwrap().1, Err(DecodeError::Expected(_))));
            }
            "odd_hello_garbage" => assert_eq!(outcome.unwrap().1, Err(DecodeError::Reserved)),
            // The peer gets a name, which not everybody may like.
            "odd_hello_empty_name" => assert_eq!(outcome.unwrap().1.unwrap().name, ""),
            "odd_hello_my_name" => assert_eq!(outcome.unwrap().1.unwrap().name, "server"),
            "odd_hello_bin_name" => assert_eq!(outcome.unwrap().1.unwrap().name, "abc"),
            "odd_hello_minimal" => assert_eq!(outcome.unwrap().1.unwrap().name, "min-1"),
            "odd_hello_with_headers" => assert_eq!(outcome.unwrap().1.unwrap().name, "min-2"),
            "odd_ready_instead_of_hello" => assert_eq!(outcome.unwrap().1.unwrap().name, "rdy-1"),
            "odd_second_hello" => assert_eq!(outcome.unwrap().1.unwrap().name, "b-second-hello"),
            "odd_hello_bad_fqcn" => {
                let hello = outcome.unwrap().1.unwrap();
                assert_eq!(hello.name, "bad name!");
                assert!(hello.name.parse::<Fqcn>().is_err());
            }
            "odd_ping_before_hello" | "odd_ping_nil" => assert!(outcome.is_ok()),
            other => panic!("no claim about {other}"),
        }
    }
}

#[test]
fn of_equal_keys_the_last_one_counts() {
    let twice = Bytes::from_static(b"\x82\xa1a\x01\xa1a\x02");
    assert_eq!(Value::decode(&twice, Limits::HEADERS).unwrap().get("a"), Some(&Value::Int(2)));
    assert_eq!(Headers::decode(&twice).unwrap().get("a"), Some(Value::Int(2)));
}

/// Checks prefix and headers against the capture and gives them encoded again.
fn check_head(frame: &Frame, case: &Json) -> Bytes {
    let prefix = frame.prefix().unwrap();
    assert_eq!(prefix, prefix_of(case), "{}", name(case));
    let mut out = BytesMut::new();
    prefix.encode(&mut out);
    let block = frame.head().slice(PREFIX_LEN..);
    assert_eq!(block.len(), usize::from(prefix.header_len), "{}", name(case));
    if !block.is_empty() {
        out.extend_from_slice(&check_headers(&block, case));
    }
    assert_eq!(out, frame.head(), "{}", name(case));
    out.freeze()
}

fn check_headers(block: &Bytes, case: &Json) -> Bytes {
    let headers = Headers::decode(block).unwrap();
    let mut out = BytesMut::new();
    headers.encode(&mut out).unwrap();
    assert_eq!(out, block, "{}", name(case));
    if let Some(json) = case.get("headers") {
        assert!(same(&headers.into_value(), json), "{}", name(case));
    }
    out.freeze()
}

fn headers(frame: &Frame) -> Result<Headers, DecodeError> {
    Headers::decode(&frame.head().slice(PREFIX_LEN..))
}

fn encoded(value: &Value) -> Bytes {
    let mut out = BytesMut::new();
    value.encode(&mut out);
    out.freeze()
}

fn kind(case: &Json) -> u64 {
    case["prefix"][2].as_u64().unwrap()
}

fn prefix_of(case: &Json) -> Prefix {
    let field = |at: usize| case["prefix"][at].as_u64().unwrap();
    Prefix {
        length: field(0).try_into().unwrap(),
        header_len: field(1).try_into().unwrap(),
        kind: field(2).try_into().unwrap(),
        reserved: field(3).try_into().unwrap(),
        flags: field(4).try_into().unwrap(),
        app_id: field(5).try_into().unwrap(),
        stream_id: field(6).try_into().unwrap(),
        sequence: field(7).try_into().unwrap(),
    }
}
