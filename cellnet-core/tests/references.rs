//! References to arrays between objects and payloads.

use cellnet_core::{
    fobs::{
        self, Array, ArrayKind, Datum, DatumValue, Document, Download, FobsError, Object, Opaque,
        ReferenceError, Source, Tensor,
    },
    wire::Limits,
};
use uuid::Uuid;

fn source(owner: &str) -> Source {
    Source::new(owner.parse().unwrap(), "some id")
}

fn again(object: Object) -> Result<Object, FobsError> {
    fobs::decode(&fobs::encode(&Document::new(object)), Limits::PAYLOAD)?.into_object()
}

/// Arrays and tensors in every kind of place.
fn object() -> Object {
    let shared = Array::from(vec![1_i64, 2]);
    let tensor = Tensor::with_shape(vec![0.5_f32; 4], &[2, 2]).unwrap();
    Object::from_iter([
        ("list", Object::List(vec![Array::scalar(1.5).into(), shared.clone().into()])),
        ("tuple", Object::Tuple(vec![tensor.into()])),
        ("ordered", Object::OrderedDict(vec![("w".into(), shared.into())])),
        ("own", Opaque::new("a.B", Object::Set(vec![Array::from(vec![true]).into()]), "c.D").into()),
    ])
}

#[test]
fn each_kind_travels_by_a_reference_of_its_own() {
    let (whole, mut object) = (object(), object());
    let arrays = object.refer(ArrayKind::Numpy, &source("site-1"));
    let tensors = object.refer(ArrayKind::Torch, &source("site-2"));
    let names = |items: &[(_, Array)]| {
        items.iter().map(|(name, _): &(bytestring::ByteString, _)| name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(
        (names(&arrays), names(&tensors)),
        (vec!["T0".into(), "T1".into(), "T2".into()], vec!["T0".to_owned()])
    );

    let document = Document::new(object);
    assert_eq!(document.datums().iter().map(Datum::dot).collect::<Vec<_>>(), [3, 6]);
    let mut object = fobs::decode(&fobs::encode(&document), Limits::PAYLOAD).unwrap().into_object().unwrap();
    for (kept, download) in [arrays, tensors].iter().zip(object.downloads()) {
        let packed = kept.iter().map(|(item, array)| download.kind.pack(item, array).unwrap());
        let mut fetched =
            packed.flat_map(|piece| download.kind.unpack(&piece, 1).unwrap()).collect::<Vec<_>>();
        assert_eq!(fetched.len(), download.items.len());
        fetched.reverse();
        object
            .fill(&download, |item| Some(fetched.iter().find(|(name, _)| name == item)?.1.clone()))
            .unwrap();
    }
    assert_eq!(object, whole);
}

#[test]
fn clones_of_an_array_travel_once_and_share_memory_again() {
    let array = Array::from(vec![1.0, 2.0]);
    let mut object =
        Object::from(vec![array.clone().into(), Array::from(vec![1.0, 2.0]).into(), array.into()]);
    let kept = object.refer(ArrayKind::Numpy, &source("site-1"));
    assert_eq!(kept.len(), 2);
    let mut object = again(object).unwrap();
    let download = object.downloads().remove(0);
    object.fill(&download, |_| Some(Array::from(vec![3.0]))).unwrap();
    let places: Vec<_> = object.items().unwrap().iter().map(|item| item.as_array().unwrap()).collect();
    assert!(places[0].is_same(places[2]) && !places[0].is_same(places[1]));
}

#[test]
fn arrays_beside_references_from_elsewhere_travel_as_they_are() {
    let mut theirs = Object::from(vec![Array::scalar(1).into()]);
    theirs.refer(ArrayKind::Numpy, &source("server"));
    let mut both = Object::from(vec![again(theirs).unwrap(), Array::scalar(2).into()]);
    assert!(both.refer(ArrayKind::Numpy, &source("site-1")).is_empty());
    let came = again(both).unwrap();
    assert_eq!(came.downloads().len(), 1);
    assert_eq!(came.downloads()[0].source, source("server"));
    assert_eq!(came.items().unwrap()[1], Array::scalar(2).into());
}

/// Two sources of one kind cannot be said in one payload. Nobody gets the wrong array for it.
#[test]
fn references_to_a_second_source_are_lost_and_not_mixed_up() {
    let reference = |owner| {
        let mut object = Object::from(Array::scalar(1));
        object.refer(ArrayKind::Numpy, &source(owner));
        object
    };
    let came = again(Object::from(vec![reference("site-1"), reference("site-2")])).unwrap();
    let downloads = came.downloads();
    let lost = "T0 of site-2 some id";
    assert_eq!(downloads.len(), 1);
    assert_eq!(
        (&downloads[0].source, &downloads[0].items),
        (&source("site-1"), &vec!["T0".into(), lost.into()])
    );
    let outcome = came.clone().fill(&downloads[0], |item| (item == "T0").then(|| Array::scalar(1)));
    assert_eq!(outcome, Err(ReferenceError::Missing(lost.into())));
}

#[test]
fn what_names_no_source_is_an_error() {
    let told = |text: &str, again: bool| {
        let mut object = Object::from(Array::scalar(1));
        object.refer(ArrayKind::Numpy, &source("site-1"));
        let mut document = Document::new(object);
        if !again {
            document.take(3);
        }
        let datum = Datum::with_id(Uuid::nil(), 3, DatumValue::Text(text.into())).unwrap();
        document.push(datum);
        document.into_object().map(drop)
    };
    let good = r#"{"ref_id":"some id","fqcn":"site-1","more":[]}"#;
    assert_eq!(told(good, false), Ok(()));
    assert_eq!(told(good, true), Ok(()));
    assert_eq!(told(&good.replace("-1", "-2"), true), Err(ReferenceError::Sources.into()));
    for broken in ["", " ", "{}", r#"{"fqcn":"a b","ref_id":"x"}"#, r#"{"fqcn":"a","ref_id":1}"#, "[[[["] {
        if !broken.is_empty() {
            assert_eq!(told(broken, false), Err(ReferenceError::Source(Uuid::nil()).into()), "{broken}");
        }
    }
}

#[test]
fn a_tensor_is_not_made_of_what_torch_does_not_know() {
    let mut object = Object::from(Tensor::with_shape(vec![1_u8], &[1]).unwrap());
    object.refer(ArrayKind::Torch, &source("site-1"));
    let download = object.downloads().remove(0);
    let dtype = fobs::DType::Other("'<U1'".into());
    let text =
        Array::from_bytes(dtype, fobs::ByteOrder::Little, fobs::Order::C, &[1], vec![0; 4].into()).unwrap();
    assert!(ArrayKind::Torch.pack("T0", &text).is_err());
    assert!(matches!(object.fill(&download, |_| Some(text.clone())), Err(ReferenceError::Tensor { .. })));
}

#[test]
fn a_large_array_does_not_multiply() {
    let places = |count: usize, len: usize| {
        let mut object = Object::List(vec![Array::from(vec![0_u8; len]).into(); count]);
        let download = {
            object.refer(ArrayKind::Numpy, &source("site-1"));
            object.downloads().remove(0)
        };
        object.fill(&download, |_| Some(Array::from(vec![0_u8; len])))
    };
    assert_eq!(places(16, 8 << 20), Ok(()));
    assert_eq!(places(17, 8 << 20), Err(ReferenceError::Repeated("T0".into())));
    assert_eq!(places(1000, 64), Ok(()));
}

#[test]
fn only_the_downloads_own_places_are_filled() {
    let mut object = object();
    object.refer(ArrayKind::Numpy, &source("site-1"));
    object.refer(ArrayKind::Torch, &source("site-1"));
    let other = Download { source: source("site-2"), ..object.downloads().remove(0) };
    let before = object.clone();
    object.fill(&other, |_| panic!("nothing is wanted")).unwrap();
    assert_eq!(object, before);
}
