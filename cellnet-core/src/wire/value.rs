//! MessagePack values that remember how they were written.

use std::io;

use bytes::{BufMut, Bytes, buf::Writer};
use bytestring::ByteString;
use rmp::encode::{self, ValueWriteError};

use super::scan::{Scanner, Shape};

/// One MessagePack value. Text and binary data share the bytes they were decoded from.
///
/// Maps keep their order and may have any keys. Encoding a decoded value gives the same bytes if they were in the
/// shortest form, which is what the reference sends.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    Nil,
    /// A truth value.
    Bool(bool),
    /// An integer that fits.
    Int(i64),
    /// An integer above `i64::MAX`; smaller ones are [`Value::Int`].
    Uint(u64),
    /// A single-precision number; the reference never sends one.
    F32(f32),
    /// A number.
    F64(f64),
    /// Text.
    Str(ByteString),
    /// Bytes.
    Bin(Bytes),
    /// A list.
    Array(Vec<Value>),
    /// Pairs in the order they came.
    Map(Vec<(Value, Value)>),
    /// An extension type.
    Ext(i8, Bytes),
}

/// How much a decoder accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Containers inside one another.
    pub depth: usize,
    /// Values in all, containers and map keys included. A value takes some 40 bytes, so this bounds memory.
    pub values: usize,
    /// Bytes in all. Text, data and arrays share them, so this bounds what they hold on to.
    pub bytes: usize,
}

impl Limits {
    /// For header maps: the reference uses some 20 entries and lists of pairs for the route.
    pub const HEADERS: Self = Self { depth: 16, values: 4096, bytes: 64 << 10 };
    /// For single values of headers.
    pub(crate) const SMALL: Self = Self { depth: 4, values: 16, bytes: 64 << 10 };
    /// For what this process encoded itself.
    pub(crate) const NONE: Self = Self { depth: usize::MAX, values: usize::MAX, bytes: usize::MAX };
    /// For payloads; a blob has at most 2 GiB by default.
    pub const PAYLOAD: Self = Self { depth: 128, values: 1 << 20, bytes: 2 << 30 };
}

/// Why bytes are not the expected MessagePack.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The input ends inside a value.
    #[error("input ends inside a value")]
    Truncated,
    /// The byte 0xc1.
    #[error("0xc1 starts no value")]
    Reserved,
    /// Text that is no text.
    #[error("text is not UTF-8")]
    Utf8,
    /// Bytes after the value.
    #[error("{0} bytes after the value")]
    Trailing(usize),
    /// Deeper than [`Limits::depth`].
    #[error("more than {0} containers inside one another")]
    TooDeep(usize),
    /// More than [`Limits::values`].
    #[error("more than {0} values")]
    TooMany(usize),
    /// Longer than [`Limits::bytes`].
    #[error("more than {0} bytes")]
    TooLong(usize),
    /// A key of a header map that is neither text nor bytes, at any depth.
    #[error("a header key is neither text nor bytes")]
    Key,
    /// Something else than the map, text or number that belongs here.
    #[error("expected {0}")]
    Expected(&'static str),
}

impl Value {
    /// Text that lives as long as the program.
    pub const fn text(text: &'static str) -> Self {
        Self::Str(ByteString::from_static(text))
    }

    /// Decodes one value that takes all of `input`.
    pub fn decode(input: &Bytes, limits: Limits) -> Result<Self, DecodeError> {
        if input.len() > limits.bytes {
            return Err(DecodeError::TooLong(limits.bytes));
        }
        let mut scanner = Scanner::new(input, limits);
        let value = Self::build(input, &mut scanner, 0)?;
        match scanner.rest().len() {
            0 => Ok(value),
            rest => Err(DecodeError::Trailing(rest)),
        }
    }

