//! Decoders survive every input and stay within limits; codecs give back what they were given.

use bytes::{Bytes, BytesMut};
use cellnet_core::{
    fobs::{
        self, Array, ArrayKind, ByteOrder, DType, Datum, DatumValue, Document, Object, Opaque, Order, Scalar,
        Source, Tensor, npy, npz, safetensors,
    },
    wire::{
        Frame, Headers, Limits, MAX_FRAME, PREFIX_LEN, Prefix, Value,
        hello::{Cellnet, Hello},
    },
};
use proptest::{collection::vec, prelude::*, sample::Index};
use uuid::Uuid;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_input_breaks_a_decoder(input in input()) {
        survive(&input)?;
    }

    #[test]
    fn no_damage_to_a_payload_breaks_a_decoder(object in object(), damage in damage()) {
        survive(&damaged(fobs::encode(&Document::with_threshold(object, 8)), damage))?;
    }

    #[test]
    fn no_damage_to_headers_breaks_a_decoder(headers in headers(), damage in damage()) {
        survive(&damaged(encode_headers(&headers), damage))?;
    }

    #[test]
    fn no_damage_to_a_handshake_breaks_a_decoder(hello in hello(), damage in damage()) {
        survive(&damaged(hello.encode(), damage))?;
    }

    #[test]
    fn prefixes_come_back(prefix in prefix()) {
        let mut out = BytesMut::new();
        prefix.encode(&mut out);
        prop_assert_eq!(out.len(), PREFIX_LEN);
        prop_assert_eq!(Prefix::decode(out.first_chunk().unwrap()), Ok(prefix));
    }

    #[test]
    fn frames_come_back(mut prefix in prefix(), headers in headers(), body in bytes()) {
        let block = encode_headers(&headers);
        prefix.header_len = block.len().try_into().unwrap();
        prefix.length = (PREFIX_LEN + block.len() + body.len()).try_into().unwrap();
        let mut head = BytesMut::new();
        prefix.encode(&mut head);
        head.extend_from_slice(&block);
        let frame = Frame::new(head.freeze(), body);
        let whole = Bytes::from([&frame.head()[..], frame.body()].concat());
        prop_assert!(!frame.is_truncated());
        prop_assert_eq!(Frame::split(whole), Ok(frame));
    }

    #[test]
    fn values_come_back(value in value()) {
        prop_assert_eq!(Value::decode(&encode_value(&value), Limits::PAYLOAD), Ok(value));
    }

    #[test]
    fn headers_come_back(headers in headers()) {
        prop_assert_eq!(Headers::decode(&encode_headers(&headers)), Ok(headers));
    }

    #[test]
    fn handshakes_come_back(hello in hello()) {
        prop_assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
    }

    #[test]
    fn objects_come_back(object in object(), threshold in 0_usize..32) {
        let document = Document::with_threshold(object.clone(), threshold);
        let payload = fobs::encode(&document);
        let decoded = fobs::decode(&payload, Limits::PAYLOAD).unwrap();
        prop_assert_eq!(&decoded, &document);
        prop_assert_eq!(fobs::encode(&decoded), payload);
        prop_assert_eq!(decoded.into_object(), Ok(object));
    }

    #[test]
    fn arrays_come_back(array in array(), name in ".{0,9}") {
        prop_assert_eq!(&npy::decode(&npy::encode(&array)).unwrap(), &array);
        let archive = npz::encode([(&*name, &array)]).unwrap();
        prop_assert_eq!(npz::decode(&archive, 1).unwrap(), [(name.clone().into(), array.clone())]);
        if let Ok(tensor) = Tensor::try_from(array) && name != "__metadata__" {
            let file = safetensors::encode(&name, &tensor);
            prop_assert_eq!(safetensors::decode(&file, 1).unwrap(), [(name.into(), tensor)]);
        }
    }

    #[test]
    fn standard_form_has_the_same_elements(array in array()) {
        let standard = array.to_standard();
        prop_assert_eq!(standard.shape(), array.shape());
        if let (Ok(ours), Ok(theirs)) = (standard.to_vec::<f64>(), array.to_vec::<f64>()) {
            let bits = |elements: Vec<f64>| elements.into_iter().map(f64::to_bits).collect::<Vec<_>>();
            prop_assert_eq!(bits(ours), bits(theirs));
        }
    }

    #[test]
    fn no_damage_to_an_array_breaks_a_decoder(array in array(), damage in damage(), kind in 0..3) {
        let file = match (kind, Tensor::try_from(array.clone())) {
            (0, Ok(tensor)) => safetensors::encode("t", &tensor),
            (1, _) => npz::encode([("T0", &array), ("T1", &array)]).unwrap(),
            _ => npy::encode(&array),
        };
        survive(&damaged(file, damage))?;
    }

    #[test]
    fn references_come_back(object in object()) {
        let source = Source::new("site-1".parse().unwrap(), "some id");
        let (mut referred, mut kept) = (object.clone(), Vec::new());
        for kind in ArrayKind::ALL {
            kept.extend(referred.refer(kind, &source).into_iter().map(|(item, array)| ((kind, item), array)));
        }
        let payload = fobs::encode(&Document::new(referred));
        let mut came = fobs::decode(&payload, Limits::PAYLOAD).unwrap().into_object().unwrap();
        for download in came.downloads() {
            let find = |item: &str| kept.iter().find(|((kind, name), _)| *kind == download.kind && name == item);
            came.fill(&download, |item| find(item).map(|(_, array)| array.clone())).unwrap();
        }
        prop_assert_eq!(came, object);
    }

    #[test]
    fn rust_values_come_back(value: (String, Vec<Option<i64>>, Vec<(u64, bool)>, char)) {
        let payload = fobs::to_bytes(&value).unwrap();
        prop_assert_eq!(fobs::from_bytes::<(String, Vec<Option<i64>>, Vec<(u64, bool)>, char)>(&payload).unwrap(), value);
    }
}

