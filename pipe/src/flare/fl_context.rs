//! What a process knows while it works.

use bytestring::ByteString;
use cellnet_core::fobs::{Object, Opaque};

use super::{ModelError, dict::content};

/// Properties that parts of FLARE share, some with the other end. Source: `apis/fl_context.py`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FlContext {
    /// A model; never used.
    pub model: Object,
    /// Keys and properties in their order.
    props: Vec<(ByteString, Prop)>,
}

/// One property.
#[derive(Debug, Clone, PartialEq)]
pub struct Prop {
    /// Its value.
    pub value: Object,
    /// Whether it is known in later contexts too.
    pub sticky: bool,
    /// Whether it is for local use only.
    pub private: bool,
}

impl FlContext {
    /// One property with its marks.
    pub fn prop(&self, key: &str) -> Option<&Prop> {
        self.props.iter().rev().find(|(known, _)| known == key).map(|(_, prop)| prop)
    }

    /// The value of a property.
    pub fn get(&self, key: &str) -> Option<&Object> {
        self.prop(key).map(|prop| &prop.value)
    }

    /// Sets a property.
    pub fn insert(&mut self, key: impl Into<ByteString>, prop: Prop) {
        let key = key.into();
        match self.props.iter_mut().rev().find(|(known, _)| *known == key) {
            Some((_, place)) => *place = prop,
            None => self.props.push((key, prop)),
        }
    }

    /// All properties in their order.
    pub fn props(&self) -> impl ExactSizeIterator<Item = (&str, &Prop)> {
        self.props.iter().map(|(key, prop)| (&**key, prop))
    }
}

impl TryFrom<Object> for FlContext {
    type Error = ModelError;

    fn try_from(object: Object) -> Result<Self, ModelError> {
        let malformed = ModelError::Malformed(TYPE);
        let Object::List(items) = content(object, TYPE)? else { return Err(malformed) };
        match <[Object; 2]>::try_from(items) {
            Ok([model, Object::Map(props)]) => {
                let props = props.into_iter().map(|(key, prop)| match key {
                    Object::Str(key) => Some((key, Prop::of(prop)?)),
                    _ => None,
                });
                Ok(Self { model, props: props.collect::<Option<_>>().ok_or(malformed)? })
            }
            _ => Err(malformed),
        }
    }
}

impl From<FlContext> for Object {
    fn from(context: FlContext) -> Self {
        let props = Self::from_iter(context.props.into_iter().map(|(key, prop)| (key, prop.into_object())));
        Opaque::new(TYPE, Self::List(vec![context.model, props]), DECOMPOSER).into()
    }
}

impl Prop {
    fn of(object: Object) -> Option<Self> {
        let Object::Map(pairs) = object else { return None };
        let [(value_key, value), (mask_key, mask)] = pairs.try_into().ok()?;
        let mask = mask.as_u64().filter(|mask| *mask <= STICKY | PRIVATE)?;
        let known = (value_key.as_str(), mask_key.as_str()) == (Some(VALUE), Some(MASK));
        known.then_some(Self { value, sticky: mask & STICKY != 0, private: mask & PRIVATE != 0 })
    }

    fn into_object(self) -> Object {
        let mask = if self.sticky { STICKY } else { 0 } | if self.private { PRIVATE } else { 0 };
        Object::from_iter([(VALUE, self.value), (MASK, mask.into())])
    }
}

const TYPE: &str = "nvflare.apis.fl_context.FLContext";
const DECOMPOSER: &str = "nvflare.apis.utils.decomposers.flare_decomposers.ContextDecomposer";
const VALUE: &str = "value";
const MASK: &str = "mask";
const STICKY: u64 = 1;
const PRIVATE: u64 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flare::testdata;

    #[test]
    fn a_context_of_the_reference_comes_back_byte_for_byte() {
        testdata::comes_back::<FlContext>("fl_context");
    }

    #[test]
    fn properties_are_read_and_set() {
        let mut context = FlContext::try_from(testdata::object("fl_context")).unwrap();
        let private = Prop { value: "x".into(), sticky: true, private: true };
        assert_eq!(context.prop("priv"), Some(&private));
        assert_eq!(context.get("pub"), Some(&1.into()));
        context.insert("pub", Prop { value: 2.into(), sticky: false, private: false });
        assert_eq!(context.props().map(|(key, _)| key).collect::<Vec<_>>(), ["pub", "priv"]);
        assert_eq!(context.get("pub"), Some(&2.into()));
    }
}
