//! Reading the elements of an array as Rust numbers.

use zerocopy::TryFromBytes;

use super::{
    Array, ByteOrder, DType, Element, Order,
    element::{self, Load},
};

/// An array whose elements are no such numbers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an array of {dtype} cannot be read as {wanted}")]
pub struct ReadError {
    /// What the array holds.
    pub dtype: DType,
    /// What was asked for.
    pub wanted: DType,
}

/// The elements of an array in the order of C: the last index runs fastest.
#[derive(Debug)]
pub struct Elements<'a, T> {
    data: &'a [u8],
    size: usize,
    load: Load<T>,
    /// Where the next element is, if not after the last one.
    positions: Option<Positions>,
}

impl Array {
    /// The elements in the order of C, whatever their order in memory.
    ///
    /// `f32` and `f64` take all real numbers and truth values, rounded if need be; integers take types whose values all
    /// fit; `bool` takes `bool`. Anything else is an error, at once.
    pub fn iter<T: Element>(&self) -> Result<Elements<'_, T>, ReadError> {
        let (load, size) = self.load()?;
        let scattered = self.order() == Order::Fortran && self.shape().len() > 1;
        let positions = scattered.then(|| Positions::new(self));
        Ok(Elements { data: self.data(), size, load, positions })
    }

    /// The elements in the order of C; types as for [`Array::iter`].
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>, ReadError> {
        match self.as_slice() {
            Some(slice) if self.order() == Order::C || self.shape().len() < 2 => Ok(slice.to_vec()),
            _ => Ok(self.iter()?.collect()),
        }
    }

    /// The elements as they lie in memory, if they are of exactly this type, of this machine's byte order, and lie where
    /// such elements may: what was decoded often does not.
    pub fn as_slice<T: Element>(&self) -> Option<&[T]> {
        let readable =
            *self.dtype() == T::DTYPE && (self.byte_order() == ByteOrder::NATIVE || size_of::<T>() == 1);
        readable.then(|| <[T]>::try_ref_from_bytes(self.data()).ok()).flatten()
    }

    /// A new array of the same shape and order from a function of each element. The array must be of exactly this type.
    pub fn map<T: Element>(&self, f: impl FnMut(T) -> T) -> Result<Self, ReadError> {
        if *self.dtype() != T::DTYPE {
            return Err(self.unreadable::<T>());
        }
        let (load, size) = self.load::<T>()?;
        let elements: Vec<T> = self.data().chunks_exact(size).map(load).map(f).collect();
        let data = bytes::Bytes::from_owner(super::Owned(elements));
        let array = Self::from_bytes(T::DTYPE, ByteOrder::NATIVE, self.order(), self.shape(), data);
        Ok(array.expect("there are as many elements as before"))
    }

    fn load<T: Element>(&self) -> Result<(Load<T>, usize), ReadError> {
        let load = element::loader(self.dtype(), self.byte_order() == ByteOrder::Big);
        load.zip(self.dtype().size()).ok_or_else(|| self.unreadable::<T>())
    }

    fn unreadable<T: Element>(&self) -> ReadError {
        ReadError { dtype: self.dtype().clone(), wanted: T::DTYPE }
    }
}

impl<T> Iterator for Elements<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        match &mut self.positions {
            None => {
                let (element, rest) = self.data.split_at_checked(self.size)?;
                self.data = rest;
                Some((self.load)(element))
            }
            Some(positions) => {
                let at = positions.next()?;
                Some((self.load)(&self.data[at * self.size..][..self.size]))
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.positions.as_ref().map_or(self.data.len() / self.size, |positions| positions.left);
        (left, Some(left))
    }
}

impl<T> ExactSizeIterator for Elements<'_, T> {}

/// Where in memory each element is, counted in elements, in the order of C.
#[derive(Debug)]
pub(super) struct Positions {
    /// Size and distance of neighbours in each dimension.
    dimensions: Vec<(usize, usize)>,
    index: Vec<usize>,
    at: usize,
    left: usize,
}