/// The deepest that payloads may nest fits on the stack, whatever is done with it; one more is refused.
#[test]
fn the_deepest_payload_can_be_used() {
    for (open, depth) in [(&[0x91_u8][..], 128), (&[0x81, 0xc0], 128), (&[0x81, 0xc0], 129)] {
        let value = [&open.repeat(depth)[..], &[0xc0]].concat();
        let header = [&[100, 0][..], &(value.len() as u64).to_be_bytes()].concat();
        let payload = Bytes::from([header, value].concat());
        let decoded = fobs::decode(&payload, Limits::PAYLOAD);
        assert_eq!(decoded.is_ok(), depth == 128);
        if let Ok(document) = decoded {
            assert_eq!(fobs::encode(&document), payload);
            let object = document.into_object().unwrap();
            assert!(fobs::from_object::<serde::de::IgnoredAny>(&object).is_ok());
            assert!(serde_json::to_string(&object).is_ok());
        }
    }
}

/// Feeds an input to all decoders. What they make of it has no more values than the limit and no more than the input
/// has bytes, so memory is bounded by both.
fn survive(input: &Bytes) -> Result<(), TestCaseError> {
    if let Ok(frame) = Frame::split(input.clone()) {
        prop_assert_eq!([&frame.head()[..], frame.body()].concat(), &input[..]);
        let _ = Headers::decode(&frame.head().slice(PREFIX_LEN..));
    }
    if let Ok(headers) = Headers::decode(input)
        && !input.is_empty()
    {
        let count = count_value(&headers.into_value());
        prop_assert!(count <= input.len() && count <= Limits::HEADERS.values);
    }
    if let Ok(hello) = Hello::decode(input) {
        prop_assert!(hello.encode().len() < 2 * input.len() + 256);
    }
    for limits in [Limits::PAYLOAD, Limits { depth: 2, values: 8, bytes: 100 }] {
        if let Ok(value) = Value::decode(input, limits) {
            let count = count_value(&value);
            prop_assert!(count <= input.len() && count <= limits.values);
            prop_assert!(depth_of(&value) <= limits.depth);
            prop_assert!(encode_value(&value).len() <= input.len(), "the shortest form is no longer");
        }
        if let Ok(document) = fobs::decode(input, limits) {
            let count = count_object(document.main());
            prop_assert!(count <= input.len() && count <= limits.values);
            prop_assert!(document.datums().len() <= limits.values);
            let _ = document.into_object();
        }
    }
    let _ = fobs::from_bytes::<serde_json::Value>(input);
    let mut arrays: Vec<Array> = npy::decode(input).into_iter().collect();
    arrays.extend(npz::decode(input, 2).into_iter().flatten().map(|(_, array)| array));
    arrays.extend(safetensors::decode(input, 2).into_iter().flatten().map(|(_, tensor)| tensor.into()));
    for array in arrays {
        prop_assert!(array.data().len() <= input.len());
        prop_assert!(array.to_standard().data().len() <= input.len());
        prop_assert!(array.iter::<f64>().map_or(0, Iterator::count) <= input.len());
        let _ = serde_json::to_string(&array);
    }
    Ok(())
}

