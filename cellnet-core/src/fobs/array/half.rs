//! The types of the crate `half` as elements.

use half::{bf16, f16};

use super::{
    DType, Element,
    element::sealed::{Sealed, Wide},
};

macro_rules! half {
    ($type:ty, $dtype:ident) => {
        impl Element for $type {
            const DTYPE: DType = DType::$dtype;
        }

        impl Sealed for $type {
            fn load(bytes: &[u8], big: bool) -> Self {
                Self::from_bits(u16::load(bytes, big))
            }

            fn widen(self) -> Wide {
                Wide::Float(self.into())
            }

            fn narrow(wide: Wide) -> Self {
                match wide {
                    Wide::Int(value) => Self::from_f64(value as f64),
                    Wide::Uint(value) => Self::from_f64(value as f64),
                    Wide::Float(value) => Self::from_f64(value),
                }
            }

            fn accepts(dtype: &DType) -> bool {
                dtype.is_real()
            }
        }
    };
}

half!(f16, F16);
half!(bf16, Bf16);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fobs::Array;

    #[test]
    fn halves_are_made_and_read() {
        let array = Array::from(vec![f16::from_f32(1.5), f16::NEG_INFINITY]);
        assert_eq!(array.dtype(), &DType::F16);
        assert_eq!(array.to_vec::<f64>().unwrap(), [1.5, f64::NEG_INFINITY]);
        assert_eq!(array.to_vec::<bf16>().unwrap(), [bf16::from_f32(1.5), bf16::NEG_INFINITY]);
        assert_eq!(array.as_slice::<f16>(), Some(&[f16::from_f32(1.5), f16::NEG_INFINITY][..]));
    }
}
