//! The `.npy` format of numpy: a header that is a Python literal, and the elements.
//!
//! ```text
//!  0              6       7       8             10 (version 1) or 12
//!  | 93 "NUMPY"   | major | minor | header len  | header, spaces, newline | elements      little-endian
//! ```
//! The header is `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`. Source: `numpy/lib/_format_impl.py`.

use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;

use super::{Array, DType, File, Order, ShapeError, literal};

/// An array as a file: what it was decoded from, or else what numpy writes.
pub fn encode(array: &Array) -> Bytes {
    let (head, data) = parts(array);
    if head.is_empty() {
        return data.clone();
    }
    let mut out = BytesMut::with_capacity(head.len() + data.len());
    out.put_slice(&head);
    out.put_slice(data);
    out.freeze()
}

/// An array that shares the bytes of its file.
///
/// Arrays of Python objects, which would have to be unpickled, are refused. Bytes after the elements are an error.
pub fn decode(file: &Bytes) -> Result<Array, NpyError> {
    let magic = file.first_chunk::<8>().filter(|start| start.starts_with(MAGIC)).ok_or(NpyError::Magic)?;
    let (major, rest) = (magic[6], &file[8..]);
    let truncated = NpyError::Truncated;
    let (len, start) = match major {
        1 => (rest.first_chunk().map(|len| u16::from_le_bytes(*len).into()).ok_or(truncated)?, 10),
        2 | 3 => (rest.first_chunk().map(|len| u32::from_le_bytes(*len)).ok_or(truncated)?, 12),
        _ => return Err(NpyError::Version(major)),
    };
    if len > MAX_HEADER {
        return Err(NpyError::Long(len));
    }
    let end = start + len as usize;
    let header = file.get(start..end).ok_or(NpyError::Truncated)?;
    let header = if major == 3 {
        String::from_utf8(header.into()).map_err(|_| NpyError::Header)?
    } else {
        header.iter().copied().map(char::from).collect()
    };
    let (descr, order, shape) = parse(&header).ok_or(NpyError::Header)?;
    if has_objects(descr) {
        return Err(NpyError::Pickled);
    }
    let (dtype, byte_order) = DType::from_descr(ByteString::from(descr));
    Ok(Array::build(dtype, byte_order, order, &shape, file.slice(end..), File::Npy(file.clone()))?)
}

/// Why bytes are no `.npy` file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NpyError {
    /// They do not begin as such a file does.
    #[error("no .npy file")]
    Magic,
    /// A version that is not known.
    #[error("version {0} of .npy is not known")]
    Version(u8),
    /// It ends inside its header.
    #[error("file ends inside its header")]
    Truncated,
    /// A header that no array needs.
    #[error("header of {0} bytes is longer than {MAX_HEADER}")]
    Long(u32),
    /// The header does not say what it must.
    #[error("header is not understood")]
    Header,
    /// Elements that are Python objects.
    #[error("elements are Python objects, which are never unpickled")]
    Pickled,
    /// The elements do not fit the header.
    #[error("elements do not fit the header")]
    Shape(#[from] ShapeError),
}

/// What comes before the data, and the data. Of an array that came as a file the data is that file.
pub(super) fn parts(array: &Array) -> (Vec<u8>, &Bytes) {
    match &array.0.file {
        File::Npy(file) => (Vec::new(), file),
        _ => (head(array), array.data()),
    }
}

