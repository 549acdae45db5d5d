//! A model on its way between server and trainer.

use cellnet_core::fobs::{Array, Object, Opaque};

use super::{Dict, ModelError, ParamsType, dict::content};

/// Parameters, metrics, and which round it is. Source: `app_common/abstract/fl_model.py`.
#[derive(Debug, Clone, PartialEq)]
pub struct FlModel {
    /// What the parameters are; those without a type count as whole.
    pub params_type: Option<ParamsType>,
    /// The parameters: mostly a dict with an array for each name.
    pub params: Option<Object>,
    /// Parameters of the optimizer.
    pub optimizer_params: Option<Object>,
    /// Metrics, of the parameters or of what they were before.
    pub metrics: Option<Dict>,
    /// The first round.
    pub start_round: Option<u64>,
    /// This round.
    pub current_round: Option<u64>,
    /// How many rounds there are.
    pub total_rounds: Option<u64>,
    /// What else is to be known; see [`meta`](super::meta) for names.
    pub meta: Dict,
}

impl FlModel {
    /// A whole model.
    pub fn full(params: Object) -> Self {
        Self { params_type: Some(ParamsType::Full), params: Some(params), ..Self::default() }
    }

    /// What is to be added to a model.
    pub fn diff(params: Object) -> Self {
        Self { params_type: Some(ParamsType::Diff), params: Some(params), ..Self::default() }
    }

    /// The outcome of an evaluation.
    pub fn of_metrics(metrics: Dict) -> Self {
        Self { metrics: Some(metrics), ..Self::default() }
    }

    /// Adds to what is to be known of it.
    pub fn set_meta(&mut self, key: &str, value: impl Into<Object>) {
        self.meta.insert(key, value);
    }

    /// The arrays among the parameters that are here, with their names; those of dicts in dicts, and of lists, have all
    /// keys and numbers in them: `layer.0.w`.
    pub fn arrays(&self) -> Vec<(String, &Array)> {
        let mut arrays = Vec::new();
        if let Some(params) = &self.params {
            collect(String::new(), params, &mut arrays);
        }
        arrays
    }
}

/// Nothing, in round 0 of we do not know how many, as in the reference.
impl Default for FlModel {
    fn default() -> Self {
        Self {
            params_type: None,
            params: None,
            optimizer_params: None,
            metrics: None,
            start_round: Some(0),
            current_round: None,
            total_rounds: None,
            meta: Dict::default(),
        }
    }
}

impl TryFrom<Object> for FlModel {
    type Error = ModelError;

    fn try_from(object: Object) -> Result<Self, ModelError> {
        let Object::Tuple(items) = content(object, TYPE)? else { return Err(MALFORMED) };
        let [kind, params, optimizer_params, metrics, start, current, total, meta] =
            items.try_into().map_err(|_| MALFORMED)?;
        Parts { kind, params, optimizer_params, metrics, start, current, total, meta }.try_into()
    }
}

impl From<FlModel> for Object {
    fn from(model: FlModel) -> Self {
        let items = vec![
            model.params_type.into(),
            model.params.into(),
            model.optimizer_params.into(),
            model.metrics.into(),
            model.start_round.into(),
            model.current_round.into(),
            model.total_rounds.into(),
            model.meta.into(),
        ];
        Opaque::new(TYPE, Self::Tuple(items), DECOMPOSER).into()
    }
}

/// A model as objects, [`Object::Nil`] where there is nothing.
pub(super) struct Parts {
    pub(super) kind: Object,
    pub(super) params: Object,
    pub(super) optimizer_params: Object,
    pub(super) metrics: Object,
    pub(super) start: Object,
    pub(super) current: Object,
    pub(super) total: Object,
    pub(super) meta: Object,
}

/// With the rules of the reference's constructor.
impl TryFrom<Parts> for FlModel {
    type Error = ModelError;

