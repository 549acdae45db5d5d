//! What puller and owner say to one another.
//!
//! ```text
//! request   {"ref_id": text, "state": map}         no state: from the start
//! reply     {"status": "ok", "state": map, "data": list of bytes, or bytes of a file}
//!           {"status": "eof"}                      there is no more
//!           {"status": "error"}                    give up
//! state     {"start": first item, "count": items}  of arrays; the puller sends back what it got
//!           {"received_bytes": n}                  of a file; the puller counts
//! ```
//! Source: `fuel/f3/streaming/download_service.py`, `cacheable.py`, `file_downloader.py`.

use bytes::Bytes;
use bytestring::ByteString;
use cellnet_core::{
    fobs::{self, Document, FobsError, Object},
    message::Payload,
    wire::Limits,
};

/// The channel of downloads.
pub const CHANNEL: &str = "download_service__";
/// The topic of requests for data.
pub const TOPIC: &str = "download_service__download";

/// A request for what comes next.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ask {
    pub(super) ref_id: ByteString,
    pub(super) state: Option<Object>,
}

/// What an owner answers.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Told {
    /// Data, and more may follow.
    Ok { state: Object, data: Object },
    /// There is no more.
    Eof,
    /// The owner gives up.
    Error,
}

/// Why a payload is no request or no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// It cannot be decoded.
    #[error("payload cannot be decoded")]
    Fobs(#[from] FobsError),
    /// It is not in the object encoding.
    #[error("payload is no object")]
    Encoding,
    /// A field that is missing or of another type.
    #[error("field '{0}' is missing or of the wrong type")]
    Field(&'static str),
    /// A state that is too large to be sent back.
    #[error("a state of more than {MAX_STATE} entries or with more than numbers and short texts in it")]
    State,
}

impl Ask {
    pub(super) fn encode(&self) -> Payload {
        let mut pairs = vec![(Object::text(REF_ID), Object::Str(self.ref_id.clone()))];
        if let Some(state) = &self.state {
            pairs.push((Object::text(STATE), state.clone()));
        }
        encode(Object::Map(pairs))
    }

    pub(super) fn decode(payload: &Payload) -> Result<Self, WireError> {
        let object = decode(payload, LIMITS)?;
        let ref_id = match object.get(REF_ID) {
            Some(Object::Str(ref_id)) if (1..=MAX_ID).contains(&ref_id.len()) => ref_id.clone(),
            _ => return Err(WireError::Field(REF_ID)),
        };
        let state = match object.get(STATE) {
            None | Some(Object::Nil) => None,
            // The reference takes an empty state for none.
            Some(Object::Map(pairs)) if pairs.is_empty() => None,
            Some(state) => Some(state.clone()),
        };
        Ok(Self { ref_id, state })
    }
}

impl Told {
    pub(super) fn encode(self) -> Payload {
        let status = |status: &'static str| (Object::text(STATUS), Object::text(status));
        encode(Object::Map(match self {
            Self::Ok { state, data } => {
                vec![status(OK), (Object::text(STATE), state), (Object::text(DATA), data)]
            }
            Self::Eof => vec![status(EOF)],
            Self::Error => vec![status(ERROR)],
        }))
    }

    /// Reads an answer; it shares the bytes of the payload.
    pub(super) fn decode(payload: &Payload) -> Result<Self, WireError> {
        let mut object = decode(payload, Limits::PAYLOAD)?;
        match object.get(STATUS).and_then(Object::as_str) {
            Some(OK) => {}
            Some(EOF) => return Ok(Self::Eof),
            Some(ERROR) => return Ok(Self::Error),
            _ => return Err(WireError::Field(STATUS)),
        }
        let mut take = |key| {
            let Object::Map(pairs) = &mut object else { return None };
            let at = pairs.iter().rposition(|(k, _)| k.as_str() == Some(key))?;
            Some(pairs.swap_remove(at).1)
        };
        let state = take(STATE).ok_or(WireError::Field(STATE))?;
        check_state(&state)?;
        Ok(Self::Ok { state, data: take(DATA).ok_or(WireError::Field(DATA))? })
    }
}

/// The state after items `start` to `start + count`.
pub(super) fn items_state(start: usize, count: usize) -> Object {
    Object::from_iter([(START, Object::from(start as u64)), (COUNT, Object::from(count as u64))])
}

/// The first item that a puller of arrays does not have.
pub(super) fn next_item(state: &Object) -> Option<u64> {
    let number = |key| match state.get(key) {
        None => Some(0),
        Some(value) => value.as_u64(),
    };
    state.pairs()?;
    number(START)?.checked_add(number(COUNT)?)
}

/// The state of who has so many bytes of a file.
pub(super) fn file_state(received: u64) -> Object {
    Object::from_iter([(RECEIVED, Object::from(received))])
}

/// How many bytes a puller of a file has.
pub(super) fn received_bytes(state: &Object) -> Option<u64> {
    state.pairs()?;
    state.get(RECEIVED).map_or(Some(0), Object::as_u64)
}

/// The items of an answer.
pub(super) fn items(data: Object) -> Option<Vec<Bytes>> {
    let Object::List(items) = data else { return None };
    let bytes = |item| if let Object::Bin(bytes) = item { Some(bytes) } else { None };
    items.into_iter().map(bytes).collect()
}

/// A state is sent back as it came, so it has to be small.
fn check_state(state: &Object) -> Result<(), WireError> {
    let pairs = state.pairs().ok_or(WireError::Field(STATE))?;
    let small = |object: &Object| match object {
        Object::Str(text) => text.len() <= MAX_ID,
        Object::Nil | Object::Bool(_) | Object::Int(_) | Object::Uint(_) | Object::F64(_) => true,
        _ => false,
    };
    let fits = pairs.len() <= MAX_STATE && pairs.iter().all(|(key, value)| small(key) && small(value));
    if fits { Ok(()) } else { Err(WireError::State) }
}

fn encode(object: Object) -> Payload {
    Payload::Fobs(fobs::encode(&Document::new(object)))
}

fn decode(payload: &Payload, limits: Limits) -> Result<Object, WireError> {
    let Payload::Fobs(bytes) = payload else { return Err(WireError::Encoding) };
    Ok(fobs::decode(bytes, limits)?.into_object()?)
}

const REF_ID: &str = "ref_id";
const STATUS: &str = "status";
const STATE: &str = "state";
const DATA: &str = "data";
const OK: &str = "ok";
const EOF: &str = "eof";
const ERROR: &str = "error";
const START: &str = "start";
const COUNT: &str = "count";
const RECEIVED: &str = "received_bytes";

/// A request is a map with a map in it.
const LIMITS: Limits = Limits { depth: 8, values: 64, bytes: 4096 };
/// Ids are a letter and a UUID.
const MAX_ID: usize = 256;
/// The reference uses two.
const MAX_STATE: usize = 16;

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;

    use super::*;
    use crate::download::testdata::{golden, payload};

    #[test]
    fn requests_are_those_of_the_reference() {
        for request in golden()["requests"].as_array().unwrap() {
            let sent = payload(&request["hex"]);
            let ask = Ask::decode(&sent).unwrap();
            assert_eq!(&*ask.ref_id, request["ref_id"].as_str().unwrap());
            assert_eq!(ask.encode(), sent);
            let (state, known) = (ask.state.as_ref(), &request["state"]);
            let next = state.map(|state| next_item(state).unwrap());
            match known.get("start").and_then(Json::as_u64) {
                Some(start) => assert_eq!(next, Some(start + known["count"].as_u64().unwrap())),
                None => {
                    assert_eq!(state.map(|s| received_bytes(s).unwrap()), known["received_bytes"].as_u64())
                }
            }
        }
        assert_eq!(Ask::decode(&payload(&golden()["bad_request"])), Err(WireError::Field("ref_id")));
    }

    #[test]
    fn answers_are_those_of_the_reference() {
        let arrays = payload(&golden()["arrays"]["answer"]);
        let Told::Ok { state, data } = Told::decode(&arrays).unwrap() else { panic!("no data") };
        assert_eq!(state, items_state(0, 1));
        assert_eq!(Told::Ok { state, data }.encode(), arrays);
        for end in [&golden()["arrays"]["end"], &golden()["file"]["end"]] {
            assert_eq!(Told::decode(&payload(end)), Ok(Told::Eof));
            assert_eq!(Told::Eof.encode(), payload(end));
        }
        let file =
            Told::Ok { state: file_state(5 << 20), data: Object::Bin(vec![7; 5 << 20].into()) }.encode();
        let head = payload(&golden()["file"]["head"]);
        assert_eq!(file.len() as u64, golden()["file"]["size"].as_u64().unwrap());
        assert!(file.as_bytes().starts_with(head.as_bytes()));
    }

    #[test]
    fn odd_answers_are_named() {
        let ok = |pairs: &[(&'static str, Object)]| {
            let status = (Object::text("status"), Object::text("ok"));
            let pairs = pairs.iter().map(|(key, value)| (Object::text(key), value.clone()));
            Told::decode(&encode(Object::Map([status].into_iter().chain(pairs).collect())))
        };
        let state = |object| ("state", object);
        let deep = Object::from_iter([("a", Object::from(vec![Object::Nil]))]);
        let wide: Object = (0..17).map(|at: i64| (at, at)).collect();
        let long = Object::from_iter([("a", "x".repeat(257))]);
        assert_eq!(ok(&[]), Err(WireError::Field("state")));
        assert_eq!(ok(&[state(1.into())]), Err(WireError::Field("state")));
        assert_eq!(ok(&[state(items_state(0, 1))]), Err(WireError::Field("data")));
        for odd in [deep, wide, long] {
            assert_eq!(ok(&[state(odd)]), Err(WireError::State));
        }
        assert_eq!(Told::decode(&encode(Object::Nil)), Err(WireError::Field("status")));
        assert_eq!(Told::decode(&Payload::None), Err(WireError::Encoding));
    }

    #[test]
    fn a_state_of_the_wrong_type_is_no_position() {
        for odd in [Object::Nil, 1.into(), Object::from_iter([("start", "0")])] {
            assert_eq!(next_item(&odd), None);
        }
        let far = Object::from_iter([("start", u64::MAX), ("count", 1)]);
        assert_eq!(next_item(&far), None);
        for odd in [Object::from(-1), "1".into(), 1.5.into(), Object::Nil] {
            assert_eq!(received_bytes(&Object::from_iter([("received_bytes", odd)])), None);
        }
    }
}