/// Everything before the elements, as numpy writes it.
fn head(array: &Array) -> Vec<u8> {
    let shape = array.shape();
    let fortran = array.order() == Order::Fortran;
    let (descr, flag) = (array.dtype().descr(array.byte_order()), if fortran { "True" } else { "False" });
    let tuple = match shape {
        [one] => format!("({one},)"),
        _ => format!("({})", shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")),
    };
    let mut text = format!("{{'descr': {descr}, 'fortran_order': {flag}, 'shape': {tuple}, }}");
    // Room to append along the slowest dimension.
    let growing = if fortran { shape.last() } else { shape.first() };
    if let Some(size) = growing {
        text.extend(std::iter::repeat_n(' ', MAX_DIGITS.saturating_sub(size.to_string().len())));
    }
    let latin = text.chars().map(|c| u8::try_from(u32::from(c))).collect::<Result<Vec<u8>, _>>();
    let (version, text, width) = match latin {
        Ok(text) if text.len() < usize::from(u16::MAX) - ALIGN => (1, text, 2),
        Ok(text) => (2, text, 4),
        Err(_) => (3, text.into_bytes(), 4),
    };
    let unpadded = MAGIC.len() + 2 + width + text.len() + 1;
    let padding = ALIGN - unpadded % ALIGN;
    let len = text.len() + padding + 1;

    let mut out = Vec::with_capacity(unpadded + padding);
    out.extend_from_slice(MAGIC);
    out.extend([version, 0]);
    out.extend(&u32::try_from(len).expect("a header is short").to_le_bytes()[..width]);
    out.extend(text);
    out.extend(std::iter::repeat_n(b' ', padding));
    out.push(b'\n');
    out
}

/// Descr, order and shape.
fn parse(header: &str) -> Option<(&str, Order, Vec<usize>)> {
    let entries = literal::entries(header)?;
    let find = |name| entries.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
    let order = match find("fortran_order")? {
        "True" => Order::Fortran,
        "False" => Order::C,
        _ => return None,
    };
    let descr = find("descr").filter(|descr| descr.starts_with(['\'', '"', '[', '(']))?;
    (entries.len() == 3).then_some((descr, order, literal::tuple(find("shape")?)?))
}

/// Whether a type is, or has in it, Python objects: `'|O'`, `[('a', 'O8')]`. What is quoted is a type or the name of a field.
fn has_objects(descr: &str) -> bool {
    let mut quoted = descr.split(['\'', '"']).skip(1).step_by(2);
    quoted.any(|text| {
        let digits = text.trim_start_matches(['<', '>', '|', '=']).strip_prefix('O');
        digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

const MAGIC: &[u8] = b"\x93NUMPY";
/// The elements begin at a multiple of this.
const ALIGN: usize = 64;
/// Digits of the largest size of a dimension.
const MAX_DIGITS: usize = 21;
/// The reference's numpy reads 10,000.
const MAX_HEADER: u32 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fobs::ByteOrder;

    fn file(version: u8, header: &str, data: &[u8]) -> Bytes {
        let len = header.len() as u32;
        let len = if version == 1 { len.to_le_bytes()[..2].to_vec() } else { len.to_le_bytes().to_vec() };
        Bytes::from([MAGIC, &[version, 0], &len, header.as_bytes(), data].concat())
    }

    const HEADER: &str = "{'descr': '<u2', 'fortran_order': False, 'shape': (2,)}";

    #[test]
    fn all_versions_are_read_and_come_back_as_they_were() {
        for version in 1..=3 {
            let file = file(version, HEADER, &[1, 0, 2, 0]);
            let array = decode(&file).unwrap();
            assert_eq!(array.to_vec::<u16>().unwrap(), [1, 2]);
            assert_eq!(encode(&array).as_ptr(), file.as_ptr(), "not copied");
        }
    }

    #[test]
    fn damage_is_said() {
        assert_eq!(decode(&Bytes::new()), Err(NpyError::Magic));
        assert_eq!(decode(&file(4, HEADER, &[])), Err(NpyError::Version(4)));
        assert_eq!(decode(&file(1, HEADER, &[]).slice(..20)), Err(NpyError::Truncated));
        assert_eq!(decode(&file(2, HEADER, &[]).slice(..9)), Err(NpyError::Truncated));
        assert!(matches!(decode(&file(1, HEADER, &[1])), Err(NpyError::Shape(ShapeError::Length { .. }))));
        assert_eq!(decode(&file(1, &HEADER.replace("shape", "shade"), &[])), Err(NpyError::Header));
        assert_eq!(decode(&file(1, &HEADER.replace("<u2", "|O"), b"pickle")), Err(NpyError::Pickled));
        for objects in ["\"|O\"", "'O8'", "[('a', '<i4'), ('b', '|O')]"] {
            let header = HEADER.replace("'<u2'", objects);
            assert_eq!(decode(&file(1, &header, b"pickle")), Err(NpyError::Pickled), "{objects}");
        }
        let named = decode(&file(1, &HEADER.replace("'<u2'", "[('CO', '<u2')]"), &[0; 4]));
        assert_eq!(named.unwrap().len(), 2);
        assert_eq!(decode(&file(3, "\u{fffd}", &[]).slice(..14)), Err(NpyError::Truncated));
        let claim = Bytes::from([MAGIC, &[2, 0], &u32::MAX.to_le_bytes()].concat());
        assert_eq!(decode(&claim), Err(NpyError::Long(u32::MAX)));
    }

    #[test]
    fn headers_are_those_of_numpy() {
        let array = Array::with_shape(vec![0_f32; 6], &[2, 3]).unwrap();
        let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
        let file = encode(&array);
        assert_eq!(file[..10], *b"\x93NUMPY\x01\0\x76\0");
        assert_eq!(file[10..128], *format!("{text:117}\n").as_bytes());
        assert_eq!(decode(&file).unwrap(), array);
    }

    #[test]
    fn long_and_foreign_descriptions_take_later_versions() {
        for (descr, version) in [("x".repeat(70_000 / 2), 1), ("ł".into(), 3)] {
            let descr = format!("[('{descr}', '<i4')]");
            let data = Bytes::from_static(&[0; 8]);
            let dtype = DType::Other(descr.into());
            let array = Array::from_bytes(dtype, ByteOrder::Little, Order::C, &[2], data).unwrap();
            let file = encode(&array);
            assert_eq!(file[6], version);
            assert_eq!(decode(&file), Ok(array));
        }
    }
}
