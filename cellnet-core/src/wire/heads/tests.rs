use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::wire::{
    DecodeError, Headers, MAX_HEADERS, Value,
    headers::Varying,
    keys::{cn, pipe, sm},
};

/// Both ends of a lane.
struct Lane {
    encoder: HeadEncoder,
    decoder: HeadDecoder,
}

impl Lane {
    fn compact() -> Self {
        Self { encoder: HeadEncoder::compact(), decoder: HeadDecoder::compact() }
    }

    fn plain() -> Self {
        Self { encoder: HeadEncoder::default(), decoder: HeadDecoder::default() }
    }

    /// What a head becomes on the way, and how long it is.
    fn carry(&mut self, headers: &Headers, body: usize) -> (Headers, usize) {
        let mut head = BytesMut::new();
        self.encoder.encode(headers, body, &mut head).unwrap();
        let len = head.len();
        (self.decoder.decode(&head.freeze(), body).unwrap(), len)
    }
}

/// The head of a request as this cell makes it.
fn request(number: u128, body: usize) -> Headers {
    let time = 1.7e9 + number as f64;
    let route = Value::Array(vec![Value::Array(vec![Value::text("site-1"), Value::F64(time)])]);
    let mut headers: Headers = [
        (cn::CHANNEL, "channel"),
        (cn::TOPIC, "topic"),
        (cn::DESTINATION, "server"),
        (cn::ORIGIN, "site-1"),
        (cn::MSG_TYPE, "req"),
        (cn::PAYLOAD_ENCODING, "bytes"),
        (cn::FROM, "site-1"),
        (cn::TO, "server"),
    ]
    .into_iter()
    .collect();
    headers.set(cn::REQ_ID, uuid::Uuid::from_u128(number).to_string());
    headers.set(cn::REPLY_EXPECTED, true);
    headers.set(cn::ROUTE, route);
    headers.set(cn::PAYLOAD_LEN, body as u64);
    headers.set(cn::SEND_TIME, time);
    headers
}

#[test]
fn the_third_message_of_a_kind_has_a_head_of_less_than_forty_bytes() {
    let mut lane = Lane::compact();
    let mut lengths = Vec::new();
    for number in 0..3 {
        let headers = request(number, 64);
        let (arrived, len) = lane.carry(&headers, 64);
        assert_eq!(arrived, headers);
        lengths.push(len - headers.encoded_len().min(len));
        if number == 2 {
            assert!(len < 40, "{len}");
        }
    }
    // In full, in full with the command to keep it, short.
    assert_eq!(lengths, [0, 2, 0]);
}

#[test]
fn a_table_that_is_full_forgets_the_oldest() {
    let mut lane = Lane::compact();
    let kinds = TABLE as u64 + 5;
    for round in 0..6 {
        for kind in 0..kinds {
            let mut headers = request(round, 0);
            headers.set("kind", kind);
            assert_eq!(lane.carry(&headers, 0).0, headers);
        }
    }
    assert_eq!(lane.decoder.entries(), TABLE);
}

#[test]
fn a_plain_lane_writes_what_the_headers_are() {
    let mut lane = Lane::plain();
    for number in 0..5 {
        let headers = request(number, 64);
        let mut expected = BytesMut::new();
        headers.encode(&mut expected).unwrap();
        let mut head = BytesMut::new();
        lane.encoder.encode(&headers, 64, &mut head).unwrap();
        assert_eq!(head, expected);
        assert_eq!(lane.decoder.decode(&head.freeze(), 64), Ok(headers));
    }
}

#[test]
fn short_heads_that_nobody_agreed_to_are_no_heads() {
    let mut lane = Lane { encoder: HeadEncoder::compact(), decoder: HeadDecoder::default() };
    let mut heads = (0..3).map(|number| {
        let mut head = BytesMut::new();
        lane.encoder.encode(&request(number, 0), 0, &mut head).unwrap();
        lane.decoder.decode(&head.freeze(), 0)
    });
    assert!(heads.next().unwrap().is_ok());
    assert!(heads.all(|head| matches!(head, Err(HeadError::Message(_)))));
}

#[test]
fn indices_and_entries_beyond_the_table_break_it() {
    let broken = |head: &[u8]| HeadDecoder::compact().decode(&Bytes::copy_from_slice(head), 0);
    for head in [&[0][..], &[31], &[SPECIAL], &[SPECIAL, 1, 0x80], &[SPECIAL, 200, 0x80], &[SPECIAL, 0, 0x81]]
    {
        assert!(matches!(broken(head), Err(HeadError::Table(_))), "{head:?}");
    }
    let mut long = vec![SPECIAL, 0, 0x81, 0xa1, b'k', 0xda, 4, 0];
    long.resize(8 + 1024, b'v');
    assert_eq!(broken(&long), Err(HeadError::Table(DecodeError::TooLong(MAX_ENTRY))));
}

