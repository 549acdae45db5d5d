//! MessagePack values that remember how they were written.

use std::io;

use bytes::{BufMut, Bytes, buf::Writer};
use bytestring::ByteString;
use rmp::{
    Marker,
    encode::{self, ValueWriteError},
};

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
        let mut decoder = Decoder { input, at: 0, left: limits.values, limits };
        let value = decoder.value(0)?;
        match input.len() - decoder.at {
            0 => Ok(value),
            rest => Err(DecodeError::Trailing(rest)),
        }
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

struct Decoder<'a> {
    input: &'a Bytes,
    at: usize,
    left: usize,
    limits: Limits,
}

impl Decoder<'_> {
    fn value(&mut self, depth: usize) -> Result<Value, DecodeError> {
        self.left = self.left.checked_sub(1).ok_or(DecodeError::TooMany(self.limits.values))?;
        Ok(match Marker::from_u8(self.fixed::<1>()?[0]) {
            Marker::Null => Value::Nil,
            Marker::True => Value::Bool(true),
            Marker::False => Value::Bool(false),
            Marker::FixPos(value) => Value::Int(value.into()),
            Marker::FixNeg(value) => Value::Int(value.into()),
            Marker::U8 => Value::Int(self.fixed::<1>()?[0].into()),
            Marker::U16 => Value::Int(u16::from_be_bytes(self.fixed()?).into()),
            Marker::U32 => Value::Int(u32::from_be_bytes(self.fixed()?).into()),
            Marker::U64 => u64::from_be_bytes(self.fixed()?).into(),
            Marker::I8 => Value::Int(i8::from_be_bytes(self.fixed()?).into()),
            Marker::I16 => Value::Int(i16::from_be_bytes(self.fixed()?).into()),
            Marker::I32 => Value::Int(i32::from_be_bytes(self.fixed()?).into()),
            Marker::I64 => Value::Int(i64::from_be_bytes(self.fixed()?)),
            Marker::F32 => Value::F32(f32::from_be_bytes(self.fixed()?)),
            Marker::F64 => Value::F64(f64::from_be_bytes(self.fixed()?)),
            Marker::FixStr(len) => self.text(len.into())?,
            Marker::Str8 => self.len8().and_then(|len| self.text(len))?,
            Marker::Str16 => self.len16().and_then(|len| self.text(len))?,
            Marker::Str32 => self.len32().and_then(|len| self.text(len))?,
            Marker::Bin8 => Value::Bin(self.len8().and_then(|len| self.bytes(len))?),
            Marker::Bin16 => Value::Bin(self.len16().and_then(|len| self.bytes(len))?),
            Marker::Bin32 => Value::Bin(self.len32().and_then(|len| self.bytes(len))?),
            Marker::FixArray(len) => self.array(len.into(), depth)?,
            Marker::Array16 => self.len16().and_then(|len| self.array(len, depth))?,
            Marker::Array32 => self.len32().and_then(|len| self.array(len, depth))?,
            Marker::FixMap(len) => self.map(len.into(), depth)?,
            Marker::Map16 => self.len16().and_then(|len| self.map(len, depth))?,
            Marker::Map32 => self.len32().and_then(|len| self.map(len, depth))?,
            Marker::FixExt1 => self.ext(1)?,
            Marker::FixExt2 => self.ext(2)?,
            Marker::FixExt4 => self.ext(4)?,
            Marker::FixExt8 => self.ext(8)?,
            Marker::FixExt16 => self.ext(16)?,
            Marker::Ext8 => self.len8().and_then(|len| self.ext(len))?,
            Marker::Ext16 => self.len16().and_then(|len| self.ext(len))?,
            Marker::Ext32 => self.len32().and_then(|len| self.ext(len))?,
            Marker::Reserved => return Err(DecodeError::Reserved),
        })
    }

    fn array(&mut self, len: usize, depth: usize) -> Result<Value, DecodeError> {
        self.enter(depth)?;
        let mut items = Vec::new();
        for _ in 0..len {
            items.push(self.value(depth + 1)?);
        }
        Ok(Value::Array(items))
    }

    fn map(&mut self, len: usize, depth: usize) -> Result<Value, DecodeError> {
        self.enter(depth)?;
        let mut pairs = Vec::new();
        for _ in 0..len {
            let key = self.value(depth + 1)?;
            pairs.push((key, self.value(depth + 1)?));
        }
        Ok(Value::Map(pairs))
    }

    fn enter(&self, depth: usize) -> Result<(), DecodeError> {
        if depth < self.limits.depth { Ok(()) } else { Err(DecodeError::TooDeep(self.limits.depth)) }
    }

    fn text(&mut self, len: usize) -> Result<Value, DecodeError> {
        ByteString::try_from(self.bytes(len)?).map(Value::Str).map_err(|_| DecodeError::Utf8)
    }

    fn ext(&mut self, len: usize) -> Result<Value, DecodeError> {
        let kind = i8::from_be_bytes(self.fixed()?);
        Ok(Value::Ext(kind, self.bytes(len)?))
    }

    fn bytes(&mut self, len: usize) -> Result<Bytes, DecodeError> {
        let end =
            self.at.checked_add(len).filter(|&end| end <= self.input.len()).ok_or(DecodeError::Truncated)?;
        let bytes = self.input.slice(self.at..end);
        self.at = end;
        Ok(bytes)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let bytes = self.input[self.at..].first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.at += N;
        Ok(*bytes)
    }

    fn len8(&mut self) -> Result<usize, DecodeError> {
        Ok(self.fixed::<1>()?[0].into())
    }

    fn len16(&mut self) -> Result<usize, DecodeError> {
        Ok(u16::from_be_bytes(self.fixed()?).into())
    }

    fn len32(&mut self) -> Result<usize, DecodeError> {
        usize::try_from(u32::from_be_bytes(self.fixed()?)).map_err(|_| DecodeError::Truncated)
    }
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
