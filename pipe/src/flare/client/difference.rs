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