fn count_value(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count_value).sum(),
        Value::Map(pairs) => pairs.iter().map(|(key, value)| count_value(key) + count_value(value)).sum(),
        _ => 0,
    }
}

fn depth_of(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth_of).max().unwrap_or(0),
        Value::Map(pairs) => {
            1 + pairs.iter().map(|(key, value)| depth_of(key).max(depth_of(value))).max().unwrap_or(0)
        }
        _ => 0,
    }
}

fn count_object(object: &Object) -> usize {
    let pairs = |pairs: &[(Object, Object)]| {
        pairs.iter().map(|(key, value)| count_object(key) + count_object(value)).sum::<usize>()
    };
    1 + match object {
        Object::Opaque(opaque) => pairs(opaque.fields()),
        object => {
            object.pairs().map(pairs).unwrap_or_default()
                + object.items().unwrap_or_default().iter().map(count_object).sum::<usize>()
        }
    }
}

fn encode_value(value: &Value) -> Bytes {
    let mut out = BytesMut::new();
    value.encode(&mut out);
    out.freeze()
}

fn encode_headers(headers: &Headers) -> Bytes {
    let mut out = BytesMut::new();
    headers.encode(&mut out).unwrap();
    out.freeze()
}

/// Random bytes, half of them as the main section of a payload or behind a valid length of a frame.
fn input() -> impl Strategy<Value = Bytes> {
    let bytes = vec(any::<u8>(), 0..200);
    prop_oneof![
        bytes.clone().prop_map(Bytes::from),
        bytes.clone().prop_map(|bytes| Bytes::from([&[0, 0, 1, 0, 0, 20], &bytes[..]].concat())),
        bytes.prop_map(|bytes| {
            Bytes::from([&[100, 0], &(bytes.len() as u64).to_be_bytes()[..], &bytes].concat())
        }),
    ]
}

/// Bytes to overwrite, and where to cut.
fn damage() -> impl Strategy<Value = (Vec<(Index, u8)>, Option<Index>)> {
    (vec((any::<Index>(), any::<u8>()), 0..4), any::<Option<Index>>())
}

fn damaged(bytes: Bytes, (changes, cut): (Vec<(Index, u8)>, Option<Index>)) -> Bytes {
    let mut bytes = bytes.to_vec();
    for (at, byte) in changes {
        let at = at.index(bytes.len());
        bytes[at] = byte;
    }
    if let Some(cut) = cut {
        bytes.truncate(cut.index(bytes.len() + 1));
    }
    bytes.into()
}

fn prefix() -> impl Strategy<Value = Prefix> {
    (PREFIX_LEN as u32..=MAX_FRAME as u32, any::<(u16, u8, u8, u16, u16, u16, u16)>()).prop_map(
        |(length, (header_len, kind, reserved, flags, app_id, stream_id, sequence))| Prefix {
            length,
            header_len,
            kind,
            reserved,
            flags,
            app_id,
            stream_id,
            sequence,
        },
    )
}

fn hello() -> impl Strategy<Value = Hello> {
    let cellnet = (any::<[u8; 16]>(), vec(".*", 0..4)).prop_map(|(instance, features)| Cellnet {
        features: features.into_iter().map(Into::into).collect(),
        ..Cellnet::new(instance)
    });
    (".*", proptest::option::of(cellnet), number()).prop_map(|(name, cellnet, timestamp)| Hello {
        name: name.into(),
        cellnet,
        timestamp,
    })
}

fn headers() -> impl Strategy<Value = Headers> {
    let key = prop_oneof![".*".prop_map(Value::from), bytes().prop_map(Value::Bin)].boxed();
    let value = leaf().prop_recursive(3, 16, 4, {
        let key = key.clone();
        move |value| {
            prop_oneof![
                vec(value.clone(), 0..4).prop_map(Value::Array),
                vec((key.clone(), value), 0..4).prop_map(Value::Map),
            ]
        }
    });
    vec((key, value), 0..20).prop_map(|pairs| Value::Map(pairs).try_into().unwrap())
}

