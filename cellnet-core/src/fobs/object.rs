//! The values that a payload can hold.

use bytes::Bytes;
use bytestring::ByteString;

use super::{Array, ArrayRef, Datum, DatumRef, Opaque, Scalar, Tensor};

/// One value of the object encoding. Text and bytes share the payload they were decoded from.
///
/// Maps keep their order, may have any keys, and keep a key that comes twice.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub enum Object {
    /// Nothing.
    #[default]
    Nil,
    /// A truth value.
    Bool(bool),
    /// An integer that fits.
    Int(i64),
    /// An integer above `i64::MAX`; smaller ones are [`Object::Int`].
    Uint(u64),
    /// A number.
    F64(f64),
    /// Text.
    Str(ByteString),
    /// Bytes.
    Bin(Bytes),
    /// A list.
    List(Vec<Object>),
    /// A dict.
    Map(Vec<(Object, Object)>),
    /// A tuple.
    Tuple(Vec<Object>),
    /// A set. Equal members are not looked for.
    Set(Vec<Object>),
    /// A `collections.OrderedDict`.
    OrderedDict(Vec<(Object, Object)>),
    /// A `datetime.datetime` in ISO 8601, as it came: `2024-01-02T03:04:05.678901`, with an offset or without.
    /// Not checked.
    DateTime(ByteString),
    /// A member of an enum.
    Enum(Box<EnumMember>),
    /// A place for data from another section. Only within a [`Document`](super::Document).
    DatumRef(DatumRef),
    /// Data that the application chose to send in a section of its own.
    Datum(Box<Datum>),
    /// An array of numpy.
    Array(Array),
    /// A tensor of torch.
    Tensor(Tensor),
    /// An array or a tensor that is still with its owner.
    ArrayRef(Box<ArrayRef>),
    /// A single number of numpy.
    Scalar(Scalar),
    /// An object of a type that is not known here.
    Opaque(Opaque),
    /// A MessagePack extension. The reference never sends one.
    Ext(i8, Bytes),
}

/// A member of an enum, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnumMember {
    /// Module and name of the enum, for example `nvflare.apis.dxo.DataKind`.
    pub type_name: ByteString,
    /// The member's name (not its value), for example `WEIGHTS`.
    pub member: ByteString,
}

impl Object {
    /// Text that lives as long as the program.
    pub const fn text(text: &'static str) -> Self {
        Self::Str(ByteString::from_static(text))
    }

    /// A member of an enum.
    pub fn enum_member(type_name: impl Into<ByteString>, member: impl Into<ByteString>) -> Self {
        Self::Enum(Box::new(EnumMember { type_name: type_name.into(), member: member.into() }))
    }

    /// Whether it is nothing.
    pub fn is_nil(&self) -> bool {
        matches!(self, Self::Nil)
    }