impl Positions {
    pub(super) fn new(array: &Array) -> Self {
        let shape = array.shape();
        let mut dimensions: Vec<_> = shape.iter().map(|size| (*size, 1)).collect();
        let left = array.len();
        // Of an array without elements no distance is needed, and they might not be countable.
        if left > 0 {
            match array.order() {
                Order::Fortran => {
                    (1..shape.len()).for_each(|i| dimensions[i].1 = dimensions[i - 1].1 * shape[i - 1])
                }
                Order::C => {
                    (1..shape.len()).rev().for_each(|i| dimensions[i - 1].1 = dimensions[i].1 * shape[i])
                }
            }
        }
        Self { index: vec![0; dimensions.len()], dimensions, at: 0, left }
    }
}

impl Iterator for Positions {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let here = self.at;
        for (index, (size, distance)) in self.index.iter_mut().zip(&self.dimensions).rev() {
            *index += 1;
            self.at += distance;
            if *index < *size {
                break;
            }
            self.at -= distance * size;
            *index = 0;
        }
        Some(here)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn array(dtype: DType, byte_order: ByteOrder, data: &[u8]) -> Array {
        let shape = [data.len() / dtype.size().unwrap()];
        Array::from_bytes(dtype, byte_order, Order::C, &shape, Bytes::copy_from_slice(data)).unwrap()
    }

    #[test]
    fn numbers_are_read_as_wider_ones() {
        let big = array(DType::I16, ByteOrder::Big, &[0xff, 0xfe, 0, 3]);
        assert_eq!(big.to_vec::<i16>().unwrap(), [-2, 3]);
        assert_eq!(big.to_vec::<i64>().unwrap(), [-2, 3]);
        assert_eq!(big.to_vec::<f32>().unwrap(), [-2.0, 3.0]);
        assert_eq!(
            array(DType::Bool, ByteOrder::Little, &[0, 1, 7]).to_vec::<bool>().unwrap(),
            [false, true, true]
        );
        assert_eq!(array(DType::F16, ByteOrder::Little, &[0, 0x3c]).to_vec::<f64>().unwrap(), [1.0]);
    }

    #[test]
    fn what_does_not_fit_is_an_error_that_says_so() {
        let floats = Array::from(vec![1.5_f64]);
        assert_eq!(
            floats.to_vec::<i64>().unwrap_err().to_string(),
            "an array of float64 cannot be read as int64"
        );
        assert!(Array::from(vec![1_u64]).iter::<i64>().is_err());
        assert!(Array::from(vec![1_i8]).iter::<u64>().is_err());
        assert!(floats.map(|x: f32| x).is_err());
    }

    #[test]
    fn fortran_order_is_undone() {
        let data = Bytes::from_static(&[1, 4, 2, 5, 3, 6]);
        let array = Array::from_bytes(DType::U8, ByteOrder::Little, Order::Fortran, &[2, 3], data).unwrap();
        let mut elements = array.iter::<u32>().unwrap();
        assert_eq!(elements.len(), 6);
        assert_eq!(elements.next(), Some(1));
        assert_eq!(elements.len(), 5);
        assert_eq!(elements.collect::<Vec<_>>(), [2, 3, 4, 5, 6]);
        let more = array.map(|x: u8| x + 1).unwrap();
        assert_eq!((more.to_vec::<u8>().unwrap(), more.order()), (vec![2, 3, 4, 5, 6, 7], Order::Fortran));
    }

    #[test]
    fn an_array_that_nothing_is_in_is_read() {
        let shape = [usize::MAX, 0, 1];
        let array =
            Array::from_bytes(DType::F64, ByteOrder::Big, Order::Fortran, &shape, Bytes::new()).unwrap();
        assert!(array.is_empty());
        assert!(array.to_vec::<f64>().unwrap().is_empty());
        assert!(array.to_standard().is_empty());
    }
}