    /// The next value of a scanner over `input`, whose bytes it shares.
    fn build(input: &Bytes, scanner: &mut Scanner<'_>, depth: usize) -> Result<Self, DecodeError> {
        Ok(match scanner.step()? {
            Shape::Nil => Self::Nil,
            Shape::Bool(value) => Self::Bool(value),
            Shape::Uint(value) => value.into(),
            Shape::Int(value) => Self::Int(value),
            Shape::F32(value) => Self::F32(value),
            Shape::F64(value) => Self::F64(value),
            Shape::Text(text) => Self::Str(input.slice_ref(text.as_bytes()).try_into().expect("it was text")),
            Shape::Bytes(bytes) => Self::Bin(input.slice_ref(bytes)),
            Shape::Ext(kind, bytes) => Self::Ext(kind, input.slice_ref(bytes)),
            Shape::Array(len) => {
                scanner.enter(depth)?;
                // What is only claimed allocates nothing.
                let mut items = Vec::new();
                for _ in 0..len {
                    items.push(Self::build(input, scanner, depth + 1)?);
                }
                Self::Array(items)
            }
            Shape::Map(len) => {
                scanner.enter(depth)?;
                let mut pairs = Vec::new();
                for _ in 0..len {
                    let key = Self::build(input, scanner, depth + 1)?;
                    pairs.push((key, Self::build(input, scanner, depth + 1)?));
                }
                Self::Map(pairs)
            }
        })
    }

    /// Appends the value in its shortest form.
    pub fn encode(&self, out: &mut impl BufMut) {
        self.write(&mut out.writer()).expect("a buffer in memory takes everything");
    }

    fn write<B: BufMut>(&self, out: &mut Writer<&mut B>) -> Result<(), ValueWriteError<io::Error>> {
        match self {
            Self::Nil => encode::write_nil(out).map_err(ValueWriteError::InvalidMarkerWrite)?,
            Self::Bool(value) => {
                encode::write_bool(out, *value).map_err(ValueWriteError::InvalidMarkerWrite)?
            }
            Self::Int(value) => drop(encode::write_sint(out, *value)?),
            Self::Uint(value) => drop(encode::write_uint(out, *value)?),
            Self::F32(value) => encode::write_f32(out, *value)?,
            Self::F64(value) => encode::write_f64(out, *value)?,
            Self::Str(text) => encode::write_str(out, text)?,
            Self::Bin(bytes) => encode::write_bin(out, bytes)?,
            Self::Array(items) => {
                encode::write_array_len(out, len_u32(items.len()))?;
                items.iter().try_for_each(|item| item.write(out))?;
            }
            Self::Map(pairs) => {
                encode::write_map_len(out, len_u32(pairs.len()))?;
                for (key, value) in pairs {
                    key.write(out)?;
                    value.write(out)?;
                }
            }
            Self::Ext(kind, bytes) => {
                encode::write_ext_meta(out, len_u32(bytes.len()), *kind)?;
                out.get_mut().put_slice(bytes);
            }
        }
        Ok(())
    }

    /// At least as many bytes as [`encode`](Self::encode) appends, without encoding.
    pub fn size_bound(&self) -> usize {
        /// A marker with the longest length or number.
        const MARKER: usize = 9;
        MARKER
            + match self {
                Self::Str(text) => text.len(),
                Self::Bin(bytes) | Self::Ext(_, bytes) => bytes.len(),
                Self::Array(items) => items.iter().map(Self::size_bound).sum(),
                Self::Map(pairs) => {
                    pairs.iter().map(|(key, value)| key.size_bound() + value.size_bound()).sum()
                }
                _ => 0,
            }
    }

