//! Arrays of numpy and torch. Their elements stay the bytes that came, shared and not copied.

mod dtype;
mod element;
mod literal;
pub mod npy;
pub mod npz;
mod plain;
mod read;
pub mod safetensors;
mod tensor;

#[cfg(feature = "half")]
mod half;
#[cfg(feature = "ndarray")]
mod ndarray;

use std::{fmt, sync::Arc};

use bytes::Bytes;
use zerocopy::IntoBytes;

pub use self::{
    dtype::{ByteOrder, DType, Order},
    element::Element,
    read::{Elements, ReadError},
    tensor::{Tensor, TensorError},
};

/// An array of any dimensions whose elements lie in one piece of memory.
///
/// Clones share it. What was decoded shares the payload it came in, and encodes to the bytes it came as.
///
/// ```
/// use cellnet_core::fobs::{Array, DType};
///
/// let array = Array::with_shape(vec![1.5_f32, 2.5, 3.5, 4.5], &[2, 2])?;
/// assert_eq!((array.dtype(), array.shape()), (&DType::F32, &[2, 2][..]));
/// assert_eq!(array.to_vec::<f64>()?, [1.5, 2.5, 3.5, 4.5]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Array(Arc<Inner>);

struct Inner {
    dtype: DType,
    byte_order: ByteOrder,
    order: Order,
    shape: Box<[usize]>,
    data: Bytes,
    file: File,
}

/// The file that an array was decoded from, and of which its data is a part.
enum File {
    None,
    Npy(Bytes),
    Safetensors(Bytes),
}

/// Why bytes are not the array they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// More dimensions than numpy has.
    #[error("{0} dimensions, more than {MAX_DIMENSIONS}")]
    Dimensions(usize),
    /// More elements than memory could hold.
    #[error("shape {0:?} has too many elements")]
    Overflow(Box<[usize]>),
    /// Not as much data as shape and type need.
    #[error("shape {shape:?} of {dtype} does not fit {len} bytes of data")]
    Length {
        /// The shape.
        shape: Box<[usize]>,
        /// The type.
        dtype: DType,
        /// Bytes there.
        len: usize,
    },
}

/// Most dimensions of an array, as in numpy.
pub const MAX_DIMENSIONS: usize = 64;

impl Array {
    /// An array over bytes that are there already.
    ///
    /// Of a [`DType::Other`] the bytes must only be a multiple of the number of elements.
    pub fn from_bytes(
        dtype: DType,
        byte_order: ByteOrder,
        order: Order,
        shape: &[usize],
        data: Bytes,
    ) -> Result<Self, ShapeError> {
        Self::build(dtype, byte_order, order, shape, data, File::None)
    }

    /// An array in C order that takes the memory of a vector.
    pub fn with_shape<T: Element>(elements: Vec<T>, shape: &[usize]) -> Result<Self, ShapeError> {
        let data = Bytes::from_owner(Owned(elements));
        Self::from_bytes(T::DTYPE, ByteOrder::NATIVE, Order::C, shape, data)
    }

    /// An array without dimensions: one element.
    pub fn scalar<T: Element>(element: T) -> Self {
        Self::with_shape(vec![element], &[]).expect("one element makes a scalar")
    }

    fn build(
        dtype: DType,
        byte_order: ByteOrder,
        order: Order,
        shape: &[usize],
        data: Bytes,
        file: File,
    ) -> Result<Self, ShapeError> {
        if shape.len() > MAX_DIMENSIONS {
            return Err(ShapeError::Dimensions(shape.len()));
        }
        let count = count(shape).ok_or_else(|| ShapeError::Overflow(shape.into()))?;
        let fits = match dtype.size() {
            Some(size) => count.checked_mul(size) == Some(data.len()),
            None if count == 0 => data.is_empty(),
            None => data.len().is_multiple_of(count),
        };
        if !fits {
            return Err(ShapeError::Length { shape: shape.into(), dtype, len: data.len() });
        }
        let byte_order = if matches!(dtype.size(), Some(1) | None) { ByteOrder::Little } else { byte_order };
        Ok(Self(Arc::new(Inner { dtype, byte_order, order, shape: shape.into(), data, file })))
    }

    /// The type of its elements.
    pub fn dtype(&self) -> &DType {
        &self.0.dtype
    }

    /// The byte order of its elements; little-endian for elements of one byte and for [`DType::Other`], which says it
    /// itself.
    pub fn byte_order(&self) -> ByteOrder {
        self.0.byte_order
    }

    /// Which index runs fastest in memory.
    pub fn order(&self) -> Order {
        self.0.order
    }

