//! What a server learns.

use cellnet_core::fobs::Object;

use super::{DataKind, Dict, Dxo, ModelError, dict::typed};

/// Whatever is learnt, as a dict. Source: `app_common/abstract/learnable.py`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Learnable(pub Dict);

/// A model that is learnt: weights, and what is to be known of them. Source: `app_common/abstract/model.py`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ModelLearnable(pub Dict);

impl ModelLearnable {
    /// A model.
    pub fn new(weights: impl Into<Object>, meta: Dict) -> Self {
        Self(Dict::from_iter([(WEIGHTS, weights.into()), (META, meta.into())]))
    }

    /// The weights.
    pub fn weights(&self) -> Option<&Object> {
        self.0.get(WEIGHTS)
    }

    /// What is to be known of them.
    pub fn meta(&self) -> Option<&Object> {
        self.0.get(META)
    }

    /// As data to send to sites.
    pub fn to_dxo(&self) -> Result<Dxo, ModelError> {
        let malformed = || ModelError::Malformed(MODEL_TYPE);
        let mut dxo = Dxo::new(&DataKind::Weights, self.weights().ok_or_else(malformed)?.clone());
        dxo.meta = self.meta().ok_or_else(malformed)?.clone().try_into().map_err(|_| malformed())?;
        Ok(dxo)
    }
}

typed!(Learnable, TYPE);
typed!(ModelLearnable, MODEL_TYPE);

const TYPE: &str = "nvflare.app_common.abstract.learnable.Learnable";
const MODEL_TYPE: &str = "nvflare.app_common.abstract.model.ModelLearnable";
const WEIGHTS: &str = "weights";
const META: &str = "meta";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flare::testdata;

    #[test]
    fn learnables_of_the_reference_come_back_byte_for_byte() {
        testdata::comes_back::<Learnable>("learnable");
        testdata::comes_back::<ModelLearnable>("model_learnable");
    }

    #[test]
    fn a_model_becomes_weights_to_send() {
        let model = ModelLearnable::try_from(testdata::object("model_learnable")).unwrap();
        let dxo = model.to_dxo().unwrap();
        assert_eq!((dxo.kind(), &dxo.data), (DataKind::Weights, model.weights().unwrap()));
        assert_eq!(dxo.meta, Dict::from_iter([("i", 1)]));
        assert!(ModelLearnable::default().to_dxo().is_err());
    }
}
