//! Objects of types that are not known here.

use bytestring::ByteString;

use super::Object;

/// An object of a type that is not known here, kept as the map it came as, so that it encodes to the same bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Opaque {
    /// Has [`TYPE`] with text and [`DATA`].
    fields: Vec<(Object, Object)>,
}

pub(super) const TYPE: &str = "__fobs_type__";
pub(super) const DATA: &str = "__fobs_data__";
pub(super) const DECOMPOSER: &str = "__fobs_dc__";

impl Opaque {
    /// An object as the reference writes it: the type's module and name, what the decomposer made of it, and the
    /// decomposer's class.
    pub fn new(
        type_name: impl Into<ByteString>,
        data: impl Into<Object>,
        decomposer: impl Into<ByteString>,
    ) -> Self {
        let fields = vec![
            (Object::text(TYPE), Object::Str(type_name.into())),
            (Object::text(DATA), data.into()),
            (Object::text(DECOMPOSER), Object::Str(decomposer.into())),
        ];
        Self { fields }
    }

    /// `None` if the map has no type in text or no data.
    pub(super) fn from_fields(fields: Vec<(Object, Object)>) -> Option<Self> {
        let opaque = Self { fields };
        let whole = opaque.field(TYPE)?.as_str().is_some() && opaque.field(DATA).is_some();
        whole.then_some(opaque)
    }

    /// Module and name of the type, for example `nvflare.apis.shareable.Shareable`.
    pub fn type_name(&self) -> &str {
        self.field(TYPE).and_then(Object::as_str).expect("an object has a type in text")
    }

    /// What the decomposer made of the object.
    pub fn data(&self) -> &Object {
        self.field(DATA).expect("an object has data")
    }

    /// What the decomposer made of the object, to change it.
    pub fn data_mut(&mut self) -> &mut Object {
        let field = self.fields.iter_mut().rev().find(|(key, _)| key.as_str() == Some(DATA));
        &mut field.expect("an object has data").1
    }

    /// The decomposer's class. Never used to make anything.
    pub fn decomposer(&self) -> Option<&str> {
        self.field(DECOMPOSER)?.as_str()
    }

    /// All keys and values as they came.
    pub fn fields(&self) -> &[(Object, Object)] {
        &self.fields
    }

    fn field(&self, name: &str) -> Option<&Object> {
        self.fields.iter().rev().find(|(key, _)| key.as_str() == Some(name)).map(|(_, value)| value)
    }
}
