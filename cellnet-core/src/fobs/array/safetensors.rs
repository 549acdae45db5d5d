//! The safetensors format: a header in JSON, and the elements of all tensors, little-endian and in C order.
//!
//! Source: `app_opt/pt/decomposers.py`, `app_opt/pt/tensor_downloader.py`, which use the library of that name.

use std::borrow::Cow;

use bytes::Bytes;
use bytestring::ByteString;
use safetensors::{Dtype, SafeTensorError, SafeTensors, View};

use super::{Array, ByteOrder, DType, File, Order, Tensor};

/// The name of the only tensor in a payload's main section. Source: `app_opt/pt/decomposers.py`.
pub(in crate::fobs) const NATIVE: &str = "t";

/// A file with one tensor: what it was decoded from if its name was the same, or else what the library writes.
pub fn encode(name: &str, tensor: &Tensor) -> Bytes {
    match &tensor.array().0.file {
        File::Safetensors(file) if name == NATIVE => file.clone(),
        _ => {
            let file = safetensors::serialize([(name, Borrowed(tensor.array()))], None);
            file.expect("a tensor fits its own description").into()
        }
    }
}

/// The tensors of a file with their names, sharing its bytes.
///
/// At most `max` tensors, and headers of 64 bytes and 1 KiB for each of those.
pub fn decode(file: &Bytes, max: usize) -> Result<Vec<(ByteString, Tensor)>, SafetensorsError> {
    let header = file.first_chunk().map(|len| u64::from_le_bytes(*len)).ok_or(SafetensorsError::Truncated)?;
    if header > (max as u64).saturating_mul(HEADER_PER_TENSOR).saturating_add(64) {
        return Err(SafetensorsError::Long(header));
    }
    let tensors = SafeTensors::deserialize(file)?;
    if tensors.len() > max {
        return Err(SafetensorsError::TooMany(max));
    }
    let alone = tensors.len() == 1;
    let tensor = |(name, view): (&str, safetensors::tensor::TensorView<'_>)| {
        let dtype = from_safetensors(view.dtype()).ok_or(SafetensorsError::Type(view.dtype()))?;
        let whole = if alone && name == NATIVE { File::Safetensors(file.clone()) } else { File::None };
        let data = file.slice_ref(view.data());
        let array = Array::build(dtype, ByteOrder::Little, Order::C, view.shape(), data, whole)?;
        Ok((ByteString::from(name), Tensor::try_from(array).expect("it came as one")))
    };
    tensors.iter().map(tensor).collect()
}

/// Why bytes are no safetensors file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SafetensorsError {
    /// Fewer bytes than the length of a header has.
    #[error("file ends inside its header")]
    Truncated,
    /// A header that so few tensors do not need.
    #[error("header of {0} bytes is too long")]
    Long(u64),
    /// The format is broken.
    #[error("broken safetensors")]
    Broken(#[from] SafeTensorError),
    /// More tensors than accepted.
    #[error("more than {0} tensors")]
    TooMany(usize),
    /// A type of elements that is not known here.
    #[error("type {0:?} is not known")]
    Type(Dtype),
    /// A tensor that is no array.
    #[error("a tensor is no array")]
    Shape(#[from] super::ShapeError),
}

/// What a tensor needs in the header, with a long name and many dimensions.
const HEADER_PER_TENSOR: u64 = 1 << 10;

struct Borrowed<'a>(&'a Array);

impl View for Borrowed<'_> {
    fn dtype(&self) -> Dtype {
        to_safetensors(self.0.dtype()).expect("a tensor is of a type with a name")
    }

    fn shape(&self) -> &[usize] {
        self.0.shape()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.0.data())
    }

    fn data_len(&self) -> usize {
        self.0.data().len()
    }
}

fn to_safetensors(dtype: &DType) -> Option<Dtype> {
    Some(match dtype {
        DType::Bool => Dtype::BOOL,
        DType::I8 => Dtype::I8,
        DType::I16 => Dtype::I16,
        DType::I32 => Dtype::I32,
        DType::I64 => Dtype::I64,
        DType::U8 => Dtype::U8,
        DType::U16 => Dtype::U16,
        DType::U32 => Dtype::U32,
        DType::U64 => Dtype::U64,
        DType::F16 => Dtype::F16,
        DType::Bf16 => Dtype::BF16,
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
        DType::C64 => Dtype::C64,
        DType::C128 | DType::Other(_) => return None,
    })
}

fn from_safetensors(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::BOOL => DType::Bool,
        Dtype::I8 => DType::I8,
        Dtype::I16 => DType::I16,
        Dtype::I32 => DType::I32,
        Dtype::I64 => DType::I64,
        Dtype::U8 => DType::U8,
        Dtype::U16 => DType::U16,
        Dtype::U32 => DType::U32,
        Dtype::U64 => DType::U64,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::Bf16,
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        Dtype::C64 => DType::C64,
        _ => return None,
    })
}