    /// The text, if it is text.
    pub fn as_str(&self) -> Option<&str> {
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

    /// The integer, of numpy or not, if it is one and not above `i64::MAX`.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(value) | Self::Scalar(Scalar::I64(value)) => Some(*value),
            Self::Scalar(Scalar::I32(value)) => Some((*value).into()),
            _ => None,
        }
    }

    /// The integer, of numpy or not, if it is one and not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Uint(value) => Some(*value),
            _ => self.as_i64()?.try_into().ok(),
        }
    }

    /// The number, whole or not, of numpy or not.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::F64(value) | Self::Scalar(Scalar::F64(value)) => Some(*value),
            Self::Scalar(Scalar::F32(value)) => Some((*value).into()),
            Self::Uint(value) => Some(*value as f64),
            _ => self.as_i64().map(|value| value as f64),
        }
    }

    /// The array, of numpy or torch, if it is one and it is here.
    pub fn as_array(&self) -> Option<&Array> {
        match self {
            Self::Array(array) => Some(array),
            Self::Tensor(tensor) => Some(tensor.array()),
            _ => None,
        }
    }

    /// The items of a list, a tuple or a set.
    pub fn items(&self) -> Option<&[Object]> {
        match self {
            Self::List(items) | Self::Tuple(items) | Self::Set(items) => Some(items),
            _ => None,
        }
    }

    /// The pairs of a dict, ordered or not.
    pub fn pairs(&self) -> Option<&[(Object, Object)]> {
        match self {
            Self::Map(pairs) | Self::OrderedDict(pairs) => Some(pairs),
            _ => None,
        }
    }

    /// The value under a text key of a dict; the last one, if there are several.
    pub fn get(&self, key: &str) -> Option<&Object> {
        self.pairs()?.iter().rev().find(|(k, _)| k.as_str() == Some(key)).map(|(_, value)| value)
    }

    /// The value under a text key of a dict, to change it; the last one, if there are several.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Object> {
        match self {
            Self::Map(pairs) | Self::OrderedDict(pairs) => {
                pairs.iter_mut().rev().find(|(k, _)| k.as_str() == Some(key)).map(|(_, value)| value)
            }
            _ => None,
        }
    }

    /// The object, if its type is not known here.
    pub fn as_opaque(&self) -> Option<&Opaque> {
        if let Self::Opaque(opaque) = self { Some(opaque) } else { None }
    }

    /// Shows itself and all that is in it, keys too, in the order in which they are encoded.
    pub(super) fn visit(&self, f: &mut impl FnMut(&Self)) {
        f(self);
        match self {
            Self::List(items) | Self::Tuple(items) | Self::Set(items) => {
                items.iter().for_each(|item| item.visit(f))
            }
            Self::Map(pairs) | Self::OrderedDict(pairs) => pairs.iter().for_each(|(key, value)| {
                key.visit(f);
                value.visit(f);
            }),
            Self::Opaque(opaque) => opaque.data().visit(f),
            _ => {}
        }
    }

    /// [`visit`](Self::visit) to change things, until something fails. What is in an object comes before the object.
    pub(super) fn visit_mut<E>(&mut self, f: &mut impl FnMut(&mut Self) -> Result<(), E>) -> Result<(), E> {
        match self {
            Self::List(items) | Self::Tuple(items) | Self::Set(items) => {
                items.iter_mut().try_for_each(|item| item.visit_mut(f))?;
            }
            Self::Map(pairs) | Self::OrderedDict(pairs) => {
                for (key, value) in pairs {
                    key.visit_mut(f)?;
                    value.visit_mut(f)?;
                }
            }
            Self::Opaque(opaque) => opaque.data_mut().visit_mut(f)?,
            _ => {}
        }
        f(self)
    }
}

impl<T: Into<Object>> From<Option<T>> for Object {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Nil, Into::into)
    }
}

impl From<bool> for Object {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i32> for Object {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}

impl From<u32> for Object {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}

impl From<i64> for Object {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<u64> for Object {
    fn from(value: u64) -> Self {
        i64::try_from(value).map_or(Self::Uint(value), Self::Int)
    }
}

impl From<f64> for Object {
    fn from(value: f64) -> Self {
        Self::F64(value)
    }
}

impl From<&str> for Object {
    fn from(value: &str) -> Self {
        Self::Str(value.into())
    }
}

impl From<String> for Object {
    fn from(value: String) -> Self {
        Self::Str(value.into())
    }
}

impl From<ByteString> for Object {
    fn from(value: ByteString) -> Self {
        Self::Str(value)
    }
}

impl From<Bytes> for Object {
    fn from(value: Bytes) -> Self {
        Self::Bin(value)
    }
}

impl From<Vec<Object>> for Object {
    fn from(value: Vec<Object>) -> Self {
        Self::List(value)
    }
}

impl From<Datum> for Object {
    fn from(value: Datum) -> Self {
        Self::Datum(Box::new(value))
    }
}

impl From<Array> for Object {
    fn from(value: Array) -> Self {
        Self::Array(value)
    }
}

impl From<Tensor> for Object {
    fn from(value: Tensor) -> Self {
        Self::Tensor(value)
    }
}

impl From<Scalar> for Object {
    fn from(value: Scalar) -> Self {
        Self::Scalar(value)
    }
}

impl From<Opaque> for Object {
    fn from(value: Opaque) -> Self {
        Self::Opaque(value)
    }
}

/// A dict.
impl<K: Into<Object>, V: Into<Object>> FromIterator<(K, V)> for Object {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(pairs: T) -> Self {
        Self::Map(pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Value;

    #[test]
    fn limits_count_objects_as_they_count_values() {
        assert!(size_of::<Object>() <= size_of::<Value>());
    }
}
