//! Arrays and FLARE's objects: the reference and numpy read what is written here, and the reverse.
//!
//! The objects of `tests/python/objects.py` are made here a second time, by hand.

use std::{collections::BTreeMap, fs, path::PathBuf};

use bytes::Bytes;
use cellnet::{
    flare::{DataKind, Dict, Dxo, FlContext, FlModel, ModelLearnable, Prop, Shareable},
    fobs::{
        self, Array, ByteOrder, DType, Document, Element, Object, Order, Scalar, Tensor, npz, safetensors,
    },
    wire::Limits,
};

use crate::python::run_script;

#[test]
fn the_reference_reads_what_is_written_here() {
    let folder = folder("ours");
    for (name, object) in objects() {
        let write = |form, bytes: Bytes| fs::write(folder.join(format!("{name}.{form}")), bytes).unwrap();
        if let Some(array) = object.as_array() {
            write("npz", npz::encode([("T0", array)]).unwrap());
            if let Some(tensor) = for_torch(array) {
                write("safetensors", safetensors::encode("t", &tensor));
            }
        }
        write("fobs", fobs::encode(&Document::new(object)));
    }
    run_script("objects", &["check", folder.to_str().unwrap()]).unwrap();
}

#[test]
fn what_the_reference_writes_is_read_here_and_written_alike() {
    let folder = folder("theirs");
    run_script("objects", &["write", folder.to_str().unwrap()]).unwrap();
    let mut left = fs::read_dir(&folder).unwrap().count();
    for (name, object) in objects() {
        let read = |form| Bytes::from(fs::read(folder.join(format!("{name}.{form}"))).unwrap());
        let payload = read("fobs");
        let document = fobs::decode(&payload, Limits::PAYLOAD).unwrap();
        assert_eq!(fobs::encode(&document), payload, "{name}");
        assert_eq!(document.into_object().unwrap(), object, "{name}");
        left -= 1;
        if let Some(array) = object.as_array() {
            let archive = read("npz");
            assert_eq!(npz::decode(&archive, 1).unwrap(), [("T0".into(), array.clone())], "{name}");
            assert_eq!(npz::encode([("T0", array)]).unwrap(), archive, "{name}");
            left -= 1;
            if let Some(tensor) = for_torch(array) {
                let file = read("safetensors");
                assert_eq!(safetensors::decode(&file, 1).unwrap(), [("t".into(), tensor.clone())], "{name}");
                assert_eq!(safetensors::encode("t", &tensor), file, "{name}");
                left -= 1;
            }
        }
        assert_eq!(fobs::encode(&Document::new(object)), payload, "{name} made here");
    }
    assert_eq!(left, 0, "files that were not looked at");
}

