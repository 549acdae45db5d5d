//! Walks over MessagePack without building anything. [`Value`](super::Value) builds on it.

use rmp::Marker;

use super::{DecodeError, Limits};

/// A place in encoded bytes. Every step checks what it passes: lengths, text, depth and number of values.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    input: &'a [u8],
    at: usize,
    /// Values that may still come.
    left: usize,
    limits: Limits,
}

/// A value, or the head of one that contains others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Shape<'a> {
    Nil,
    Bool(bool),
    /// An integer that is not negative.
    Uint(u64),
    /// A negative integer.
    Int(i64),
    F32(f32),
    F64(f64),
    /// Text, without its marker.
    Text(&'a str),
    /// Bytes, without their marker.
    Bytes(&'a [u8]),
    /// An extension type, without its marker.
    Ext(i8, &'a [u8]),
    /// A list of so many values, which come next.
    Array(usize),
    /// A map of so many pairs, which come next.
    Map(usize),
}

impl Shape<'_> {
    /// The number, whole or not.
    pub(crate) fn number(self) -> Option<f64> {
        match self {
            Self::F64(value) => Some(value),
            Self::F32(value) => Some(value.into()),
            Self::Uint(value) => Some(value as f64),
            Self::Int(value) => Some(value as f64),
            _ => None,
        }
    }
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(input: &'a [u8], limits: Limits) -> Self {
        Self { input, at: 0, left: limits.values, limits }
    }

    /// Bytes passed so far.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// What was not passed yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        &self.input[self.at..]
    }

    /// Passes a value with all that is in it. Keys of maps are text or bytes at every depth, which is the reference's
    /// rule for headers.
    pub(crate) fn skip(&mut self, depth: usize) -> Result<Shape<'a>, DecodeError> {
        let shape = self.step()?;
        match shape {
            Shape::Array(len) => {
                self.enter(depth)?;
                for _ in 0..len {
                    self.skip(depth + 1)?;
                }
            }
            Shape::Map(len) => {
                self.enter(depth)?;
                for _ in 0..len {
                    self.key(depth + 1)?;
                    self.skip(depth + 1)?;
                }
            }
            _ => {}
        }
        Ok(shape)
    }

    /// Passes a key of a map.
    pub(crate) fn key(&mut self, depth: usize) -> Result<Shape<'a>, DecodeError> {
        match self.skip(depth)? {
            key @ (Shape::Text(_) | Shape::Bytes(_)) => Ok(key),
            _ => Err(DecodeError::Key),
        }
    }

    /// Passes a scalar, or the head of a list or map.
    pub(crate) fn step(&mut self) -> Result<Shape<'a>, DecodeError> {
        self.left = self.left.checked_sub(1).ok_or(DecodeError::TooMany(self.limits.values))?;
        Ok(match Marker::from_u8(self.fixed::<1>()?[0]) {
            Marker::Null => Shape::Nil,
            Marker::True => Shape::Bool(true),
            Marker::False => Shape::Bool(false),
            Marker::FixPos(value) => Shape::Uint(value.into()),
            Marker::FixNeg(value) => Shape::Int(value.into()),
            Marker::U8 => Shape::Uint(self.fixed::<1>()?[0].into()),
            Marker::U16 => Shape::Uint(u16::from_be_bytes(self.fixed()?).into()),
            Marker::U32 => Shape::Uint(u32::from_be_bytes(self.fixed()?).into()),
            Marker::U64 => Shape::Uint(u64::from_be_bytes(self.fixed()?)),
            Marker::I8 => signed(i8::from_be_bytes(self.fixed()?).into()),
            Marker::I16 => signed(i16::from_be_bytes(self.fixed()?).into()),
            Marker::I32 => signed(i32::from_be_bytes(self.fixed()?).into()),
            Marker::I64 => signed(i64::from_be_bytes(self.fixed()?)),
            Marker::F32 => Shape::F32(f32::from_be_bytes(self.fixed()?)),
            Marker::F64 => Shape::F64(f64::from_be_bytes(self.fixed()?)),
            Marker::FixStr(len) => self.text(len.into())?,
            Marker::Str8 => self.len8().and_then(|len| self.text(len))?,
            Marker::Str16 => self.len16().and_then(|len| self.text(len))?,
            Marker::Str32 => self.len32().and_then(|len| self.text(len))?,
            Marker::Bin8 => self.len8().and_then(|len| self.bytes(len)).map(Shape::Bytes)?,
            Marker::Bin16 => self.len16().and_then(|len| self.bytes(len)).map(Shape::Bytes)?,
            Marker::Bin32 => self.len32().and_then(|len| self.bytes(len)).map(Shape::Bytes)?,
            Marker::FixArray(len) => Shape::Array(len.into()),
            Marker::Array16 => Shape::Array(self.len16()?),
            Marker::Array32 => Shape::Array(self.len32()?),
            Marker::FixMap(len) => Shape::Map(len.into()),
            Marker::Map16 => Shape::Map(self.len16()?),
            Marker::Map32 => Shape::Map(self.len32()?),
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

    /// Goes into a container that is itself `depth` deep.
    pub(crate) fn enter(&self, depth: usize) -> Result<(), DecodeError> {
        if depth < self.limits.depth { Ok(()) } else { Err(DecodeError::TooDeep(self.limits.depth)) }
    }

    fn text(&mut self, len: usize) -> Result<Shape<'a>, DecodeError> {
        std::str::from_utf8(self.bytes(len)?).map(Shape::Text).map_err(|_| DecodeError::Utf8)
    }

    fn ext(&mut self, len: usize) -> Result<Shape<'a>, DecodeError> {
        let kind = i8::from_be_bytes(self.fixed()?);
        Ok(Shape::Ext(kind, self.bytes(len)?))
    }

    fn bytes(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let bytes = self.rest().get(..len).ok_or(DecodeError::Truncated)?;
        self.at += len;
        Ok(bytes)
    }

    /// Passes so many bytes, whatever they are.
    pub(super) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let bytes = self.rest().first_chunk::<N>().ok_or(DecodeError::Truncated)?;
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

fn signed(value: i64) -> Shape<'static> {
    u64::try_from(value).map_or(Shape::Int(value), Shape::Uint)
}
