//! Between objects and plain MessagePack values.

use std::mem;

use bytes::Bytes;
use bytestring::ByteString;
use uuid::Uuid;

use super::{
    ArrayKind, ArrayRef, DatumRef, EnumMember, FobsError, Object, Opaque, Scalar, npy,
    opaque::{DATA, DECOMPOSER, TYPE},
    safetensors,
};
use crate::wire::Value;

impl TryFrom<Value> for Object {
    type Error = FobsError;

    /// Recognises objects, from the inside out. The depth is that of the value, which its decoder bounds.
    fn try_from(value: Value) -> Result<Self, FobsError> {
        Ok(match value {
            Value::Nil => Self::Nil,
            Value::Bool(value) => Self::Bool(value),
            Value::Int(value) => Self::Int(value),
            Value::Uint(value) => Self::Uint(value),
            Value::F32(value) => Self::F64(value.into()),
            Value::F64(value) => Self::F64(value),
            Value::Str(text) => Self::Str(text),
            Value::Bin(bytes) => Self::Bin(bytes),
            Value::Ext(kind, bytes) => Self::Ext(kind, bytes),
            Value::Array(items) => {
                Self::List(items.into_iter().map(Self::try_from).collect::<Result<_, _>>()?)
            }
            Value::Map(pairs) => {
                let pairs = pairs
                    .into_iter()
                    .map(|(key, value)| Ok((Self::try_from(key)?, Self::try_from(value)?)))
                    .collect::<Result<Vec<_>, FobsError>>()?;
                let is_object = pairs.iter().any(|(key, _)| key.as_str() == Some(TYPE));
                if is_object { recompose(pairs)? } else { Self::Map(pairs) }
            }
        })
    }
}

impl From<&Object> for Value {
    fn from(object: &Object) -> Self {
        match object {
            Object::Nil => Self::Nil,
            Object::Bool(value) => Self::Bool(*value),
            Object::Int(value) => Self::Int(*value),
            Object::Uint(value) => Self::Uint(*value),
            Object::F64(value) => Self::F64(*value),
            Object::Str(text) => Self::Str(text.clone()),
            Object::Bin(bytes) => Self::Bin(bytes.clone()),
            Object::List(items) => array(items),
            Object::Map(pairs) => map(pairs),
            Object::Tuple(items) => decomposed(TUPLE, array(items), TUPLE_DC),
            Object::Set(items) => decomposed(SET, array(items), SET_DC),
            Object::OrderedDict(pairs) => {
                let pair = |(key, value)| decomposed(TUPLE, Self::Array(vec![key, value]), TUPLE_DC);
                let pairs = pairs.iter().map(|(key, value)| pair((key.into(), value.into()))).collect();
                decomposed(ORDERED_DICT, Self::Array(pairs), ORDERED_DICT_DC)
            }
            Object::DateTime(text) => decomposed(DATETIME, Self::Str(text.clone()), DATETIME_DC),
            Object::Enum(value) => fields(value.type_name.clone(), Self::Str(value.member.clone()), ENUM_DC),
            Object::DatumRef(datum) => datum_ref(*datum),
            Object::Datum(datum) => datum_ref(DatumRef { id: datum.id(), unwrap: false }),
            Object::Array(array) => native(NDARRAY, npy::encode(array), NDARRAY_DC),
            Object::Tensor(tensor) => {
                native(TENSOR, safetensors::encode(safetensors::NATIVE, tensor), TENSOR_DC)
            }
            Object::ArrayRef(reference) => array_ref(reference),
            Object::Scalar(scalar) => {
                let (type_name, decomposer) = scalar.names();
                decomposed(type_name, Self::from(&scalar.plain()), decomposer)
            }
            Object::Opaque(opaque) => map(opaque.fields()),
            Object::Ext(kind, bytes) => Self::Ext(*kind, bytes.clone()),
        }
    }
}

