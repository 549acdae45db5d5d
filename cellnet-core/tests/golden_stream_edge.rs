//! What odd sequences of chunks lead to, compared with what a receiver of the reference was seen to answer.
//!
//! `data/stream_edge.json` holds for each case the messages (headers, length and fill byte of the data), what the
//! reference answered (length and digest of the blob that its handler got, an error, or nothing) and what comes out
//! here: `complete`, the text of an error, or `nothing`. Where the two differ, `why` says on what ground.

use std::time::Duration;

use bytes::Bytes;
use cellnet_core::{
    stream::{ChunkHeader, ChunkKind, Input, Next, RecvState, SendError, SendState, StreamConfig},
    wire::{Headers, Value},
};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

/// The reference was observed with these patiences.
const PATIENCE: Duration = Duration::from_secs(2);

#[test]
fn receiver_agrees_with_the_reference_or_says_why_not() {
    let cases = table();
    let cases = cases["receiver"].as_array().unwrap();
    assert_eq!(cases.len(), 29);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let (outcome, data) = outcome(case["sent"].as_array().unwrap());
        assert_eq!(outcome, case["ours"].as_str().unwrap(), "{name}");
        let seen = &case["reference"];
        let agrees = match outcome.as_str() {
            "complete" => seen["len"] == data.len() && seen["sha256"] == hex(&Sha256::digest(&data)),
            "nothing" => seen.is_null(),
            failure if failure.starts_with("no chunk for 2s") => {
                seen["error"].as_str().is_some_and(|text| text.ends_with("read timed out after 2 seconds"))
            }
            _ => seen.is_null(),
        };
        let explained = case["why"].as_str().is_some_and(|why| !why.is_empty());
        assert!(agrees || explained, "{name}: reference {seen}, here {outcome}");
    }
}

#[test]
fn sender_without_acks_sends_what_the_reference_sends_and_fails_as_it_does() {
    let case = &table()["sender"];
    let mut now = Instant::now();
    let mut state = SendState::new(&config(), case["total"].as_u64());
    let mut chunks = 0;
    while let Next::Chunk(chunk) =
        state.next((case["total"].as_u64().unwrap() - state.sent()) as usize, Input::End, now).unwrap()
    {
        assert_eq!((chunk.sequence, chunk.offset, chunk.last), (chunks, chunks << 20, false));
        chunks += 1;
    }
    assert_eq!((chunks, state.sent()), (case["chunks"].as_u64().unwrap(), case["sent"].as_u64().unwrap()));
    now += PATIENCE;
    assert_eq!(state.deadline(), Some(now));
    assert!(matches!(state.expire(now), Err(SendError::Stalled { patience: PATIENCE, acked: 0, .. })));
    assert!(case["error"].as_str().unwrap().ends_with("ACK made no progress for 2.0 seconds"));
}

/// Feeds the messages to a receiver whose application reads at once, then lets time pass.
fn outcome(sent: &[Json]) -> (String, Vec<u8>) {
    let now = Instant::now();
    let (mut state, mut data) = (None, Vec::new());
    for message in sent {
        let header = match ChunkHeader::parse(&headers(&message[0])) {
            Ok(header) => header,
            Err(refused) => return (refused.to_string(), data),
        };
        if header.kind == ChunkKind::Error {
            let error = state.as_mut().and_then(|state: &mut RecvState| {
                state.on_error(header.error.as_deref().unwrap_or_default())
            });
            return (error.map_or("nothing".into(), |error| error.to_string()), data);
        }
        let fill = message[2].as_str().unwrap().as_bytes().first().copied().unwrap_or_default();
        let body = Bytes::from(vec![fill; message[1].as_u64().unwrap() as usize]);
        let state = state.get_or_insert_with(|| RecvState::blob(&config(), now));
        if let Err(error) = state.on_chunk(&header, body, now) {
            return (error.to_string(), data);
        }
        while let Some(piece) = state.read() {
            data.extend_from_slice(&piece);
            state.consumed(piece.len() as u64, now);
        }
    }
    let mut state = state.expect("each case starts a stream or has returned");
    match state.expire(now + PATIENCE) {
        Err(error) => (error.to_string(), data),
        Ok(()) => {
            assert!(state.is_complete());
            ("complete".into(), data)
        }
    }
}

fn table() -> Json {
    serde_json::from_str(include_str!("data/stream_edge.json")).unwrap()
}

fn config() -> StreamConfig {
    StreamConfig { idle_patience: PATIENCE, ack_patience: PATIENCE, ..StreamConfig::default() }
}

fn headers(json: &Json) -> Headers {
    let value = |json: &Json| match json {
        Json::Number(number) => Value::Int(number.as_i64().unwrap()),
        Json::Bool(flag) => Value::Bool(*flag),
        other => Value::Str(other.as_str().unwrap().into()),
    };
    json.as_object().unwrap().iter().map(|(key, json)| (key.as_str(), value(json))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
