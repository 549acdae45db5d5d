//! Logistic regression by gradient descent.

use std::error::Error;

use cellnet::fobs::{Array, Object};

use crate::machines::{Row, SENSORS};

/// A model: how much each sensor weighs, and where the line is. It begins without an opinion.
#[derive(Debug, Clone, Default)]
pub(crate) struct Regression {
    weights: [f64; SENSORS],
    bias: f64,
}

/// How good a model is.
pub(crate) struct Score {
    pub(crate) loss: f64,
    /// Share of the rows that it gets right.
    pub(crate) accuracy: f64,
}

impl Regression {
    /// Reads it from arrays of these names.
    pub(crate) fn from_params(params: &Object) -> Result<Self, Box<dyn Error>> {
        let array = |name: &str| {
            let found = params.get(name).and_then(Object::as_array);
            found.ok_or_else(|| format!("the model has no array '{name}'"))
        };
        let weights = array("weights")?.to_vec()?;
        let bias: Vec<f64> = array("bias")?.to_vec()?;
        match (<[f64; SENSORS]>::try_from(weights), &bias[..]) {
            (Ok(weights), [bias]) => Ok(Self { weights, bias: *bias }),
            _ => Err(format!("the model wants {SENSORS} weights and a bias").into()),
        }
    }

    pub(crate) fn to_params(&self) -> Object {
        let weights = Array::from(self.weights.to_vec());
        Object::from_iter([("weights", weights), ("bias", Array::from(vec![self.bias]))])
    }

    /// Some steps down the slope, so few that there is something left for the next round.
    pub(crate) fn train(&mut self, rows: &[Row]) {
        for _ in 0..STEPS {
            let (mut weights, mut bias) = ([0.0; SENSORS], 0.0);
            for (marks, failed) in rows {
                let error = self.chance(marks) - f64::from(u8::from(*failed));
                weights.iter_mut().zip(marks).for_each(|(sum, mark)| *sum += error * mark);
                bias += error;
            }
            let pace = PACE / rows.len() as f64;
            self.weights.iter_mut().zip(weights).for_each(|(weight, slope)| *weight -= pace * slope);
            self.bias -= pace * bias;
        }
    }

    pub(crate) fn score(&self, rows: &[Row]) -> Score {
        let (mut loss, mut right) = (0.0, 0);
        for (marks, failed) in rows {
            let chance = self.chance(marks);
            let of_truth = if *failed { chance } else { 1.0 - chance };
            loss -= of_truth.max(f64::MIN_POSITIVE).ln();
            right += usize::from((chance > 0.5) == *failed);
        }
        let count = rows.len() as f64;
        Score { loss: loss / count, accuracy: right as f64 / count }
    }

    /// The chance of a failure.
    fn chance(&self, marks: &[f64; SENSORS]) -> f64 {
        let pull: f64 = self.weights.iter().zip(marks).map(|(weight, mark)| weight * mark).sum();
        1.0 / (1.0 + (-pull - self.bias).exp())
    }
}

const STEPS: usize = 10;
const PACE: f64 = 0.1;