/// Makes an object from its map. Of the types known here the decomposer and further keys do not matter, as in the
/// reference.
fn recompose(mut pairs: Vec<(Object, Object)>) -> Result<Object, FobsError> {
    let find = |name| pairs.iter().rposition(|(key, _)| key.as_str() == Some(name));
    let (Some(type_at), data_at) = (find(TYPE), find(DATA)) else { return Err(FobsError::TypeName) };
    let Object::Str(type_name) = pairs[type_at].1.clone() else { return Err(FobsError::TypeName) };
    let Some(data_at) = data_at else { return Err(FobsError::NoData(type_name)) };
    let mut data = || mem::replace(&mut pairs[data_at].1, Object::Nil);
    match &*type_name {
        TUPLE => items(data(), TUPLE).map(Object::Tuple),
        SET => items(data(), SET).map(Object::Set),
        ORDERED_DICT => {
            let pairs = items(data(), ORDERED_DICT)?.into_iter().map(pair).collect::<Option<_>>();
            let expected = "a list of pairs";
            pairs.map(Object::OrderedDict).ok_or(FobsError::Data { type_name: ORDERED_DICT, expected })
        }
        DATETIME => match data() {
            Object::Str(text) => Ok(Object::DateTime(text)),
            _ => Err(FobsError::Data { type_name: DATETIME, expected: "text" }),
        },
        DATUM_REF => parse_datum_ref(&data())
            .map(Object::DatumRef)
            .ok_or(FobsError::Data { type_name: DATUM_REF, expected: "a datum_id and unwrap" }),
        _ => Ok(match enum_member(&pairs) {
            Some(member) => Object::Enum(Box::new(member)),
            None => {
                let opaque = Opaque::from_fields(pairs).expect("type and data were seen");
                recognise(&opaque).unwrap_or(Object::Opaque(opaque))
            }
        }),
    }
}

/// What is known of numpy and torch. What is broken, or whose bytes are in a section of their own, stays opaque.
pub(super) fn recognise(opaque: &Opaque) -> Option<Object> {
    let (type_name, data) = (opaque.type_name(), opaque.data());
    let kind = match type_name {
        NDARRAY => ArrayKind::Numpy,
        TENSOR => ArrayKind::Torch,
        LAZY_REF => ArrayKind::from_dot(data.get(LAZY_DOT)?.as_u64()?.try_into().ok()?)?,
        _ => return Scalar::recompose(type_name, data).map(Object::Scalar),
    };
    match (data.get(FORM)?.as_str()?, data.get(CONTENT)?) {
        (NATIVE, Object::Bin(file)) if type_name == NDARRAY => npy::decode(file).ok().map(Object::Array),
        (NATIVE, Object::Bin(file)) if type_name == TENSOR => {
            match safetensors::decode(file, 1).ok()?.pop()? {
                (name, tensor) if name == safetensors::NATIVE => Some(Object::Tensor(tensor)),
                _ => None,
            }
        }
        (REF, Object::Str(item)) if !item.is_empty() => {
            let (item, passed_on) = (item.clone(), type_name == LAZY_REF);
            Some(Object::ArrayRef(Box::new(ArrayRef { kind, item, source: None, passed_on })))
        }
        _ => None,
    }
}

/// An array whose bytes will be in a section of their own.
pub(super) fn native_in(datum: DatumRef, array: &Object) -> Option<Object> {
    let (type_name, decomposer) = match array {
        Object::Array(_) => (NDARRAY, NDARRAY_DC),
        Object::Tensor(_) => (TENSOR, TENSOR_DC),
        _ => return None,
    };
    let data = [(Object::text(FORM), Object::text(NATIVE)), (Object::text(CONTENT), Object::DatumRef(datum))];
    let text = ByteString::from_static;
    Some(Opaque::new(text(type_name), Object::Map(data.into()), text(decomposer)).into())
}

fn items(data: Object, type_name: &'static str) -> Result<Vec<Object>, FobsError> {
    match data {
        Object::List(items) => Ok(items),
        _ => Err(FobsError::Data { type_name, expected: "a list" }),
    }
}

/// Two items as a tuple, which the reference sends, or a list, which it accepts.
fn pair(object: Object) -> Option<(Object, Object)> {
    match object {
        Object::Tuple(items) | Object::List(items) => {
            let [key, value] = items.try_into().ok()?;
            Some((key, value))
        }
        _ => None,
    }
}

/// An enum is known by its decomposer only, so this wants exactly what the reference writes.
fn enum_member(pairs: &[(Object, Object)]) -> Option<EnumMember> {
    match pairs {
        [
            (Object::Str(type_key), Object::Str(type_name)),
            (Object::Str(data_key), Object::Str(member)),
            (Object::Str(dc_key), Object::Str(dc)),
        ] if (&**type_key, &**data_key, &**dc_key, &**dc) == (TYPE, DATA, DECOMPOSER, ENUM_DC) => {
            Some(EnumMember { type_name: type_name.clone(), member: member.clone() })
        }
        _ => None,
    }
}

