//! Stand-ins.

use bytestring::ByteString;
use cellnet_core::{
    fobs::{self, Document, Object, Opaque},
    message::Payload,
};

/// A.
#[derive(Debug, Clone, PartialEq)]
pub struct Shareable(Vec<(Object, Object)>);

/// B.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// B.
    #[error("no shareable")]
    NoShareable,
    /// B.
    #[error("no DXO")]
    NoDxo,
    /// B.
    #[error("neither parameters nor metrics")]
    Empty,
}

impl Shareable {
    /// C.
    pub fn failure(rc: &str, why: &str) -> Self {
        let headers = Object::from_iter([
            ("__rc__", Object::Str(rc.into())),
            ("__error__", Object::Str(why.into())),
        ]);
        Self(vec![(Object::text("__headers__"), headers)])
    }
    /// C.
    pub fn header(&self, key: &str) -> Option<&Object> {
        self.get("__headers__")?.get(key)
    }
    /// C.
    pub fn get(&self, key: &str) -> Option<&Object> {
        self.0.iter().find(|(k, _)| k.as_str() == Some(key)).map(|(_, v)| v)
    }
    /// C.
    pub fn return_code(&self) -> Option<&str> {
        self.header("__rc__")?.as_str()
    }
    /// C.
    pub fn into_object(self) -> Object {
        Object::Opaque(Opaque::new(
            "nvflare.apis.shareable.Shareable",
            Object::Map(self.0),
            "nvflare.fuel.utils.fobs.decomposer.DictDecomposer",
        ))
    }
    /// C.
    pub fn payload(self) -> Payload {
        Payload::Fobs(fobs::encode(&Document::new(self.into_object())))
    }
}

impl TryFrom<Object> for Shareable {
    type Error = ModelError;
    fn try_from(object: Object) -> Result<Self, ModelError> {
        let Object::Opaque(opaque) = object else { return Err(ModelError::NoShareable) };
        if opaque.type_name() != "nvflare.apis.shareable.Shareable" {
            return Err(ModelError::NoShareable);
        }
        opaque.data().pairs().map(|pairs| Self(pairs.to_vec())).ok_or(ModelError::NoShareable)
    }
}

/// D.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParamsType {
    /// D.
    Full,
    /// D.
    Diff,
}

/// E.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FlModel {
    /// E.
    pub params_type: Option<ParamsType>,
    /// E.
    pub params: Option<Object>,
    /// E.
    pub metrics: Option<Object>,
    /// E.
    pub current_round: Option<i64>,
    /// E.
    pub total_rounds: Option<i64>,
    /// E.
    pub meta: Vec<(Object, Object)>,
}

impl FlModel {
    /// F.
    pub fn full(params: Object) -> Self {
        Self { params_type: Some(ParamsType::Full), params: Some(params), ..Self::default() }
    }
    /// F.
    pub fn of_metrics(metrics: Object) -> Self {
        Self { metrics: Some(metrics), ..Self::default() }
    }
    /// F.
    pub fn set_meta(&mut self, key: impl Into<ByteString>, value: impl Into<Object>) {
        self.meta.push((Object::Str(key.into()), value.into()));
    }
    /// F.
    pub fn to_shareable(&self) -> Result<Shareable, ModelError> {
        let kind = match (&self.params, self.params_type) {
            (Some(_), Some(ParamsType::Diff)) => "WEIGHT_DIFF",
            (Some(_), _) => "WEIGHTS",
            (None, _) => "METRICS",
        };
        let mut meta = Vec::new();
        if let (Some(_), Some(metrics)) = (&self.params, &self.metrics) {
            meta.push((Object::text("initial_metrics"), metrics.clone()));
        }
        meta.extend(self.meta.iter().cloned());
        let data = self.params.clone().or_else(|| self.metrics.clone()).ok_or(ModelError::Empty)?;
        let mut headers = vec![(Object::text("__content_type__"), Object::text("DXO"))];
        for (key, value) in [("current_round", self.current_round), ("num_rounds", self.total_rounds)] {
            if let Some(value) = value {
                headers.push((Object::text(key), Object::Int(value)));
            }
        }
        headers.push((Object::text("__rc__"), Object::text("OK")));
        let dxo = vec![
            (Object::text("kind"), Object::enum_member("nvflare.apis.dxo.DataKind", kind)),
            (Object::text("data"), data),
            (Object::text("meta"), Object::Map(meta)),
        ];
        Ok(Shareable(vec![
            (Object::text("__headers__"), Object::Map(headers)),
            (Object::text("DXO"), Object::Map(dxo)),
        ]))
    }
    /// F.
    pub fn from_shareable(shareable: &Shareable) -> Result<Self, ModelError> {
        let dxo = shareable.get("DXO").ok_or(ModelError::NoDxo)?;
        let data = dxo.get("data").cloned().ok_or(ModelError::NoDxo)?;
        let kind = match dxo.get("kind") {
            Some(Object::Enum(member)) => member.member.to_string(),
            _ => String::new(),
        };
        let mut model = match &*kind {
            "METRICS" => Self::of_metrics(data),
            _ => Self::full(data),
        };
        if kind == "WEIGHT_DIFF" {
            model.params_type = Some(ParamsType::Diff);
        }
        model.meta = dxo.get("meta").and_then(Object::pairs).unwrap_or_default().to_vec();
        let number = |key| shareable.header(key).and_then(Object::as_i64);
        (model.current_round, model.total_rounds) = (number("current_round"), number("num_rounds"));
        Ok(model)
    }
}
