//! Between models, and the tasks and results they travel in. Source: `app_common/utils/fl_model_utils.py`.

use cellnet_core::fobs::Object;

use super::{
    DataKind, Dict, Dxo, FlModel, ModelError, ModelLearnable, ParamsType, Shareable, fl_model::Parts, header,
    meta,
};

impl FlModel {
    /// As a task or a result. Metrics beside parameters are taken for those of the model before training. Parameters of
    /// the optimizer do not travel this way.
    pub fn to_shareable(&self) -> Result<Shareable, ModelError> {
        let mut dxo = match (&self.params, &self.metrics) {
            (Some(params), metrics) => {
                let kind = match self.params_type {
                    Some(ParamsType::Diff) => DataKind::WeightDiff,
                    _ => DataKind::Weights,
                };
                let mut dxo = Dxo::new(&kind, params.clone());
                if let Some(metrics) = metrics {
                    dxo.meta.insert(meta::INITIAL_METRICS, metrics.clone());
                }
                dxo
            }
            (None, Some(metrics)) => Dxo::new(&DataKind::Metrics, metrics.clone()),
            (None, None) => return Err(ModelError::Empty),
        };
        dxo.meta.update(&self.meta);
        let mut shareable = Shareable::new();
        shareable.set_dxo(dxo);
        let rounds = [
            (header::START_ROUND, self.start_round),
            (header::CURRENT_ROUND, self.current_round),
            (header::NUM_ROUNDS, self.total_rounds),
        ];
        for (key, round) in rounds {
            if let Some(round) = round {
                shareable.set_header(key, round);
            }
        }
        if let Some(value) = self.meta.get(meta::VALIDATE_TYPE) {
            shareable.set_header(header::VALIDATE_TYPE, value.clone());
        }
        Ok(shareable)
    }

    /// From a task or a result. One that asks for a model has none; its [`meta`] says which is wanted.
    pub fn from_shareable(shareable: &Shareable) -> Result<Self, ModelError> {
        let (mut kind, mut params, mut metrics) = (Object::Nil, Object::Nil, Object::Nil);
        let mut known = Dict::default();
        match shareable.header(header::SUBMIT_MODEL_NAME).filter(|name| is_true(name)) {
            Some(name) => known.insert(meta::SUBMIT_MODEL_NAME, name.clone()),
            None => {
                let dxo = shareable.dxo()?;
                let params_type = match dxo.kind() {
                    DataKind::Metrics => None,
                    DataKind::WeightDiff => Some(ParamsType::Diff),
                    _ => Some(ParamsType::Full),
                };
                known = dxo.meta;
                kind = params_type.into();
                match params_type {
                    Some(_) => params = dxo.data,
                    None => metrics = dxo.data,
                }
                if let (Some(_), Some(initial)) = (params_type, known.get(meta::INITIAL_METRICS)) {
                    metrics = initial.clone();
                }
            }
        }
        let said = |key| shareable.header(key).cloned().unwrap_or(Object::Nil);
        for (key, name) in [
            (header::VALIDATE_TYPE, meta::VALIDATE_TYPE),
            (header::JOB_ID, meta::JOB_ID),
            (header::SITE_NAME, meta::SITE_NAME),
        ] {
            let value = said(key);
            if !value.is_nil() {
                known.insert(name, value);
            }
        }
        Parts {
            kind,
            params,
            optimizer_params: Object::Nil,
            metrics,
            start: said(header::START_ROUND),
            current: said(header::CURRENT_ROUND),
            total: said(header::NUM_ROUNDS),
            meta: known.into(),
        }
        .try_into()
    }

    /// As a DXO of the kind [`DataKind::FlModel`], with all but the first round.
    pub fn to_dxo(&self) -> Dxo {
        let attributes: [(&str, Object); 7] = [
            (PARAMS_TYPE, self.params_type.into()),
            (PARAMS, self.params.clone().into()),
            (METRICS, self.metrics.clone().into()),
            (OPTIMIZER_PARAMS, self.optimizer_params.clone().into()),
            (CURRENT_ROUND, self.current_round.into()),
            (TOTAL_ROUNDS, self.total_rounds.into()),
            (META, self.meta.clone().into()),
        ];
        let there = attributes.into_iter().filter(|(_, value)| !value.is_nil());
        Dxo::new(&DataKind::FlModel, Object::from_iter(there))
    }

    /// From a DXO of the kind [`DataKind::FlModel`].
    pub fn from_dxo(dxo: &Dxo) -> Result<Self, ModelError> {
        if dxo.kind() != DataKind::FlModel {
            return Err(ModelError::Kind(dxo.kind()));
        }
        let said = |key| dxo.data.get(key).cloned().unwrap_or(Object::Nil);
        Parts {
            kind: said(PARAMS_TYPE),
            params: said(PARAMS),
            optimizer_params: said(OPTIMIZER_PARAMS),
            metrics: said(METRICS),
            start: said(START_ROUND),
            current: said(CURRENT_ROUND),
            total: said(TOTAL_ROUNDS),
            meta: said(META),
        }
        .try_into()
    }

