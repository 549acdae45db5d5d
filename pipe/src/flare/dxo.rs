//! Data with a word on what it is.

use cellnet_core::fobs::{Object, Opaque};

use super::{DataKind, Dict, ModelError, dict::content};

/// Data, what kind it is, and what is to be known of it. Source: `apis/dxo.py`.
///
/// It is an object of its own, or, in a [`Shareable`](super::Shareable), a dict.
#[derive(Debug, Clone, PartialEq)]
pub struct Dxo {
    /// As it came: text is text again.
    kind: Object,
    /// The data: a dict, unless the application has defined it.
    pub data: Object,
    /// What is to be known of it; see [`meta`](super::meta) for names.
    pub meta: Dict,
    /// What else was in the dict.
    more: Dict,
}

impl Dxo {
    /// Data of a kind.
    pub fn new(kind: &DataKind, data: impl Into<Object>) -> Self {
        Self { kind: kind.into(), data: data.into(), meta: Dict::default(), more: Dict::default() }
    }

    /// What kind of data it is.
    pub fn kind(&self) -> DataKind {
        DataKind::of(&self.kind).expect("it was of a kind when it was made")
    }

    /// From the dict in a shareable.
    pub(super) fn from_dict(object: Object) -> Result<Self, ModelError> {
        let mut more = Dict::try_from(object).map_err(|_| ModelError::Malformed(TYPE))?;
        let kind = more.remove(KIND).unwrap_or(Object::Nil);
        let (data, meta) =
            (more.remove(DATA).unwrap_or(Object::Nil), more.remove(META).unwrap_or(Object::Nil));
        Ok(Self { more, ..Self::of(kind, data, meta)? })
    }

    /// The reverse of [`from_dict`](Self::from_dict).
    pub(super) fn into_dict(self) -> Dict {
        let mut dict = Dict::from_iter([(KIND, self.kind), (DATA, self.data), (META, self.meta.into())]);
        dict.update(&self.more);
        dict
    }

    fn of(kind: Object, data: Object, meta: Object) -> Result<Self, ModelError> {
        let known = DataKind::of(&kind).ok_or(ModelError::Malformed(TYPE))?;
        let empty = || Object::Map(Vec::new());
        let (data, meta) =
            (if data.is_nil() { empty() } else { data }, if meta.is_nil() { empty() } else { meta });
        // Types of the application may be dicts as well.
        let is_dict = data.pairs().is_some() || data.as_opaque().is_some();
        if !is_dict && known != DataKind::AppDefined {
            return Err(ModelError::Malformed(TYPE));
        }
        let meta = Dict::try_from(meta).map_err(|_| ModelError::Malformed(TYPE))?;
        Ok(Self { kind, data, meta, more: Dict::default() })
    }
}

impl TryFrom<Object> for Dxo {
    type Error = ModelError;

    fn try_from(object: Object) -> Result<Self, ModelError> {
        let Object::Tuple(items) = content(object, TYPE)? else { return Err(ModelError::Malformed(TYPE)) };
        let [kind, meta, data] = items.try_into().map_err(|_| ModelError::Malformed(TYPE))?;
        Self::of(kind, data, meta)
    }
}

impl From<Dxo> for Object {
    fn from(dxo: Dxo) -> Self {
        Opaque::new(TYPE, Self::Tuple(vec![dxo.kind, dxo.meta.into(), dxo.data]), DECOMPOSER).into()
    }
}

const TYPE: &str = "nvflare.apis.dxo.DXO";
const DECOMPOSER: &str = "nvflare.apis.utils.decomposers.flare_decomposers.DXODecomposer";
const KIND: &str = "kind";
const DATA: &str = "data";
const META: &str = "meta";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flare::testdata;

    #[test]
    fn dxos_of_the_reference_come_back_byte_for_byte() {
        for name in ["dxo_weights", "dxo_app_defined", "dxo_str_kind"] {
            testdata::comes_back::<Dxo>(name);
        }
    }

    #[test]
    fn kind_data_and_meta_are_read() {
        let dxo = Dxo::try_from(testdata::object("dxo_weights")).unwrap();
        assert_eq!((dxo.kind(), dxo.meta.get("m")), (DataKind::Weights, Some(&1.into())));
        assert_eq!(
            dxo.data.get("w").and_then(Object::as_array).unwrap().to_vec::<f32>().unwrap(),
            [1.0, 2.0]
        );
        assert_eq!(Dxo::try_from(testdata::object("dxo_str_kind")).unwrap().kind(), DataKind::Weights);
    }

    #[test]
    fn unknown_keys_of_the_dict_stay() {
        let dict = Object::from_iter([
            ("kind", Object::text("NEW")),
            ("data", Object::Map(vec![])),
            ("meta", Object::Map(vec![])),
            ("x", Object::Int(1)),
        ]);
        let dxo = Dxo::from_dict(dict.clone()).unwrap();
        assert_eq!(dxo.kind(), DataKind::Other("NEW".into()));
        assert_eq!(Object::from(dxo.into_dict()), dict);
    }

    #[test]
    fn what_fits_no_kind_is_refused() {
        let of = |kind: Object, data: Object| Dxo::of(kind, data, Object::Nil);
        assert!(of("WEIGHTS".into(), 1.into()).is_err());
        assert!(of("APP_DEFINED".into(), 1.into()).is_ok());
        assert!(of(1.into(), Object::Nil).is_err());
        assert!(Dxo::of("WEIGHTS".into(), Object::Nil, 1.into()).is_err());
    }
}
