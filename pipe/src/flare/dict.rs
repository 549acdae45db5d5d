//! Python's dict.

use cellnet_core::fobs::{Object, Opaque};

use super::{ModelError, names};

/// Makes a wrapper of a [`Dict`] an object of a Python type, and back.
macro_rules! typed {
    ($wrapper:ident, $type_name:expr) => {
        impl TryFrom<Object> for $wrapper {
            type Error = ModelError;

            fn try_from(object: Object) -> Result<Self, ModelError> {
                Dict::of(object, $type_name).map(Self)
            }
        }

        impl From<$wrapper> for Object {
            fn from(wrapper: $wrapper) -> Self {
                wrapper.0.into_typed($type_name)
            }
        }
    };
}

pub(super) use typed;

/// A dict as FLARE uses it: keys are text, most of the time, and keep their order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Dict(Vec<(Object, Object)>);

impl Dict {
    /// The value under a key.
    pub fn get(&self, key: &str) -> Option<&Object> {
        self.0.iter().rev().find(|(k, _)| k.as_str() == Some(key)).map(|(_, value)| value)
    }

    /// The value under a key, to change it.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Object> {
        self.0.iter_mut().rev().find(|(k, _)| k.as_str() == Some(key)).map(|(_, value)| value)
    }

    /// Puts a value under a key: in the place of the one that is there, or at the end.
    pub fn insert(&mut self, key: &str, value: impl Into<Object>) {
        let value = value.into();
        match self.get_mut(key) {
            Some(place) => *place = value,
            None => self.0.push((key.into(), value)),
        }
    }

    /// Takes a key out.
    pub fn remove(&mut self, key: &str) -> Option<Object> {
        let at = self.0.iter().rposition(|(k, _)| k.as_str() == Some(key))?;
        Some(self.0.remove(at).1)
    }

    /// Puts in all of another dict.
    pub fn update(&mut self, other: &Self) {
        for (key, value) in &other.0 {
            match self.0.iter_mut().rev().find(|(k, _)| k == key) {
                Some((_, place)) => *place = value.clone(),
                None => self.0.push((key.clone(), value.clone())),
            }
        }
    }

    /// Keys and values in their order.
    pub fn pairs(&self) -> &[(Object, Object)] {
        &self.0
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The dict of an object that is one, of its own type.
    pub(super) fn of(object: Object, type_name: &'static str) -> Result<Self, ModelError> {
        content(object, type_name)?.try_into().map_err(|_| ModelError::Malformed(type_name))
    }

    /// The reverse of [`of`](Self::of).
    pub(super) fn into_typed(self, type_name: &'static str) -> Object {
        Opaque::new(type_name, Object::Map(self.0), names::DICT_DC).into()
    }
}

/// Ordered dicts become plain ones; anything else is given back.
impl TryFrom<Object> for Dict {
    type Error = Object;

    fn try_from(object: Object) -> Result<Self, Object> {
        match object {
            Object::Map(pairs) | Object::OrderedDict(pairs) => Ok(Self(pairs)),
            other => Err(other),
        }
    }
}

impl From<Dict> for Object {
    fn from(dict: Dict) -> Self {
        Self::Map(dict.0)
    }
}

impl<K: Into<Object>, V: Into<Object>> FromIterator<(K, V)> for Dict {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

impl IntoIterator for Dict {
    type Item = (Object, Object);
    type IntoIter = std::vec::IntoIter<(Object, Object)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// What is in an object of a type.
pub(super) fn content(mut object: Object, type_name: &'static str) -> Result<Object, ModelError> {
    match &mut object {
        Object::Opaque(opaque) if opaque.type_name() == type_name => {
            Ok(std::mem::replace(opaque.data_mut(), Object::Nil))
        }
        other => Err(ModelError::Type { expected: type_name, got: type_of(other).into() }),
    }
}

fn type_of(object: &Object) -> &str {
    match object {
        Object::Opaque(opaque) => opaque.type_name(),
        Object::Nil => "nothing",
        Object::Str(_) => "text",
        Object::Bin(_) => "bytes",
        Object::Map(_) | Object::OrderedDict(_) => "a dict",
        Object::List(_) | Object::Tuple(_) | Object::Set(_) => "a list",
        Object::Array(_) | Object::Tensor(_) | Object::ArrayRef(_) => "an array",
        _ => "something else",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_places() {
        let mut dict = Dict::from_iter([("a", 1), ("b", 2)]);
        dict.insert("a", 3);
        dict.insert("c", 4);
        assert_eq!(dict.remove("b"), Some(2.into()));
        dict.update(&Dict::from_iter([("d", 5), ("c", 6)]));
        assert_eq!(dict, Dict::from_iter([("a", 3), ("c", 6), ("d", 5)]));
        assert_eq!((dict.get("b"), dict.len()), (None, 3));
    }
}