    /// What a server keeps of it.
    pub fn to_model_learnable(&self) -> ModelLearnable {
        ModelLearnable::new(self.params.clone(), self.meta.clone())
    }

    /// What a server sends of it.
    pub fn from_model_learnable(learnable: &ModelLearnable) -> Result<Self, ModelError> {
        let weights = learnable.weights().filter(|weights| !weights.is_nil()).ok_or(ModelError::NoParams)?;
        let mut model = Self::full(weights.clone());
        if let Some(meta) = learnable.meta().filter(|meta| !meta.is_nil()) {
            let malformed = |_| ModelError::Malformed("ModelLearnable");
            model.meta = meta.clone().try_into().map_err(malformed)?;
        }
        Ok(model)
    }
}

/// As Python sees it.
fn is_true(object: &Object) -> bool {
    !matches!(object, Object::Nil | Object::Bool(false) | Object::Int(0)) && object.as_str() != Some("")
}

const PARAMS_TYPE: &str = "params_type";
const PARAMS: &str = "params";
const OPTIMIZER_PARAMS: &str = "optimizer_params";
const METRICS: &str = "metrics";
const START_ROUND: &str = "start_round";
const CURRENT_ROUND: &str = "current_round";
const TOTAL_ROUNDS: &str = "total_rounds";
const META: &str = "meta";

#[cfg(test)]
mod tests {
    use cellnet_core::fobs::Array;

    use super::*;
    use crate::flare::testdata;

    fn params() -> Object {
        Object::from_iter([("w", Array::from(vec![1.0, 2.0]))])
    }

    #[test]
    fn a_task_of_the_reference_is_a_model() {
        let task = Shareable::try_from(testdata::object("shareable_task_dxo")).unwrap();
        let model = FlModel::from_shareable(&task).unwrap();
        assert_eq!((model.params_type, model.metrics.clone()), (Some(ParamsType::Full), None));
        assert_eq!((model.start_round, model.current_round, model.total_rounds), (None, Some(0), Some(2)));
        assert_eq!(model.meta.get("job_id"), Some(&"job-1".into()));
        assert_eq!(model.arrays()[0].1.shape(), [2, 3]);
    }

    #[test]
    fn results_come_back_as_models() {
        let mut model = FlModel::diff(params());
        model.set_meta(meta::NUM_STEPS_CURRENT_ROUND, 7);
        (model.current_round, model.total_rounds) = (Some(1), Some(3));
        let shareable = model.to_shareable().unwrap();
        assert_eq!(shareable.dxo().unwrap().kind(), DataKind::WeightDiff);
        assert_eq!(FlModel::from_shareable(&shareable).unwrap(), model);
    }

    /// Metrics beside parameters stay among what is to be known, as in the reference.
    #[test]
    fn metrics_beside_parameters_are_initial_metrics() {
        let mut model = FlModel::full(params());
        model.metrics = Some(Dict::from_iter([("accuracy", 0.5)]));
        let shareable = model.to_shareable().unwrap();
        assert_eq!(
            shareable.dxo().unwrap().meta.get(meta::INITIAL_METRICS),
            Some(&Object::from_iter([("accuracy", 0.5)]))
        );
        let came = FlModel::from_shareable(&shareable).unwrap();
        assert_eq!(came.metrics, model.metrics);
        assert_eq!(came.meta.len(), 1);
        let alone = FlModel::of_metrics(Dict::from_iter([("accuracy", 0.5)])).to_shareable().unwrap();
        assert_eq!(alone.dxo().unwrap().kind(), DataKind::Metrics);
        assert_eq!(FlModel::default().to_shareable(), Err(ModelError::Empty));
    }

    #[test]
    fn a_request_for_a_model_has_none() {
        let mut task = Shareable::new();
        assert_eq!(FlModel::from_shareable(&task), Err(ModelError::NoDxo));
        task.set_header(header::SUBMIT_MODEL_NAME, "best_model");
        task.set_header(header::VALIDATE_TYPE, "before_train_validate");
        let model = FlModel::from_shareable(&task).unwrap();
        assert_eq!((model.params, model.metrics), (None, None));
        assert_eq!(model.meta.get("submit_model_name"), Some(&"best_model".into()));
        assert_eq!(model.meta.get("validate_type"), Some(&"before_train_validate".into()));
    }

    #[test]
    fn whole_models_travel_as_dxos() {
        let mut model = FlModel::full(params());
        model.optimizer_params = Some(params());
        model.start_round = None;
        model.current_round = Some(2);
        assert_eq!(FlModel::from_dxo(&model.to_dxo()), Ok(model));
        let other = Dxo::new(&DataKind::Weights, params());
        assert_eq!(FlModel::from_dxo(&other), Err(ModelError::Kind(DataKind::Weights)));
    }

    #[test]
    fn a_server_keeps_weights_and_what_is_known_of_them() {
        let learnable = ModelLearnable::try_from(testdata::object("model_learnable")).unwrap();
        let model = FlModel::from_model_learnable(&learnable).unwrap();
        assert_eq!(model.to_model_learnable(), learnable);
        assert_eq!(FlModel::from_model_learnable(&ModelLearnable::default()), Err(ModelError::NoParams));
    }
}
