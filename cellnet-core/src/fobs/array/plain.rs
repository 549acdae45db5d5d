//! Arrays as plain data.

use std::cell::RefCell;

use bytes::Bytes;
use serde::{
    Serialize, Serializer,
    ser::{Error, SerializeSeq, SerializeStruct},
};

use super::{Array, DType, Element, Elements};

/// As nested lists of numbers; without dimensions, as a number. Types that are no real numbers give a dict with `dtype`,
/// `shape` and the bytes, `data`, as they lie in memory. Shapes that take many more lists than numbers are an error: a few
/// bytes would grow to many.
impl Serialize for Array {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.dtype() {
            DType::Bool => nested::<bool, S>(self, to),
            DType::U64 => nested::<u64, S>(self, to),
            DType::F32 => nested::<f32, S>(self, to),
            DType::F64 | DType::F16 | DType::Bf16 => nested::<f64, S>(self, to),
            DType::C64 | DType::C128 | DType::Other(_) => {
                let mut fields = to.serialize_struct("Array", 3)?;
                fields.serialize_field("dtype", &self.dtype().to_string())?;
                fields.serialize_field("shape", self.shape())?;
                fields.serialize_field("data", &Binary(self.data()))?;
                fields.end()
            }
            _ => nested::<i64, S>(self, to),
        }
    }
}

fn nested<T: Element + Serialize, S: Serializer>(array: &Array, to: S) -> Result<S::Ok, S::Error> {
    let most = array.len().saturating_mul(LISTS_PER_ELEMENT).saturating_add(FREE_LISTS);
    if !array.is_empty() && lists(array.shape()) > most {
        return Err(S::Error::custom(format_args!("the shape {:?} takes too many lists", array.shape())));
    }
    let elements = RefCell::new(array.iter::<T>().map_err(S::Error::custom)?);
    Nested { shape: array.shape(), elements: &elements }.serialize(to)
}

/// What is left of the dimensions; all lists take their elements from one iterator.
struct Nested<'a, 'b, T> {
    shape: &'a [usize],
    elements: &'a RefCell<Elements<'b, T>>,
}

impl<T: Serialize> Serialize for Nested<'_, '_, T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Some((size, shape)) = self.shape.split_first() else {
            let element = self.elements.borrow_mut().next();
            return element.ok_or_else(|| S::Error::custom("an array ended early"))?.serialize(to);
        };
        // Lists of nothing may be very many.
        let size = if shape.contains(&0) { 0 } else { *size };
        let mut list = to.serialize_seq(Some(size))?;
        let rest = Nested { shape, elements: self.elements };
        (0..size).try_for_each(|_| list.serialize_element(&rest))?;
        list.end()
    }
}

/// How many lists a shape without zeros takes.
fn lists(shape: &[usize]) -> usize {
    let (mut all, mut here) = (0_usize, 1_usize);
    for size in shape {
        all = all.saturating_add(here);
        here = here.saturating_mul(*size);
    }
    all
}

/// As many as a model may need: a convolution has two dimensions of one.
const LISTS_PER_ELEMENT: usize = 4;
const FREE_LISTS: usize = 1024;

struct Binary<'a>(&'a Bytes);

impl Serialize for Binary<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fobs::{ByteOrder, Order, from_object};

    #[test]
    fn arrays_are_nested_lists() {
        let data = Bytes::from_static(&[1, 4, 2, 5, 3, 6]);
        let array = Array::from_bytes(DType::U8, ByteOrder::Little, Order::Fortran, &[2, 3], data).unwrap();
        assert_eq!(serde_json::to_string(&array).unwrap(), "[[1,2,3],[4,5,6]]");
        assert_eq!(from_object::<Vec<[f64; 3]>>(&array.into()).unwrap(), [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
        assert_eq!(serde_json::to_string(&Array::scalar(1.5_f32)).unwrap(), "1.5");
        let empty = Array::with_shape(Vec::<i32>::new(), &[usize::MAX, 0]).unwrap();
        assert_eq!(serde_json::to_string(&empty).unwrap(), "[]");
    }

    #[test]
    fn a_few_bytes_do_not_become_many_lists() {
        let of = |count: usize, ones: usize| {
            let shape: Vec<_> = [count].into_iter().chain(std::iter::repeat_n(1, ones)).collect();
            Array::with_shape(vec![1_u8; count], &shape).unwrap()
        };
        assert!(from_object::<serde::de::IgnoredAny>(&of(5000, 63).into()).is_err());
        for array in [of(1, 63), of(5000, 3)] {
            from_object::<serde::de::IgnoredAny>(&array.into()).unwrap();
        }
    }

    #[test]
    fn what_is_no_number_is_described() {
        let dtype = DType::Other("'<M8[D]'".into());
        let data = Bytes::from_static(&[1; 8]);
        let array = Array::from_bytes(dtype, ByteOrder::Little, Order::C, &[1], data).unwrap();
        let json = serde_json::to_value(&array).unwrap();
        assert_eq!((&json["dtype"], &json["shape"]), (&"'<M8[D]'".into(), &serde_json::json!([1])));
    }
}
