use bytes::BytesMut;
use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;
use crate::wire::keys::{cn, sm};

/// What is done to headers.
#[derive(Debug, Clone)]
enum Act {
    Set(Index, Value),
    Remove(Index),
    Extend(Vec<(Index, Value)>),
    ExtendAbsent(Vec<(Index, Value)>),
    /// Written and read again, by itself or as one of a kind.
    Travel,
    Settle,
    Detach,
}

const KEYS: [&str; 9] =
    [cn::REQ_ID, cn::ROUTE, cn::PAYLOAD_LEN, sm::OFFSET, cn::ORIGIN, cn::TO, "x", "", "cellnet"];

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        (0_u64..300).prop_map(Value::from),
        any::<f64>().prop_map(Value::F64),
        "[a-z]{0,40}".prop_map(|text| Value::Str(text.into())),
        Just(Value::Nil),
        Just(Value::Array(vec![Value::Bool(true)])),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let pairs = || vec((any::<Index>(), value()), 0..5);
    prop_oneof![
        4 => (any::<Index>(), value()).prop_map(|(key, value)| Act::Set(key, value)),
        1 => any::<Index>().prop_map(Act::Remove),
        1 => pairs().prop_map(Act::Extend),
        1 => pairs().prop_map(Act::ExtendAbsent),
        2 => Just(Act::Travel),
        1 => Just(Act::Settle),
        1 => Just(Act::Detach),
    ]
}

/// The simplest map that keeps its order.
#[derive(Debug, Default)]
struct Model(Vec<(&'static str, Value)>);

impl Model {
    fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    fn set(&mut self, key: &'static str, value: Value) {
        match self.0.iter_mut().find(|(known, _)| *known == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key, value)),
        }
    }
}

fn named(pairs: &[(Index, Value)]) -> Vec<(&'static str, Value)> {
    pairs.iter().map(|(key, value)| (*key.get(&KEYS), value.clone())).collect()
}

fn encoded(headers: &Headers) -> Bytes {
    let mut out = BytesMut::new();
    headers.encode(&mut out).unwrap();
    out.freeze()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn headers_are_an_ordered_map_whatever_happens_to_them(acts in vec(act(), 0..40)) {
        let (mut headers, mut model) = (Headers::new(), Model::default());
        for act in acts {
            match act {
                Act::Set(key, value) => {
                    let key = *key.get(&KEYS);
                    headers.set(key, value.clone());
                    model.set(key, value);
                }
                Act::Remove(key) => {
                    let key = *key.get(&KEYS);
                    prop_assert_eq!(headers.remove(key), model.get(key).is_some());
                    model.0.retain(|(known, _)| *known != key);
                }
                Act::Extend(pairs) => {
                    let other: Headers = named(&pairs).into_iter().collect();
                    headers.extend(&other);
                    named(&pairs).into_iter().for_each(|(key, value)| model.set(key, value));
                }
                Act::ExtendAbsent(pairs) => {
                    let mut other = Model::default();
                    named(&pairs).into_iter().for_each(|(key, value)| other.set(key, value));
                    headers.extend_absent(&other.0.iter().cloned().collect());
                    for (key, value) in other.0 {
                        if model.get(key).is_none() {
                            model.set(key, value);
                        }
                    }
                }
                Act::Travel => {
                    let block = encoded(&headers);
                    let first = Headers::decode(&block).unwrap();
                    headers = first.resembling(&Bytes::copy_from_slice(&block)).unwrap_or(first);
                }
                Act::Settle => headers.settle(),
                Act::Detach => headers = headers.detached(),
            }
            prop_assert_eq!(headers.encoded_len(), encoded(&headers).len());
            let pairs: Vec<_> = headers.iter().collect();
            let expected: Vec<_> = model.0.iter().map(|(key, value)| (Value::text(key), value.clone())).collect();
            prop_assert_eq!(format!("{pairs:?}"), format!("{expected:?}"));
            prop_assert_eq!(headers.keys().collect::<Vec<_>>(), model.0.iter().map(|(key, _)| *key).collect::<Vec<_>>());
            for key in KEYS {
                prop_assert_eq!(format!("{:?}", headers.get(key).as_ref()), format!("{:?}", model.get(key)));
            }
        }
    }
}

/// A header map with these keys as they stand, and a number for each.
fn map(keys: &[&[u8]]) -> Bytes {
    let mut block = vec![0x80 | keys.len() as u8];
    keys.iter().for_each(|key| block.extend([*key, &[7]].concat()));
    block.into()
}

#[test]
fn a_value_of_the_same_length_takes_the_place_of_another_under_a_key_with_a_long_marker() {
    let mut headers = Headers::decode(&map(&[b"\xd9\x01k"])).unwrap();
    for value in [8_u64, 9] {
        headers.set("k", value);
        assert_eq!((headers.uint("k"), headers.len()), (Some(value), 1));
        assert_eq!(&encoded(&headers)[..], [0x81, 0xd9, 1, b'k', value as u8]);
    }
}

#[test]
fn keys_that_are_written_in_another_way_than_usual_do_not_vary() {
    let varying = |key: &[u8]| {
        let mut count = 0;
        Headers::decode(&map(&[key])).unwrap().each_varying(|_, _| count += 1);
        count
    };
    assert_eq!(varying(b"\xa9cn__route"), 1);
    assert_eq!(varying(b"\xd9\x09cn__route"), 0);
    assert_eq!(varying(b"\xc4\x09cn__route"), 0);
}

#[test]
fn of_several_values_under_a_key_the_last_one_is_taken_over() {
    let twice = Headers::decode(&Bytes::from_static(b"\x82\xa1x\x01\xa1x\x02")).unwrap();
    let (mut absent, mut laid_over) = (Headers::new(), Headers::new());
    absent.extend_absent(&twice);
    laid_over.extend(&twice);
    assert_eq!((absent.uint("x"), laid_over.uint("x")), (Some(2), Some(2)));
}

#[test]
fn what_all_of_a_kind_say_is_read_once_unless_it_was_changed() {
    let mut headers: Headers =
        [(cn::ORIGIN, "site-1"), (cn::CHANNEL, "c"), (cn::REQ_ID, "1")].into_iter().collect();
    headers.settle();
    let first = headers.address();
    headers.set(cn::REQ_ID, "2");
    assert!(Arc::ptr_eq(&first, &headers.address()));
    headers.set(cn::ORIGIN, "site-2");
    let changed = headers.address();
    let origin = |address: &Address| address.origin.as_ref().map(|name| name.to_string());
    assert_eq!((origin(&first).as_deref(), origin(&changed).as_deref()), (Some("site-1"), Some("site-2")));
    headers.set(cn::ORIGIN, "site-1");
    headers.set("added", "x");
    assert_eq!(&*headers.address().channel, "c");
}