/// Who is two relays away must not be able to end a link by what it puts into headers.
#[test]
fn headers_that_nobody_reads_cost_themselves_only() {
    let mut lane = Lane::compact();
    let deep = (0..20).fold(Value::Nil, |inner, _| Value::Array(vec![inner]));
    for (key, known) in [(cn::MSG_ROOT_ID, true), ("x", false)] {
        for round in 0..4 {
            let mut headers = request(round, 0);
            headers.set(key, if known && round < 3 { Value::Nil } else { deep.clone() });
            let mut head = BytesMut::new();
            lane.encoder.encode(&headers, 0, &mut head).unwrap();
            let read = lane.decoder.decode(&head.freeze(), 0);
            assert!(read.is_ok() || matches!(read, Err(HeadError::Message(_))), "{read:?}");
        }
        assert_eq!(lane.carry(&request(9, 0), 0).0, request(9, 0));
    }
}

/// The values of a short head are bounded as those of a map are, however many of them may vary.
#[test]
fn a_short_head_does_not_become_more_than_a_map_may_be() {
    let mut decoder = HeadDecoder::compact();
    let mut entry = vec![SPECIAL, 0, 0xde, 0, 40];
    (0..40).for_each(|_| entry.extend(b"\xa6sm__id\x01"));
    decoder.decode(&entry.into(), 0).unwrap();
    // A list of 200 numbers under each.
    let list = [&[0xdc, 0, 200][..], &[1; 200]].concat();
    let many = [&[0][..], &list.repeat(40)].concat();
    assert_eq!(decoder.decode(&many.into(), 0), Err(HeadError::Message(DecodeError::TooMany(4096))));
    let data = [&[0xc5, 0x06, 0x60][..], &[1; 1632]].concat();
    let long = [&[0][..], &data.repeat(40)].concat();
    assert!(long.len() < 0x1_0000);
    assert_eq!(decoder.decode(&long.into(), 0), Err(HeadError::Message(DecodeError::TooLong(MAX_HEADERS))));
}

#[test]
fn an_entry_has_a_bounded_number_of_headers() {
    let mut head = vec![SPECIAL, 0, 0xde, 0, 65];
    (0..65_u8).for_each(|at| head.extend([0xa1, at, 0xc0]));
    let read = HeadDecoder::compact().decode(&head.into(), 0);
    assert_eq!(read, Err(HeadError::Table(DecodeError::TooMany(64))));
    let mut lane = Lane::compact();
    let headers: Headers = (0..65).map(|at| (format!("key-{at}"), "v")).collect();
    (0..4).for_each(|_| assert_eq!(lane.carry(&headers, 0).0, headers));
    assert_eq!(lane.decoder.entries(), 0);
}

/// What a table holds on to is bounded in memory, not only in bytes on the wire.
#[test]
fn an_entry_takes_four_kibibytes_at_most() {
    let full = |pairs: &[u8], count: usize| {
        let mut block = vec![0xde, 0, count as u8];
        block.extend(pairs.repeat(count));
        let headers = Headers::decode(&Bytes::from(block)).unwrap();
        assert!(may_enter(&headers, headers.encoded_len()).is_ok());
        headers.address();
        headers.memory()
    };
    // As many headers as may be, all of which vary; and as much text as may be, all of which is in the address.
    let many = full(b"\xa6sm__id\xda\x00\x05abcde", 64);
    let long = full(&[b"\xabcn__channel\xda\x03\xe8".as_slice(), &[b'c'; 1000]].concat(), 1);
    assert!(many <= 4096 && long <= 4096, "{many}, {long}");
}

#[test]
fn an_entry_stays_small_whatever_is_like_it() {
    let mut lane = Lane::compact();
    let mut settled = |id: &str| {
        let mut headers = request(1, 0);
        headers.set(cn::REQ_ID, id);
        headers.settle();
        lane.carry(&headers, 0);
        lane.encoder.largest_entry()
    };
    assert_eq!(settled("1"), None);
    let small = settled("1");
    assert!(small.is_some_and(|bytes| bytes <= MAX_ENTRY_MEMORY));
    for id in ["2", &"long".repeat(10_000), "3"] {
        assert!(settled(id) <= Some(MAX_ENTRY_MEMORY));
    }
}

