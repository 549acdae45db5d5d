//! Rust types that elements of arrays are read as and made of.

use super::DType;

/// A number or truth value that arrays hold: `bool`, integers of 8 to 64 bits, `f32`, `f64`; with the feature `half`
/// its types too. Not for other types.
pub trait Element: sealed::Sealed {
    /// What arrays of it are made of.
    const DTYPE: DType;
}

pub(super) mod sealed {
    use std::fmt::Debug;

    use zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};

    use super::DType;

    pub trait Sealed:
        Copy + Debug + PartialEq + Send + Sync + IntoBytes + TryFromBytes + Immutable + KnownLayout + 'static
    {
        /// From the bytes of one element of this type. They are as many as it has.
        fn load(bytes: &[u8], big: bool) -> Self;
        /// Without loss.
        fn widen(self) -> Wide;
        /// From a type that it [`accepts`](Self::accepts).
        fn narrow(wide: Wide) -> Self;
        /// Whether it can take every value of a type; numbers with a fraction may be rounded.
        fn accepts(dtype: &DType) -> bool;
    }

    /// Any real number or truth value.
    #[derive(Debug, Clone, Copy)]
    pub enum Wide {
        Int(i64),
        Uint(u64),
        Float(f64),
    }
}

use sealed::{Sealed, Wide};

macro_rules! number {
    ($type:ty, $dtype:ident, $wide:ident($as:ty), $accepts:expr) => {
        impl Element for $type {
            const DTYPE: DType = DType::$dtype;
        }

        impl Sealed for $type {
            fn load(bytes: &[u8], big: bool) -> Self {
                let bytes = bytes.try_into().expect("an element has its size");
                if big { Self::from_be_bytes(bytes) } else { Self::from_le_bytes(bytes) }
            }

            fn widen(self) -> Wide {
                Wide::$wide(<$as>::from(self))
            }

            fn narrow(wide: Wide) -> Self {
                match wide {
                    Wide::Int(value) => value as Self,
                    Wide::Uint(value) => value as Self,
                    Wide::Float(value) => value as Self,
                }
            }

            fn accepts(dtype: &DType) -> bool {
                let accepts: fn(&DType) -> bool = $accepts;
                accepts(dtype)
            }
        }
    };
}

macro_rules! integer {
    ($type:ty, $dtype:ident, $wide:ident($as:ty), [$($accepted:ident)|*]) => {
        number!($type, $dtype, $wide($as), |dtype| {
            matches!(dtype, DType::Bool | DType::$dtype $(| DType::$accepted)*)
        });
    };
}

integer!(i8, I8, Int(i64), []);
integer!(i16, I16, Int(i64), [I8 | U8]);
integer!(i32, I32, Int(i64), [I8 | I16 | U8 | U16]);
integer!(i64, I64, Int(i64), [I8 | I16 | I32 | U8 | U16 | U32]);
integer!(u8, U8, Uint(u64), []);
integer!(u16, U16, Uint(u64), [U8]);
integer!(u32, U32, Uint(u64), [U8 | U16]);
integer!(u64, U64, Uint(u64), [U8 | U16 | U32]);

number!(f32, F32, Float(f64), DType::is_real);
number!(f64, F64, Float(f64), DType::is_real);

impl Element for bool {
    const DTYPE: DType = DType::Bool;
}

impl Sealed for bool {
    fn load(bytes: &[u8], _: bool) -> Self {
        bytes[0] != 0
    }

    fn widen(self) -> Wide {
        Wide::Uint(self.into())
    }

    fn narrow(wide: Wide) -> Self {
        !matches!(wide, Wide::Int(0) | Wide::Uint(0))
    }

    fn accepts(dtype: &DType) -> bool {
        *dtype == DType::Bool
    }
}

/// Reads one element of a type as another one.
pub(super) type Load<T> = fn(&[u8]) -> T;

/// How elements of a type are read as `T`, if they can be.
pub(super) fn loader<T: Element>(dtype: &DType, big: bool) -> Option<Load<T>> {
    fn of<S: Sealed, T: Element>(big: bool) -> Load<T> {
        if big {
            |bytes| T::narrow(S::load(bytes, true).widen())
        } else {
            |bytes| T::narrow(S::load(bytes, false).widen())
        }
    }
    if *dtype == T::DTYPE {
        // Not by way of the wider type, so that every bit stays.
        return Some(if big { |bytes| T::load(bytes, true) } else { |bytes| T::load(bytes, false) });
    }
    if !T::accepts(dtype) {
        return None;
    }
    Some(match dtype {
        DType::Bool => of::<bool, T>(big),
        DType::I8 => of::<i8, T>(big),
        DType::I16 => of::<i16, T>(big),
        DType::I32 => of::<i32, T>(big),
        DType::I64 => of::<i64, T>(big),
        DType::U8 => of::<u8, T>(big),
        DType::U16 => of::<u16, T>(big),
        DType::U32 => of::<u32, T>(big),
        DType::U64 => of::<u64, T>(big),
        DType::F32 => of::<f32, T>(big),
        DType::F64 => of::<f64, T>(big),
        DType::F16 if big => |bytes| T::narrow(Wide::Float(half(u16::load(bytes, true)).into())),
        DType::F16 => |bytes| T::narrow(Wide::Float(half(u16::load(bytes, false)).into())),
        DType::Bf16 if big => |bytes| T::narrow(Wide::Float(brain(u16::load(bytes, true)).into())),
        DType::Bf16 => |bytes| T::narrow(Wide::Float(brain(u16::load(bytes, false)).into())),
        DType::C64 | DType::C128 | DType::Other(_) => return None,
    })
}

/// A number of half precision: a sign, 5 bits of exponent with a bias of 15, 10 bits of fraction.
fn half(bits: u16) -> f32 {
    let sign = u32::from(bits >> 15) << 31;
    let (exponent, fraction) = (u32::from(bits >> 10 & 0x1f), u32::from(bits & 0x3ff));
    match exponent {
        // Too small for its own exponent: so many times 2^-24.
        0 => f32::from_bits(
            (fraction as f32 / f32::from(1_u16 << 12) / f32::from(1_u16 << 12)).to_bits() | sign,
        ),
        0x1f => f32::from_bits(sign | 0xff << 23 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 127 - 15) << 23 | fraction << 13),
    }
}

/// The upper half of a number of single precision.
fn brain(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_is_read() {
        let cases = [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x3555, 0.333_251_95),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x83ff, -6.097_555e-5),
            (0x7c00, f32::INFINITY),
            (0x8000, -0.0),
        ];
        for (bits, value) in cases {
            assert_eq!(half(bits).to_bits(), f32::to_bits(value), "{bits:#x}");
        }
        assert!(half(0x7e00).is_nan());
        assert_eq!(brain(0x3fc0), 1.5);
    }

    #[cfg(feature = "half")]
    #[test]
    fn half_precision_is_read_as_the_half_crate_does() {
        for bits in 0..=u16::MAX {
            let theirs = ::half::f16::from_bits(bits).to_f32();
            assert!(half(bits).to_bits() == theirs.to_bits() || theirs.is_nan() && half(bits).is_nan());
            let theirs = ::half::bf16::from_bits(bits).to_f32();
            assert!(brain(bits).to_bits() == theirs.to_bits() || theirs.is_nan() && brain(bits).is_nan());
        }
    }
}
