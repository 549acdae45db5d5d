//! Numbers of numpy that are no arrays.

use super::Object;

/// A single number of numpy, which Python gets back as such. Read it with [`Object::as_f64`] and [`Object::as_i64`].
///
/// Source: `app_common/decomposers/numpy_decomposers.py`; other types of numbers cannot be sent there.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Scalar {
    /// A `numpy.float64`.
    F64(f64),
    /// A `numpy.float32`.
    F32(f32),
    /// A `numpy.int64`.
    I64(i64),
    /// A `numpy.int32`.
    I32(i32),
}

impl Scalar {
    /// Module and name of its type.
    pub fn type_name(self) -> &'static str {
        self.names().0
    }

    /// The type, and the class that takes it apart.
    pub(super) fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::F64(_) => {
                (FLOAT64, "nvflare.app_common.decomposers.numpy_decomposers.Float64ScalarDecomposer")
            }
            Self::F32(_) => {
                (FLOAT32, "nvflare.app_common.decomposers.numpy_decomposers.Float32ScalarDecomposer")
            }
            Self::I64(_) => (INT64, "nvflare.app_common.decomposers.numpy_decomposers.Int64ScalarDecomposer"),
            Self::I32(_) => (INT32, "nvflare.app_common.decomposers.numpy_decomposers.Int32ScalarDecomposer"),
        }
    }

    /// The number as it travels.
    pub(super) fn plain(self) -> Object {
        match self {
            Self::F64(value) => Object::F64(value),
            Self::F32(value) => Object::F64(value.into()),
            Self::I64(value) => Object::Int(value),
            Self::I32(value) => Object::Int(value.into()),
        }
    }

    /// `None` if it is another type, or if the number is not one that such a scalar sends.
    pub(super) fn recompose(type_name: &str, data: &Object) -> Option<Self> {
        let scalar = match (type_name, data) {
            (FLOAT64, Object::F64(value)) => Self::F64(*value),
            (FLOAT32, Object::F64(value)) => Self::F32(*value as f32),
            (INT64, Object::Int(value)) => Self::I64(*value),
            (INT32, Object::Int(value)) => Self::I32((*value).try_into().ok()?),
            _ => return None,
        };
        // Compared by bits, as not-a-number travels too.
        let same = match (scalar.plain(), data) {
            (Object::F64(ours), Object::F64(theirs)) => ours.to_bits() == theirs.to_bits(),
            _ => true,
        };
        same.then_some(scalar)
    }
}

const FLOAT64: &str = "numpy.float64";
const FLOAT32: &str = "numpy.float32";
const INT64: &str = "numpy.int64";
const INT32: &str = "numpy.int32";