fn value() -> impl Strategy<Value = Value> {
    let time = || prop_oneof![Just(1.5), any::<f64>()].prop_map(Value::F64);
    let hop = (prop_oneof![Just("a"), Just("b.c")], time())
        .prop_map(|(name, time)| Value::Array(vec![Value::text(name), time]));
    prop_oneof![
        any::<u64>().prop_map(Value::from),
        (0_u64..300).prop_map(Value::from),
        any::<i64>().prop_map(Value::Int),
        any::<u128>().prop_map(|id| Value::Str(uuid::Uuid::from_u128(id).to_string().into())),
        any::<u128>().prop_map(|id| Value::Str(format!("{id:032X}").into())),
        Just(Value::Nil),
        time(),
        proptest::collection::vec(hop, 0..4).prop_map(Value::Array),
    ]
}

/// Headers with keys that vary and keys that do not, in any order.
fn headers() -> impl Strategy<Value = Headers> {
    let key = prop_oneof![
        Just(cn::REQ_ID),
        Just(cn::ROUTE),
        Just(pipe::MSG_ID),
        Just(cn::SEND_TIME),
        Just(cn::PAYLOAD_LEN),
        Just(sm::ID),
        Just(sm::OFFSET),
        Just(cn::ORIGIN),
        Just("x"),
    ];
    let stable = prop_oneof![Just(Value::text("one")), Just(Value::text("two"))];
    proptest::collection::vec((key, value(), stable), 0..7).prop_map(|pairs| {
        let value =
            |key: &str, value, stable| if Varying::of(key.as_bytes()).is_some() { value } else { stable };
        pairs.into_iter().map(|(key, varying, stable)| (key, value(key, varying, stable))).collect()
    })
}

/// The same headers, byte for byte.
fn encoded(headers: &Headers) -> BytesMut {
    let mut out = BytesMut::new();
    headers.encode(&mut out).unwrap();
    out
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_byte_for_byte(
        kinds in proptest::collection::vec(headers(), 1..6),
        picks in proptest::collection::vec((any::<prop::sample::Index>(), value(), 0_usize..70_000), 0..60),
    ) {
        let lanes = || [Lane::compact(), Lane::plain()];
        // Those that follow carry what the first have carried, as relays do.
        let (mut lanes, mut further) = (lanes(), lanes().map(|lane| [lane, Lane::compact()]));
        for (pick, value, body) in picks {
            let mut headers = pick.get(&kinds).clone();
            for key in [cn::SEND_TIME, cn::ROUTE, cn::REQ_ID].into_iter().filter(|key| headers.contains(key)).collect::<Vec<_>>() {
                headers.set(key, value.clone());
            }
            for (lane, further) in lanes.iter_mut().zip(&mut further) {
                let mut arrived = lane.carry(&headers, body).0;
                prop_assert_eq!(encoded(&arrived), encoded(&headers));
                for (next, lane) in further.iter_mut().enumerate() {
                    arrived.set(cn::FROM, next as u64);
                    arrived.set(cn::SEND_TIME, value.clone());
                    prop_assert_eq!(encoded(&lane.carry(&arrived, body).0), encoded(&arrived));
                }
            }
        }
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(heads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..20)) {
        let mut decoder = HeadDecoder::compact();
        let mut known = BytesMut::from(&[SPECIAL, 0][..]);
        request(1, 0).encode(&mut known).unwrap();
        decoder.decode(&known.freeze(), 0).unwrap();
        for mut head in heads {
            let _ = decoder.decode(&head.clone().into(), 7);
            head.insert(0, 0);
            let _ = decoder.decode(&head.into(), 7);
        }
    }

    /// A head like an earlier one is read in a shorter way, with the same outcome.
    #[test]
    fn damage_is_found_as_if_the_head_were_the_first(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut decoder = HeadDecoder::default();
        let whole = encoded(&request(1, 300));
        decoder.decode(&whole.clone().freeze(), 300).unwrap();
        let mut damaged = whole;
        let at = at.index(damaged.len());
        damaged[at] = byte;
        let damaged = damaged.freeze();
        let fresh = Headers::decode(&damaged).map_err(HeadError::Message);
        let read = decoder.decode(&damaged, 300);
        prop_assert_eq!(read.as_ref().map(encoded), fresh.as_ref().map(encoded));
        prop_assert_eq!(read, fresh);
    }
}