fn value() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(4, 64, 20, |value| {
        prop_oneof![
            vec(value.clone(), 0..20).prop_map(Value::Array),
            vec((value.clone(), value), 0..20).prop_map(Value::Map),
        ]
    })
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-200_i64..70_000).prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i32>().prop_map(|value| Value::F32(value as f32)),
        number().prop_map(Value::from),
        ".*".prop_map(Value::from),
        bytes().prop_map(Value::from),
        (any::<i8>(), bytes()).prop_map(|(kind, bytes)| Value::Ext(kind, bytes)),
    ]
}

fn object() -> impl Strategy<Value = Object> {
    let leaf = prop_oneof![
        Just(Object::Nil),
        any::<bool>().prop_map(Object::from),
        any::<i64>().prop_map(Object::from),
        any::<u64>().prop_map(Object::from),
        number().prop_map(Object::from),
        ".*".prop_map(Object::from),
        bytes().prop_map(Object::from),
        ".*".prop_map(|text| Object::DateTime(text.into())),
        ("[a-z]{1,9}[.][A-Z]", ".*").prop_map(|(kind, member)| Object::enum_member(kind, member)),
        datum().prop_map(Object::from),
        array().prop_map(Object::from),
        array().prop_filter_map("of torch", |array| Tensor::try_from(array).ok()).prop_map(Object::from),
        scalar().prop_map(Object::from),
        (any::<i8>(), bytes()).prop_map(|(kind, bytes)| Object::Ext(kind, bytes)),
    ];
    leaf.prop_recursive(4, 48, 8, |object| {
        let items = vec(object.clone(), 0..8);
        let pairs = vec((object.clone(), object.clone()), 0..8);
        prop_oneof![
            items.clone().prop_map(Object::List),
            items.clone().prop_map(Object::Tuple),
            items.prop_map(Object::Set),
            pairs.clone().prop_map(Object::Map),
            pairs.prop_map(Object::OrderedDict),
            ("[a-z]{1,9}[.][A-Z]", object, ".*")
                .prop_map(|(kind, data, decomposer)| Opaque::new(kind, data, decomposer).into()),
        ]
    })
}

fn scalar() -> impl Strategy<Value = Scalar> {
    prop_oneof![
        number().prop_map(Scalar::F64),
        any::<i32>().prop_map(|value| Scalar::F32(value as f32)),
        any::<i64>().prop_map(Scalar::I64),
        any::<i32>().prop_map(Scalar::I32),
    ]
}

/// Of all types, byte orders, orders and shapes.
fn array() -> impl Strategy<Value = Array> {
    let dtypes = vec![
        DType::Bool,
        DType::I8,
        DType::I16,
        DType::I32,
        DType::I64,
        DType::U8,
        DType::U16,
        DType::U32,
        DType::U64,
        DType::F16,
        DType::F32,
        DType::F64,
        DType::C64,
        DType::C128,
        DType::Other("'<M8[ns]'".into()),
        DType::Other("[('a', '<i4'), ('ł', '<U1')]".into()),
    ];
    let shape = vec(0_usize..5, 0..4);
    let orders = (any::<bool>(), any::<bool>());
    (proptest::sample::select(dtypes), shape, orders, any::<u8>()).prop_map(|(dtype, shape, orders, fill)| {
        let big = orders.0 && !matches!(dtype, DType::Other(_));
        let byte_order = if big { ByteOrder::Big } else { ByteOrder::Little };
        let order = if orders.1 { Order::Fortran } else { Order::C };
        let len = shape.iter().product::<usize>() * dtype.size().unwrap_or(8);
        // Truth values are 0 or 1.
        let mask = if dtype == DType::Bool { 1 } else { 0xff };
        let data: Vec<u8> = (0..len).map(|at| fill.wrapping_mul(at as u8) & mask).collect();
        Array::from_bytes(dtype, byte_order, order, &shape, data.into()).unwrap()
    })
}

fn datum() -> impl Strategy<Value = Datum> {
    let value = prop_oneof![
        "..*".prop_map(|text| DatumValue::Text(text.into())),
        bytes().prop_filter("not empty", |bytes| !bytes.is_empty()).prop_map(DatumValue::Blob),
        bytes().prop_filter("not empty", |bytes| !bytes.is_empty()).prop_map(DatumValue::File),
    ];
    (any::<u128>(), value).prop_map(|(id, value)| Datum::with_id(Uuid::from_u128(id), 0, value).unwrap())
}

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

/// No NaN, which is not equal to itself.
fn number() -> impl Strategy<Value = f64> {
    any::<f64>().prop_filter("not NaN", |value| !value.is_nan())
}