/// The id is a key that is compared as text, so only the one usual spelling counts.
fn parse_datum_ref(data: &Object) -> Option<DatumRef> {
    let data = data.get("data")?;
    let text = data.get(DATUM_ID)?.as_str()?;
    let id = Uuid::try_parse(text).ok().filter(|id| id.hyphenated().to_string() == text)?;
    Some(DatumRef { id, unwrap: data.get(UNWRAP)?.as_bool()? })
}

fn datum_ref(datum: DatumRef) -> Value {
    let attributes = Value::Map(vec![
        (Value::text(DATUM_ID), Value::Str(datum.id.hyphenated().to_string().into())),
        (Value::text(UNWRAP), Value::Bool(datum.unwrap)),
    ]);
    decomposed(DATUM_REF, Value::Map(vec![(Value::text("data"), attributes)]), DATA_CLASS_DC)
}

fn native(type_name: &'static str, file: Bytes, decomposer: &'static str) -> Value {
    let data = vec![(Value::text(FORM), Value::text(NATIVE)), (Value::text(CONTENT), Value::Bin(file))];
    decomposed(type_name, Value::Map(data), decomposer)
}

fn array_ref(reference: &ArrayRef) -> Value {
    let mut data = vec![
        (Value::text(FORM), Value::text(REF)),
        (Value::text(CONTENT), Value::Str(reference.item.clone())),
    ];
    let (type_name, decomposer) = match reference.kind {
        _ if reference.passed_on => {
            data.push((Value::text(LAZY_DOT), Value::Int(reference.kind.dot().into())));
            (LAZY_REF, LAZY_REF_DC)
        }
        ArrayKind::Numpy => (NDARRAY, NDARRAY_DC),
        ArrayKind::Torch => (TENSOR, TENSOR_DC),
    };
    decomposed(type_name, Value::Map(data), decomposer)
}

fn decomposed(type_name: &'static str, data: Value, decomposer: &'static str) -> Value {
    fields(ByteString::from_static(type_name), data, decomposer)
}

fn fields(type_name: ByteString, data: Value, decomposer: &'static str) -> Value {
    Value::Map(vec![
        (Value::text(TYPE), Value::Str(type_name)),
        (Value::text(DATA), data),
        (Value::text(DECOMPOSER), Value::text(decomposer)),
    ])
}

fn array(items: &[Object]) -> Value {
    Value::Array(items.iter().map(Value::from).collect())
}

fn map(pairs: &[(Object, Object)]) -> Value {
    Value::Map(pairs.iter().map(|(key, value)| (key.into(), value.into())).collect())
}

const TUPLE: &str = "tuple";
const TUPLE_DC: &str = "nvflare.fuel.utils.fobs.decomposers.core_decomposers.TupleDecomposer";
const SET: &str = "set";
const SET_DC: &str = "nvflare.fuel.utils.fobs.decomposers.core_decomposers.SetDecomposer";
const ORDERED_DICT: &str = "collections.OrderedDict";
const ORDERED_DICT_DC: &str = "nvflare.fuel.utils.fobs.decomposers.core_decomposers.OrderedDictDecomposer";
const DATETIME: &str = "datetime.datetime";
const DATETIME_DC: &str = "nvflare.fuel.utils.fobs.decomposers.core_decomposers.DatetimeDecomposer";
const ENUM_DC: &str = "nvflare.fuel.utils.fobs.decomposer.EnumTypeDecomposer";
const DATA_CLASS_DC: &str = "nvflare.fuel.utils.fobs.decomposer.DataClassDecomposer";
const DATUM_REF: &str = "nvflare.fuel.utils.fobs.datum.DatumRef";
const DATUM_ID: &str = "datum_id";
const UNWRAP: &str = "unwrap";

const NDARRAY: &str = "numpy.ndarray";
const NDARRAY_DC: &str = "nvflare.app_common.decomposers.numpy_decomposers.NumpyArrayDecomposer";
const TENSOR: &str = "torch.Tensor";
const TENSOR_DC: &str = "nvflare.app_opt.pt.decomposers.TensorDecomposer";
const LAZY_REF: &str = "nvflare.fuel.utils.fobs.decomposers.via_downloader.LazyDownloadRef";
const LAZY_REF_DC: &str = "nvflare.fuel.utils.fobs.decomposers.via_downloader.LazyDownloadRefDecomposer";
const FORM: &str = "type";
const CONTENT: &str = "data";
const NATIVE: &str = "native";
const REF: &str = "ref";
const LAZY_DOT: &str = "lazy_dot";
