//! Enums of FLARE.

use std::fmt::{self, Display};

use bytestring::ByteString;
use cellnet_core::fobs::Object;

/// What a [`Dxo`](super::Dxo) holds. Source: `apis/dxo.py`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DataKind {
    /// A whole [`FlModel`](super::FlModel), as [`FlModel::to_dxo`](super::FlModel::to_dxo) makes it.
    FlModel,
    /// The weights of a model.
    Weights,
    /// What is to be added to the weights of a model.
    WeightDiff,
    /// Metrics.
    Metrics,
    /// Something for the server to write down.
    Analytic,
    /// More of these.
    Collection,
    /// Statistics of data.
    Statistics,
    /// An intersection of sets.
    Psi,
    /// What the application says it is.
    AppDefined,
    /// A kind that is not known here.
    Other(ByteString),
}

/// What the parameters of a [`FlModel`](super::FlModel) are. Source: `app_common/abstract/fl_model.py`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ParamsType {
    /// All of them.
    Full,
    /// What is to be added to the ones before.
    Diff,
}

impl DataKind {
    /// Its name, which is its value as well: `WEIGHTS`.
    pub fn name(&self) -> &str {
        match self {
            Self::Other(name) => name,
            known => KINDS.iter().find(|(kind, _)| kind == known).map_or("", |(_, name)| name),
        }
    }

    /// A member of the enum, or its value as text, which FLARE takes as well.
    pub fn of(object: &Object) -> Option<Self> {
        named(object, DATA_KIND).map(Self::from)
    }
}

impl From<&str> for DataKind {
    fn from(name: &str) -> Self {
        let known = KINDS.iter().find(|(_, known)| *known == name);
        known.map_or_else(|| Self::Other(name.into()), |(kind, _)| kind.clone())
    }
}

/// A member of the enum, or text if the enum has none.
impl From<&DataKind> for Object {
    fn from(kind: &DataKind) -> Self {
        match kind {
            DataKind::Other(name) => Self::Str(name.clone()),
            known => Self::enum_member(ByteString::from_static(DATA_KIND), known.name()),
        }
    }
}

impl Display for DataKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ParamsType {
    /// Its name, which is its value as well: `FULL`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Diff => "DIFF",
        }
    }

    /// A member of the enum, or its value as text, which FLARE takes as well.
    pub fn of(object: &Object) -> Option<Self> {
        [Self::Full, Self::Diff].into_iter().find(|known| named(object, PARAMS_TYPE) == Some(known.name()))
    }
}

impl From<ParamsType> for Object {
    fn from(kind: ParamsType) -> Self {
        Self::enum_member(ByteString::from_static(PARAMS_TYPE), ByteString::from_static(kind.name()))
    }
}

fn named<'a>(object: &'a Object, type_name: &str) -> Option<&'a str> {
    match object {
        Object::Str(text) => Some(text),
        Object::Enum(value) if value.type_name == type_name => Some(&value.member),
        _ => None,
    }
}

const DATA_KIND: &str = "nvflare.apis.dxo.DataKind";
const PARAMS_TYPE: &str = "nvflare.app_common.abstract.fl_model.ParamsType";

const KINDS: [(DataKind, &str); 9] = [
    (DataKind::FlModel, "FL_MODEL"),
    (DataKind::Weights, "WEIGHTS"),
    (DataKind::WeightDiff, "WEIGHT_DIFF"),
    (DataKind::Metrics, "METRICS"),
    (DataKind::Analytic, "ANALYTIC"),
    (DataKind::Collection, "COLLECTION"),
    (DataKind::Statistics, "STATISTICS"),
    (DataKind::Psi, "PSI"),
    (DataKind::AppDefined, "APP_DEFINED"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_members_or_text() {
        for (kind, name) in KINDS {
            assert_eq!(DataKind::of(&Object::from(&kind)), Some(kind.clone()));
            assert_eq!(DataKind::of(&name.into()), Some(kind));
        }
        let other = DataKind::Other("NEW".into());
        assert_eq!(DataKind::of(&Object::from(&other)), Some(other));
        assert_eq!(DataKind::of(&Object::enum_member("a.B", "WEIGHTS")), None);
        assert_eq!(ParamsType::of(&ParamsType::Diff.into()), Some(ParamsType::Diff));
        assert_eq!(ParamsType::of(&"FULL".into()), Some(ParamsType::Full));
        assert_eq!(ParamsType::of(&"HALF".into()), None);
    }
}