    /// What the value takes in memory, in bytes, more or less: itself, its text or bytes, and what it contains.
    pub fn memory(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Str(text) => text.len(),
                Self::Bin(bytes) | Self::Ext(_, bytes) => bytes.len(),
                Self::Array(items) => items.iter().map(Self::memory).sum(),
                Self::Map(pairs) => pairs.iter().map(|(key, value)| key.memory() + value.memory()).sum(),
                _ => 0,
            }
    }

    /// The text, if it is text.
    pub fn as_str(&self) -> Option<&str> {
        self.as_text().map(|text| &**text)
    }

    /// The text as shared bytes, if it is text.
    pub fn as_text(&self) -> Option<&ByteString> {
        if let Self::Str(text) = self { Some(text) } else { None }
    }

    /// The bytes, if it is binary.
    pub fn as_bin(&self) -> Option<&Bytes> {
        if let Self::Bin(bytes) = self { Some(bytes) } else { None }
    }

    /// The truth value, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(value) = self { Some(*value) } else { None }
    }

    /// The integer, if it is one and not above `i64::MAX`.
    pub fn as_i64(&self) -> Option<i64> {
        if let Self::Int(value) = self { Some(*value) } else { None }
    }

    /// The integer, if it is one and not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Int(value) => (*value).try_into().ok(),
            Self::Uint(value) => Some(*value),
            _ => None,
        }
    }

    /// The number, whole or not.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::F64(value) => Some(*value),
            Self::F32(value) => Some(f64::from(*value)),
            Self::Int(value) => Some(*value as f64),
            Self::Uint(value) => Some(*value as f64),
            _ => None,
        }
    }

    /// The items, if it is a list.
    pub fn as_array(&self) -> Option<&[Value]> {
        if let Self::Array(items) = self { Some(items) } else { None }
    }

    /// The pairs, if it is a map.
    pub fn as_map(&self) -> Option<&[(Value, Value)]> {
        if let Self::Map(pairs) = self { Some(pairs) } else { None }
    }

    /// The value under a text key, if it is a map that has it; the last one, as in the reference, if there are several.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_map()?.iter().rev().find(|(k, _)| k.as_str() == Some(key)).map(|(_, value)| value)
    }
}

/// A container that large cannot exist in memory: a value takes some 40 bytes.
fn len_u32(len: usize) -> u32 {
    u32::try_from(len).expect("no container has 2^32 values")
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        i64::try_from(value).map_or(Self::Uint(value), Self::Int)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::F64(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Str(value.into())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Str(value.into())
    }
}

impl From<ByteString> for Value {
    fn from(value: ByteString) -> Self {
        Self::Str(value)
    }
}

impl From<&crate::Fqcn> for Value {
    fn from(value: &crate::Fqcn) -> Self {
        Self::Str(value.as_text().clone())
    }
}

impl From<Bytes> for Value {
    fn from(value: Bytes) -> Self {
        Self::Bin(value)
    }
}

impl From<Vec<Value>> for Value {
    fn from(value: Vec<Value>) -> Self {
        Self::Array(value)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Nil, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &'static [u8]) -> Result<Value, DecodeError> {
        Value::decode(&Bytes::from_static(bytes), Limits::PAYLOAD)
    }

    #[test]
    fn claimed_lengths_allocate_nothing() {
        for bytes in [
            &b"\xdd\xff\xff\xff\xff"[..],
            b"\xdf\xff\xff\xff\xff",
            b"\xc6\xff\xff\xff\xff",
            b"\xdb\xff\xff\xff\xff",
        ] {
            assert_eq!(decode(bytes), Err(DecodeError::Truncated));
        }
    }

    #[test]
    fn nesting_ends_at_the_limit() {
        let mut deep = vec![0x91; 10_000];
        deep.push(0xc0);
        assert_eq!(Value::decode(&deep.into(), Limits::PAYLOAD), Err(DecodeError::TooDeep(128)));
    }

    #[test]
    fn many_small_values_end_at_the_limit() {
        let mut wide = vec![0xdc, 0xea, 0x60];
        wide.resize(3 + 60_000, 0xc0);
        assert_eq!(Value::decode(&wide.into(), Limits::HEADERS), Err(DecodeError::TooMany(4096)));
    }

    #[test]
    fn signed_forms_of_unsigned_numbers_are_read() {
        assert_eq!(decode(b"\xd3\0\0\0\0\0\0\0\x05"), Ok(Value::Int(5)));
        assert_eq!(decode(b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff"), Ok(Value::Uint(u64::MAX)));
    }
}
