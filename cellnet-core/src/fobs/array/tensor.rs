//! Arrays that torch can take.

use super::{Array, DType, Element, ShapeError};

/// An array in the form that travels to torch: in C order, little-endian, of a type that torch and safetensors know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor(Array);

/// An array of a type that no tensor has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no tensor is made of {0}")]
pub struct TensorError(pub DType);

impl Tensor {
    /// A tensor that takes the memory of a vector.
    pub fn with_shape<T: Element>(elements: Vec<T>, shape: &[usize]) -> Result<Self, ShapeError> {
        let array = Array::with_shape(elements, shape)?;
        Ok(Self::try_from(array).expect("torch knows every element"))
    }

    /// Its array.
    pub fn array(&self) -> &Array {
        &self.0
    }
}

/// Puts the elements in the right order if they are not.
impl TryFrom<Array> for Tensor {
    type Error = TensorError;

    fn try_from(array: Array) -> Result<Self, TensorError> {
        match array.dtype() {
            DType::C128 | DType::Other(_) => Err(TensorError(array.dtype().clone())),
            _ => Ok(Self(array.to_standard())),
        }
    }
}

impl From<Tensor> for Array {
    fn from(tensor: Tensor) -> Self {
        tensor.0
    }
}