    fn try_from(parts: Parts) -> Result<Self, ModelError> {
        let params = Some(parts.params).filter(|params| !params.is_nil());
        let params_type = match parts.kind {
            Object::Nil => params.as_ref().map(|_| ParamsType::Full),
            kind => Some(ParamsType::of(&kind).ok_or(MALFORMED)?),
        };
        if params_type.is_some() && params.is_none() {
            return Err(ModelError::NoParams);
        }
        Ok(Self {
            params_type,
            params,
            optimizer_params: Some(parts.optimizer_params).filter(|params| !params.is_nil()),
            metrics: dict(parts.metrics)?,
            start_round: round(&parts.start)?,
            current_round: round(&parts.current)?,
            total_rounds: round(&parts.total)?,
            meta: dict(parts.meta)?.unwrap_or_default(),
        })
    }
}

fn dict(object: Object) -> Result<Option<Dict>, ModelError> {
    if object.is_nil() { Ok(None) } else { object.try_into().map(Some).map_err(|_| MALFORMED) }
}

fn round(object: &Object) -> Result<Option<u64>, ModelError> {
    if object.is_nil() { Ok(None) } else { object.as_u64().map(Some).ok_or(MALFORMED) }
}

fn collect<'a>(name: String, object: &'a Object, arrays: &mut Vec<(String, &'a Array)>) {
    let join = |part: &str| if name.is_empty() { part.to_owned() } else { format!("{name}.{part}") };
    if let Some(array) = object.as_array() {
        arrays.push((name, array));
    } else if let Some(pairs) = object.pairs() {
        for (key, value) in pairs {
            match (key.as_str(), key.as_i64()) {
                (Some(key), _) => collect(join(key), value, arrays),
                (None, Some(key)) => collect(join(&key.to_string()), value, arrays),
                _ => {}
            }
        }
    } else if let Some(items) = object.items() {
        for (at, item) in items.iter().enumerate() {
            collect(join(&at.to_string()), item, arrays);
        }
    }
}

const TYPE: &str = "nvflare.app_common.abstract.fl_model.FLModel";
const DECOMPOSER: &str = "nvflare.app_common.decomposers.common_decomposers.FLModelDecomposer";
const MALFORMED: ModelError = ModelError::Malformed(TYPE);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flare::testdata;

    #[test]
    fn a_model_of_the_reference_comes_back_byte_for_byte() {
        testdata::comes_back::<FlModel>("fl_model");
    }

    #[test]
    fn a_model_is_read() {
        let model = FlModel::try_from(testdata::object("fl_model")).unwrap();
        assert_eq!(model.params_type, Some(ParamsType::Full));
        assert_eq!(model.arrays()[0].1.to_vec::<f32>().unwrap(), [1.0]);
        assert_eq!(model.metrics, Some(Dict::from_iter([("acc", 0.5)])));
        assert_eq!((model.start_round, model.current_round, model.total_rounds), (Some(0), Some(1), Some(2)));
        assert_eq!((model.meta.get("k"), model.optimizer_params), (Some(&"v".into()), None));
    }

    #[test]
    fn arrays_in_dicts_and_lists_have_long_names() {
        let array = |x: i32| Object::from(Array::scalar(x));
        let inner = Object::OrderedDict(vec![("w".into(), array(1)), (7.into(), array(2))]);
        let params = Object::from_iter([("a", inner), ("b", Object::List(vec![Object::Nil, array(3)]))]);
        let model = FlModel::diff(params);
        let names: Vec<_> = model.arrays().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a.w", "a.7", "b.1"]);
    }

    #[test]
    fn what_the_reference_would_not_make_is_refused() {
        let parts = |kind: Object, params: Object, metrics: Object, round: Object| {
            let (optimizer_params, start) = (Object::Nil, Object::Nil);
            let (total, meta) = (Object::Nil, Object::Nil);
            FlModel::try_from(Parts {
                kind,
                params,
                optimizer_params,
                metrics,
                start,
                current: round,
                total,
                meta,
            })
        };
        let nil = || Object::Nil;
        assert_eq!(parts("FULL".into(), nil(), nil(), nil()), Err(ModelError::NoParams));
        assert_eq!(parts("HALF".into(), 1.into(), nil(), nil()), Err(MALFORMED));
        assert_eq!(parts(nil(), nil(), 1.into(), nil()), Err(MALFORMED));
        assert_eq!(parts(nil(), nil(), nil(), (-1).into()), Err(MALFORMED));
        assert_eq!(parts(nil(), 1.into(), nil(), 0.into()).unwrap().params_type, Some(ParamsType::Full));
    }
}