/// A folder of that name with nothing in it.
fn folder(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("objects").join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

/// What the script saves for torch as well.
fn for_torch(array: &Array) -> Option<Tensor> {
    let plain = (array.order(), array.byte_order()) == (Order::C, ByteOrder::Little);
    let known = plain && !matches!(array.dtype(), DType::C64);
    known.then(|| Tensor::try_from(array.clone()).ok()).flatten()
}

fn objects() -> BTreeMap<String, Object> {
    let arrays = arrays().into_iter().map(|(name, array)| (name, Object::from(array)));
    arrays.chain(models().into_iter().map(|(name, object)| (name.to_owned(), object))).collect()
}

fn arrays() -> Vec<(String, Array)> {
    let mut arrays = vec![
        ("b1".into(), shaped(&[false, true, false, true, false, true])),
        ("i1".into(), shaped::<i8>(&[0, 1, 2, 3, 4, 5])),
        ("i2".into(), shaped::<i16>(&[0, 1, 2, 3, 4, 5])),
        ("i4".into(), shaped::<i32>(&[0, 1, 2, 3, 4, 5])),
        ("i8".into(), shaped::<i64>(&[0, 1, 2, 3, 4, 5])),
        ("u1".into(), shaped::<u8>(&[0, 1, 2, 3, 4, 5])),
        ("u2".into(), shaped::<u16>(&[0, 1, 2, 3, 4, 5])),
        ("u4".into(), shaped::<u32>(&[0, 1, 2, 3, 4, 5])),
        ("u8".into(), shaped::<u64>(&[0, 1, 2, 3, 4, 5])),
        ("f4".into(), shaped(&[0.0_f32, 1.0, 2.0, 3.0, 4.0, 5.0])),
        ("f8".into(), shaped(&[0.0_f64, 1.0, 2.0, 3.0, 4.0, 5.0])),
        ("scalar".into(), Array::scalar(1.5)),
        ("empty".into(), Array::with_shape(Vec::<f32>::new(), &[0, 3]).unwrap()),
        ("deep".into(), Array::with_shape(vec![0_i32], &[1; 32]).unwrap()),
        ("long".into(), (0..100_000_u32).map(|at| at as f32).collect::<Vec<_>>().into()),
    ];
    let mut raw = |name: &str, dtype, byte_order, order, shape: &[usize], data: Vec<u8>| {
        let array = Array::from_bytes(dtype, byte_order, order, shape, data.into()).unwrap();
        arrays.push((name.to_owned(), array));
    };
    use ByteOrder::{Big, Little};
    let halves = [0_u16, 0x3c00, 0x4000, 0x4200, 0x4400, 0x4500];
    raw("f2", DType::F16, Little, Order::C, &[2, 3], halves.iter().flat_map(|x| x.to_le_bytes()).collect());
    let complex = |x: u8| [f32::from(x), 0.0].map(f32::to_le_bytes).concat();
    raw("c8", DType::C64, Little, Order::C, &[2, 3], (0..6).flat_map(complex).collect());
    let complex = |x: u8| [f64::from(x), 0.0].map(f64::to_le_bytes).concat();
    raw("c16", DType::C128, Little, Order::C, &[2, 3], (0..6).flat_map(complex).collect());
    let complex = |x: u8| [f64::from(x), 0.0].map(f64::to_be_bytes).concat();
    raw("big_c16", DType::C128, Big, Order::C, &[2, 3], (0..6).flat_map(complex).collect());
    raw("big_i2", DType::I16, Big, Order::C, &[2, 3], (0..6_i16).flat_map(i16::to_be_bytes).collect());
    raw("big_i8", DType::I64, Big, Order::C, &[2, 3], (0..6_i64).flat_map(i64::to_be_bytes).collect());
    raw(
        "big_f4",
        DType::F32,
        Big,
        Order::C,
        &[2, 3],
        (0..6_u8).flat_map(|x| f32::from(x).to_be_bytes()).collect(),
    );
    let columns = [0.0_f64, 3.0, 1.0, 4.0, 2.0, 5.0];
    raw(
        "fortran",
        DType::F64,
        Little,
        Order::Fortran,
        &[2, 3],
        columns.iter().flat_map(|x| x.to_le_bytes()).collect(),
    );
    let planes =
        (0..4).flat_map(|k| (0..3).flat_map(move |j| (0..2).map(move |i| 12 * i + 4 * j + k))).collect();
    raw("fortran_3d", DType::U8, Little, Order::Fortran, &[2, 3, 4], planes);

    let mut other = |name, descr: &'static str, shape: &[usize], data| {
        raw(name, DType::Other(descr.into()), Little, Order::C, shape, data);
    };
    let text = ['a', 'b', 'ü', '\0'].iter().flat_map(|c| u32::from(*c).to_le_bytes()).collect();
    other("text", "'<U2'", &[2], text);
    other("bytes", "'|S3'", &[2], b"abcd\0\0".to_vec());
    other("days", "'<M8[D]'", &[2], [19_724, i64::MIN].iter().flat_map(|day| day.to_le_bytes()).collect());
    let record = |(a, b): &(i32, f64)| [&a.to_le_bytes()[..], &b.to_le_bytes()].concat();
    let records = [(1, 2.5), (3, 4.5)].iter().flat_map(record).collect();
    other("struct", "[('a', '<i4'), ('b', '<f8')]", &[2], records);
    arrays
}

fn shaped<T: Element>(elements: &[T]) -> Array {
    Array::with_shape(elements.to_vec(), &[2, 3]).unwrap()
}

fn models() -> Vec<(&'static str, Object)> {
    let w = || Object::from(shaped(&[0.0_f64, 1.0, 2.0, 3.0, 4.0, 5.0]));
    let b = || Object::from(Array::from(vec![0_i64, 1, 2]));
    let of_w = || Object::from_iter([("w", w())]);
    let mut full = FlModel::full(Object::from_iter([("w", w()), ("inner", Object::from_iter([("b", b())]))]));
    full.metrics = Some(Dict::from_iter([("acc", 0.5)]));
    full.optimizer_params = Some(Object::from_iter([("m", b())]));
    (full.current_round, full.total_rounds) = (Some(1), Some(3));
    full.set_meta("k", "v");
    let mut diff = FlModel::diff(of_w());
    diff.start_round = Some(2);
    diff.set_meta("NUM_STEPS_CURRENT_ROUND", 7);
    let mut metrics = FlModel::of_metrics(Dict::from_iter([("acc", 0.25)]));
    metrics.start_round = None;
    metrics.set_meta("validate_type", "x");
    let task = |model: &FlModel| -> Object { model.to_shareable().map(Shareable::into_object).unwrap() };
    let mut dxo = Dxo::new(&DataKind::WeightDiff, of_w());
    dxo.meta.insert("m", 1);
    let mut context = FlContext::default();
    context.insert("shown", Prop { value: 1.into(), sticky: false, private: false });
    context.insert("hidden", Prop { value: "x".into(), sticky: true, private: true });
    let scalars = [Scalar::F64(1.5), Scalar::F32(0.1), Scalar::I64(-5), Scalar::I32(7)];
    vec![
        ("full_task", task(&full)),
        ("diff_task", task(&diff)),
        ("metrics_task", task(&metrics)),
        ("full_dxo", full.to_dxo().into()),
        ("full", full.into()),
        ("diff", diff.into()),
        ("metrics", metrics.into()),
        ("dxo", dxo.into()),
        ("learnable", ModelLearnable::new(of_w(), Dict::from_iter([("m", 1)])).into()),
        ("context", context.into()),
        ("scalars", scalars.map(Object::from).to_vec().into()),
    ]
}
