//! What the elements of an array are.

use std::fmt::{self, Display};

use bytestring::ByteString;

/// The type of an array's elements, without their byte order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DType {
    /// A truth value in a byte.
    Bool,
    /// An integer of 8 bits.
    I8,
    /// An integer of 16 bits.
    I16,
    /// An integer of 32 bits.
    I32,
    /// An integer of 64 bits.
    I64,
    /// An unsigned integer of 8 bits.
    U8,
    /// An unsigned integer of 16 bits.
    U16,
    /// An unsigned integer of 32 bits.
    U32,
    /// An unsigned integer of 64 bits.
    U64,
    /// A number of half precision.
    F16,
    /// A number of single precision cut to 16 bits. Of torch only: numpy has no name for it.
    Bf16,
    /// A number of single precision.
    F32,
    /// A number of double precision.
    F64,
    /// A complex number of two [`DType::F32`].
    C64,
    /// A complex number of two [`DType::F64`].
    C128,
    /// Any other type of numpy, as the Python literal that describes it: `'<M8[D]'`, `[('a', '<i4'), ('b', '<f8')]`.
    /// Such arrays are carried, not read.
    Other(ByteString),
}

/// Which byte of an element comes first. Elements of one byte count as little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ByteOrder {
    /// The least significant one.
    Little,
    /// The most significant one.
    Big,
}

/// Which elements are neighbours in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Order {
    /// Those that differ in the last index, as in C.
    C,
    /// Those that differ in the first index, as in Fortran.
    Fortran,
}

impl DType {
    /// Bytes of one element, where the type tells.
    pub fn size(&self) -> Option<usize> {
        Some(match self {
            Self::Bool | Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 | Self::F16 | Self::Bf16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::I64 | Self::U64 | Self::F64 | Self::C64 => 8,
            Self::C128 => 16,
            Self::Other(_) => return None,
        })
    }

    /// Whether the elements are whole or real numbers or truth values.
    pub fn is_real(&self) -> bool {
        !matches!(self, Self::C64 | Self::C128 | Self::Other(_))
    }

    /// The Python literal that describes the type in a `.npy` file.
    pub(super) fn descr(&self, byte_order: ByteOrder) -> ByteString {
        let code = match self {
            Self::Bool => "b1",
            Self::I8 => "i1",
            Self::I16 => "i2",
            Self::I32 => "i4",
            Self::I64 => "i8",
            Self::U8 => "u1",
            Self::U16 => "u2",
            Self::U32 => "u4",
            Self::U64 => "u8",
            Self::F16 => "f2",
            // What numpy makes of types it does not know: so many bytes.
            Self::Bf16 => return ByteString::from_static("'|V2'"),
            Self::F32 => "f4",
            Self::F64 => "f8",
            Self::C64 => "c8",
            Self::C128 => "c16",
            Self::Other(descr) => return descr.clone(),
        };
        let mark = match byte_order {
            _ if self.size() == Some(1) => '|',
            ByteOrder::Little => '<',
            ByteOrder::Big => '>',
        };
        format!("'{mark}{code}'").into()
    }

    /// The type of a Python literal.
    pub(super) fn from_descr(descr: ByteString) -> (Self, ByteOrder) {
        let known = descr.strip_prefix(['\'', '"']).and_then(|text| text.strip_suffix(['\'', '"']));
        let known = known.and_then(|text| {
            let (mark, code) = text.split_at_checked(1)?;
            let dtype = Self::from_code(code)?;
            match mark {
                "<" => Some((dtype, ByteOrder::Little)),
                ">" if dtype.size() != Some(1) => Some((dtype, ByteOrder::Big)),
                ">" | "|" if dtype.size() == Some(1) => Some((dtype, ByteOrder::Little)),
                _ => None,
            }
        });
        known.unwrap_or((Self::Other(descr), ByteOrder::Little))
    }

    fn from_code(code: &str) -> Option<Self> {
        Some(match code {
            "b1" => Self::Bool,
            "i1" => Self::I8,
            "i2" => Self::I16,
            "i4" => Self::I32,
            "i8" => Self::I64,
            "u1" => Self::U8,
            "u2" => Self::U16,
            "u4" => Self::U32,
            "u8" => Self::U64,
            "f2" => Self::F16,
            "f4" => Self::F32,
            "f8" => Self::F64,
            "c8" => Self::C64,
            "c16" => Self::C128,
            _ => return None,
        })
    }
}

/// As numpy and torch call it: `float32`.
impl Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "bool",
            Self::I8 => "int8",
            Self::I16 => "int16",
            Self::I32 => "int32",
            Self::I64 => "int64",
            Self::U8 => "uint8",
            Self::U16 => "uint16",
            Self::U32 => "uint32",
            Self::U64 => "uint64",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
            Self::F32 => "float32",
            Self::F64 => "float64",
            Self::C64 => "complex64",
            Self::C128 => "complex128",
            Self::Other(descr) => descr,
        })
    }
}

impl ByteOrder {
    /// That of this machine.
    pub const NATIVE: Self = if cfg!(target_endian = "big") { Self::Big } else { Self::Little };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_come_back() {
        for text in
            ["'|b1'", "'|i1'", "'<i8'", "'>f4'", "'<c16'", "'<M8[D]'", "'<U2'", "[('a', '<i4')]", "'=f4'"]
        {
            let (dtype, byte_order) = DType::from_descr(text.into());
            assert_eq!(dtype.descr(byte_order), text);
            assert_eq!(dtype.size().is_none(), ["M8", "U2", "a", "="].iter().any(|part| text.contains(part)));
        }
    }
}
