//! What has to be added to a model to get another.

use bytestring::ByteString;
use cellnet_core::fobs::{Array, DType, Element, Object};

use crate::flare::{FlModel, ParamsType};

/// Why there is no difference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DifferenceError {
    /// The models have no parameter in common.
    #[error("the models have no parameter in common")]
    NothingInCommon,
    /// The shape or the type has changed.
    #[error("'{name}' was {before} and is {now}")]
    Changed {
        /// The parameter.
        name: ByteString,
        /// What it was.
        before: String,
        /// What it is.
        now: String,
    },
    /// Such parameters are not numbers that can be subtracted here.
    #[error("'{name}' is {what}, which cannot be subtracted")]
    NoNumbers {
        /// The parameter.
        name: ByteString,
        /// What it is.
        what: String,
    },
}

/// Makes of a whole model what has to be added to the one that was received. Parameters that were not received are left
/// out. Models without parameters, and those that are differences already, stay as they are.
///
/// Source: `client/model_registry.py`, `client/utils.py`.
pub(super) fn from_received(mut model: FlModel, received: &FlModel) -> Result<FlModel, DifferenceError> {
    let (Some(new), Some(old)) = (&model.params, &received.params) else { return Ok(model) };
    if model.params_type == Some(ParamsType::Diff) {
        return Ok(model);
    }
    let mut changes = Vec::new();
    for (key, old) in old.pairs().unwrap_or_default() {
        let Some(name) = key.as_str() else { continue };
        if let Some(new) = new.get(name) {
            changes.push((key.clone(), subtract(name, new, old)?));
        }
    }
    if changes.is_empty() {
        return Err(DifferenceError::NothingInCommon);
    }
    (model.params, model.params_type) = (Some(Object::Map(changes)), Some(ParamsType::Diff));
    Ok(model)
}

fn subtract(name: &str, new: &Object, old: &Object) -> Result<Object, DifferenceError> {
    let changed = |before: String, now: String| DifferenceError::Changed { name: name.into(), before, now };
    match (new, old) {
        (Object::Array(new), Object::Array(old)) => {
            if (new.dtype(), new.shape()) != (old.dtype(), old.shape()) {
                return Err(changed(format!("{old:?}"), format!("{new:?}")));
            }
            let subtracted = subtract_arrays(new, old);
            let what = || DifferenceError::NoNumbers { name: name.into(), what: format!("{new:?}") };
            subtracted.map(Object::Array).ok_or_else(what)
        }
        (Object::List(new), Object::List(old)) if new.len() <= old.len() => {
            let pairs = new.iter().zip(old);
            Ok(Object::List(pairs.map(|(new, old)| subtract(name, new, old)).collect::<Result<_, _>>()?))
        }
        (Object::Int(new), Object::Int(old)) => Ok(Object::Int(new.wrapping_sub(*old))),
        (new, old) => match (new.as_f64(), old.as_f64()) {
            (Some(new), Some(old)) => Ok(Object::F64(new - old)),
            _ => Err(DifferenceError::NoNumbers { name: name.into(), what: kind(new).into() }),
        },
    }
}

/// Both have the same type and shape. As numpy does, integers wrap; truth values have no difference.
fn subtract_arrays(new: &Array, old: &Array) -> Option<Array> {
    match new.dtype() {
        DType::I8 => each(new, old, i8::wrapping_sub),
        DType::I16 => each(new, old, i16::wrapping_sub),
        DType::I32 => each(new, old, i32::wrapping_sub),
        DType::I64 => each(new, old, i64::wrapping_sub),
        DType::U8 => each(new, old, u8::wrapping_sub),
        DType::U16 => each(new, old, u16::wrapping_sub),
        DType::U32 => each(new, old, u32::wrapping_sub),
        DType::U64 => each(new, old, u64::wrapping_sub),
        DType::F32 => each(new, old, |new: f32, old| new - old),
        DType::F64 => each(new, old, |new: f64, old| new - old),
        _ => None,
    }
}

fn each<T: Element>(new: &Array, old: &Array, subtract: impl Fn(T, T) -> T) -> Option<Array> {
    let (new_elements, old_elements) = (new.to_vec::<T>().ok()?, old.to_vec::<T>().ok()?);
    let elements = new_elements.into_iter().zip(old_elements).map(|(new, old)| subtract(new, old));
    Array::with_shape(elements.collect(), new.shape()).ok()
}

fn kind(object: &Object) -> &'static str {
    match object {
        Object::Nil => "nothing",
        Object::Str(_) => "text",
        Object::Bin(_) => "bytes",
        Object::Map(_) | Object::OrderedDict(_) => "a dict",
        Object::List(_) => "a longer list",
        _ => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(params: impl IntoIterator<Item = (&'static str, Object)>) -> FlModel {
        FlModel::full(Object::from_iter(params))
    }

    fn array<T: Element>(elements: &[T]) -> Object {
        Object::Array(Array::from(elements.to_vec()))
    }

    fn difference(new: Object, old: Object) -> Result<Object, DifferenceError> {
        let difference = from_received(model([("p", new)]), &model([("p", old)]))?;
        assert_eq!(difference.params_type, Some(ParamsType::Diff));
        Ok(difference.params.unwrap().get("p").unwrap().clone())
    }

    #[test]
    fn numbers_are_subtracted_in_their_type() {
        let list = |items: [i64; 2]| Object::List(items.map(Object::Int).to_vec());
        for (new, old, expected) in [
            (array(&[1.5_f32, 2.0]), array(&[1.0_f32, 4.0]), array(&[0.5_f32, -2.0])),
            (array(&[1.5_f64]), array(&[1.0_f64]), array(&[0.5_f64])),
            (array(&[i64::MIN]), array(&[1_i64]), array(&[i64::MAX])),
            (array(&[1_u8]), array(&[2_u8]), array(&[255_u8])),
            (list([5, 7]), list([4, 9]), list([1, -2])),
            (2.5.into(), Object::Int(1), 1.5.into()),
        ] {
            assert_eq!(difference(new, old), Ok(expected));
        }
    }

    #[test]
    fn what_cannot_be_subtracted_is_named() {
        let shapes = difference(array(&[1.0_f64]), array(&[1.0_f64, 2.0]));
        assert!(matches!(shapes, Err(DifferenceError::Changed { .. })), "{shapes:?}");
        let types = difference(array(&[1.0_f64]), array(&[1_i64]));
        assert!(matches!(types, Err(DifferenceError::Changed { .. })), "{types:?}");
        let truth = difference(array(&[true]), array(&[false]));
        assert!(matches!(truth, Err(DifferenceError::NoNumbers { .. })), "{truth:?}");
        let text = difference("a".into(), "b".into());
        assert!(matches!(text, Err(DifferenceError::NoNumbers { .. })), "{text:?}");
        let other = from_received(model([("a", Object::Int(1))]), &model([("b", Object::Int(1))]));
        assert_eq!(other, Err(DifferenceError::NothingInCommon));
    }

    #[test]
    fn differences_and_metrics_stay_as_they_are() {
        let mut already = model([("p", Object::Int(3))]);
        already.params_type = Some(ParamsType::Diff);
        let received = model([("p", Object::Int(1))]);
        for model in [already, FlModel::default()] {
            assert_eq!(from_received(model.clone(), &received), Ok(model));
        }
    }
}
