//! The safetensors format: a header in JSON, and the elements of all tensors, little-endian and in C order.
//!
//! Source: `app_opt/pt/decomposers.py`, `app_opt/pt/tensor_downloader.py`, which use the library of that name.

use std::borrow::Cow;

use bytes::Bytes;
use bytestring::ByteString;
use safetensors::{Dtype, SafeTensorError, View, tensor::Metadata};

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
    let start = usize::try_from(header).ok().and_then(|header| header.checked_add(LENGTH));
    let start = start.filter(|start| *start <= file.len()).ok_or(SafetensorsError::Truncated)?;
    // The library's own reader adds up what the header claims without a look at the limits of numbers.
    let described: Metadata = serde_json::from_slice(&file[LENGTH..start])
        .map_err(SafeTensorError::InvalidHeaderDeserialization)?;
    let data = file.slice(start..);
    if described.data_len() != data.len() {
        return Err(SafeTensorError::MetadataIncompleteBuffer.into());
    }
    let names = described.offset_keys();
    if names.len() > max {
        return Err(SafetensorsError::TooMany(max));
    }
    let alone = names.len() == 1;
    let tensor = |name: String| {
        let info = described.info(&name).expect("it is one of the names");
        let dtype = from_safetensors(info.dtype).ok_or(SafetensorsError::Type(info.dtype))?;
        let whole = if alone && name == NATIVE { File::Safetensors(file.clone()) } else { File::None };
        let (from, to) = info.data_offsets;
        let array =
            Array::build(dtype, ByteOrder::Little, Order::C, &info.shape, data.slice(from..to), whole)?;
        Ok((ByteString::from(name), Tensor::try_from(array).expect("it came as one")))
    };
    names.into_iter().map(tensor).collect()
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

/// Bytes before the header, which say how long it is.
const LENGTH: usize = 8;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Bytes {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat().into()
    }

    #[test]
    fn headers_that_claim_what_is_not_there_are_refused() {
        let one = r#"{"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#;
        assert_eq!(decode(&file(one, &[1, 2, 3, 4]), 1).unwrap()[0].1.array().data(), &[1, 2, 3, 4][..]);
        for data in [&[1, 2, 3][..], &[1, 2, 3, 4, 5]] {
            assert!(matches!(decode(&file(one, data), 1), Err(SafetensorsError::Broken(_))));
        }
        assert!(matches!(decode(&file(one, &[]).slice(..20), 1), Err(SafetensorsError::Truncated)));
        let claim = Bytes::from_static(&[0xff; 8]);
        assert!(matches!(decode(&claim, usize::MAX), Err(SafetensorsError::Truncated)));
    }

    /// Each of them fits into a number, and the end of the last one does; with the header before it does not.
    #[test]
    fn claims_that_add_up_beyond_all_numbers_are_refused() {
        let size = (1_u64 << 61) - 1;
        let tensor = |at: u64| {
            let (from, to) = (at * size, (at + 1) * size);
            format!(r#""{at}":{{"dtype":"U8","shape":[{size}],"data_offsets":[{from},{to}]}}"#)
        };
        let header = format!("{{{}}}", (0..8).map(tensor).collect::<Vec<_>>().join(","));
        assert!(matches!(decode(&file(&header, &[]), 1), Err(SafetensorsError::Broken(_))));
    }

    #[test]
    fn a_tensor_of_nothing_comes_back() {
        let array = Array::with_shape(Vec::<f32>::new(), &[usize::MAX, 0]).unwrap();
        let tensor = Tensor::try_from(array).unwrap();
        assert_eq!(decode(&encode("T0", &tensor), 1).unwrap(), [("T0".into(), tensor)]);
    }
}