    /// The size of each dimension; none for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.0.shape
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        count(&self.0.shape).expect("it was counted when the array was made")
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.0.shape.contains(&0)
    }

    /// The elements as they lie in memory.
    pub fn data(&self) -> &Bytes {
        &self.0.data
    }

    /// Whether both are clones of one another, so that they need to travel only once.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// An address that clones share and no other array has while one of them lives.
    pub(super) fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// The same data with another shape, which must have as many elements.
    pub fn reshape(&self, shape: &[usize]) -> Result<Self, ShapeError> {
        let Inner { dtype, byte_order, order, data, .. } = &*self.0;
        Self::from_bytes(dtype.clone(), *byte_order, *order, shape, data.clone())
    }

    /// The same elements in C order and little-endian; the data is shared if it is already.
    pub fn to_standard(&self) -> Self {
        let Inner { dtype, byte_order, order, shape, data, .. } = &*self.0;
        if (*order, *byte_order) == (Order::C, ByteOrder::Little) {
            return self.clone();
        }
        let mut data = data.clone();
        // Of elements without bytes there may be more than anybody can count.
        if let (Order::Fortran, 2.., Some(size @ 1..)) = (order, shape.len(), self.element_size()) {
            let mut sorted = Vec::with_capacity(data.len());
            for at in read::Positions::new(self) {
                sorted.extend_from_slice(&data[at * size..][..size]);
            }
            data = sorted.into();
        }
        if let (ByteOrder::Big, Some(size)) = (byte_order, dtype.size()) {
            // A complex number is two.
            let size = if matches!(dtype, DType::C64 | DType::C128) { size / 2 } else { size };
            let mut swapped = Vec::from(data);
            swapped.chunks_exact_mut(size).for_each(<[u8]>::reverse);
            data = swapped.into();
        }
        let standard = Self::from_bytes(dtype.clone(), ByteOrder::Little, Order::C, shape, data);
        standard.expect("the same elements")
    }

    /// Bytes of one element; `None` if there is none and the type does not tell.
    fn element_size(&self) -> Option<usize> {
        self.0.dtype.size().or_else(|| self.0.data.len().checked_div(self.len()))
    }
}

/// In one dimension, without a copy.
impl<T: Element> From<Vec<T>> for Array {
    fn from(elements: Vec<T>) -> Self {
        let shape = [elements.len()];
        Self::with_shape(elements, &shape).expect("a vector has one dimension")
    }
}

/// The same type, shape, orders and bytes. Numbers that are no numbers are equal if their bytes are.
impl PartialEq for Array {
    fn eq(&self, other: &Self) -> bool {
        let key = |array: &Self| (array.0.dtype.clone(), array.0.byte_order, array.0.order);
        key(self) == key(other) && self.shape() == other.shape() && self.data() == other.data()
    }
}

impl Eq for Array {}

impl fmt::Debug for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { dtype, byte_order, order, shape, data, .. } = &*self.0;
        write!(f, "Array({dtype} {shape:?} {byte_order:?} {order:?}, {} bytes)", data.len())
    }
}

/// Number of elements of a shape, if it can be counted. As in numpy, all other sizes have to fit also if one is 0.
fn count(shape: &[usize]) -> Option<usize> {
    let full = shape.iter().filter(|size| **size > 0).try_fold(1, |n: usize, size| n.checked_mul(*size))?;
    Some(if shape.contains(&0) { 0 } else { full })
}

/// A vector as the owner of shared bytes.
struct Owned<T>(Vec<T>);

impl<T: Element> AsRef<[u8]> for Owned<T> {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_is_not_copied() {
        let vec = vec![1.0_f64, 2.0];
        let address = vec.as_ptr().cast::<u8>();
        let array = Array::from(vec);
        assert_eq!(array.data().as_ptr(), address);
        assert_eq!(array.as_slice::<f64>(), Some(&[1.0, 2.0][..]));
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let array = |shape: &[usize]| Array::with_shape(vec![0_u16; 6], shape).map(|array| array.len());
        assert_eq!(array(&[2, 3]), Ok(6));
        assert!(matches!(array(&[2, 2]), Err(ShapeError::Length { len: 12, .. })));
        assert!(matches!(array(&[usize::MAX, 2]), Err(ShapeError::Overflow(_))));
        assert!(matches!(array(&[usize::MAX]), Err(ShapeError::Length { .. })));
        assert_eq!(array(&[1; 65]), Err(ShapeError::Dimensions(65)));
        assert!(matches!(array(&[0, usize::MAX]), Err(ShapeError::Length { .. })));
        for sizes in [[0, usize::MAX, 3], [usize::MAX, 3, 0]] {
            let empty = Array::with_shape(Vec::<u16>::new(), &sizes);
            assert!(matches!(empty, Err(ShapeError::Overflow(_))), "{empty:?}");
        }
    }

    #[test]
    fn elements_without_bytes_are_not_counted_one_by_one() {
        let (shape, dtype) = ([1 << 30, 1 << 30], DType::Other("'|V0'".into()));
        let array =
            Array::from_bytes(dtype, ByteOrder::Little, Order::Fortran, &shape, Bytes::new()).unwrap();
        assert_eq!(array.len(), 1 << 60);
        assert_eq!(array.to_standard().order(), Order::C);
    }

    #[test]
    fn standard_form_has_the_same_elements() {
        let data: Vec<u8> = [1_u16, 4, 2, 5, 3, 6].iter().flat_map(|x| x.to_be_bytes()).collect();
        let array =
            Array::from_bytes(DType::U16, ByteOrder::Big, Order::Fortran, &[2, 3], data.into()).unwrap();
        let standard = array.to_standard();
        assert_eq!((standard.order(), standard.byte_order()), (Order::C, ByteOrder::Little));
        assert_eq!(standard.to_vec::<u16>().unwrap(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(array.to_vec::<u16>().unwrap(), [1, 2, 3, 4, 5, 6]);
        assert!(standard.to_standard().is_same(&standard));
    }
}
