//! The puller's side: asks an owner until everything is there.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use bytestring::ByteString;
use cellnet_core::{
    cell::Cell,
    fobs::{Array, ArrayKind, Object, Source},
    message::Message,
};
use tokio::time::{Instant, sleep};

use super::{
    CorruptError, PullConfig, PullError,
    pull::{Next, Pull, corrupt},
    pulled::Allowance,
    wire::{self, CHANNEL, TOPIC, WireError},
};

/// Pulls all arrays of a source. A dropped future leaves nothing behind; the owner waits for its life-time.
pub(super) async fn arrays(
    cell: &Cell,
    kind: ArrayKind,
    source: &Source,
    config: &PullConfig,
    allowance: &Allowance,
) -> Result<HashMap<ByteString, Array>, PullError> {
    let owner = &source.owner;
    let mut pull = Pull::new(source.clone(), config.clone(), None, Instant::now());
    let mut found = HashMap::new();
    while let Some((state, data)) = next(cell, source, &mut pull).await? {
        let items = wire::items(data).ok_or_else(|| corrupt(owner, WireError::Field("data")))?;
        let bytes: usize = items.iter().map(Bytes::len).sum();
        allowance.take_bytes(owner, bytes as u64)?;
        let unpacked = unpack(kind, items, bytes, allowance.items_left()).await?;
        let unpacked = unpacked.map_err(|error| corrupt(owner, error))?;
        allowance.take_items(unpacked.len())?;
        if unpacked.is_empty() {
            return Err(corrupt(owner, CorruptError::Empty));
        }
        for (name, array) in unpacked {
            if found.insert(name.clone(), array).is_some() {
                return Err(corrupt(owner, CorruptError::Twice(name)));
            }
        }
        pull.go_on(state);
    }
    Ok(found)
}

/// The next data of a file, which follows on the bytes that are there; `None` at its end.
pub(super) async fn file_piece(
    cell: &Cell,
    source: &Source,
    pull: &mut Pull,
) -> Result<Option<Bytes>, PullError> {
    let Some((_, data)) = next(cell, source, pull).await? else { return Ok(None) };
    match data {
        Object::Bin(bytes) if !bytes.is_empty() => Ok(Some(bytes)),
        Object::Bin(_) => Err(corrupt(&source.owner, CorruptError::Empty)),
        _ => Err(corrupt(&source.owner, WireError::Field("data"))),
    }
}

/// Asks until there is an answer.
async fn next(cell: &Cell, source: &Source, pull: &mut Pull) -> Result<Option<(Object, Object)>, PullError> {
    loop {
        let (ask, timeout) = pull.ask(Instant::now())?;
        let moved = Arc::new(Mutex::new(None));
        let told = moved.clone();
        let asked = cell
            .request(&source.owner, CHANNEL, TOPIC, Message::new(ask.encode()))
            .timeout(timeout)
            .on_progress(move |_| {
                *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now())
            });
        let outcome = asked.await;
        let moved = *moved.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(moved) = moved {
            pull.moved(moved);
        }
        match pull.answered(Instant::now(), outcome)? {
            Next::Use { state, data } => return Ok(Some((state, data))),
            Next::Done => return Ok(None),
            Next::Pause(pause) => {
                tracing::debug!(owner = %source.owner, ?pause, "no answer, asking again");
                sleep(pause).await;
            }
        }
    }
}

/// Large ones off the threads of the runtime: checksums run over all bytes.
async fn unpack(
    kind: ArrayKind,
    items: Vec<Bytes>,
    bytes: usize,
    most: usize,
) -> Result<Result<Vec<(ByteString, Array)>, CorruptError>, PullError> {
    let unpack = move || {
        let mut all = Vec::new();
        for item in &items {
            let left = most.saturating_sub(all.len());
            all.extend(kind.unpack(item, left)?);
        }
        Ok(all)
    };
    match bytes {
        0..SMALL => Ok(unpack()),
        _ => tokio::task::spawn_blocking(unpack).await.map_err(|_| PullError::RuntimeEnded),
    }
}

/// What takes less time than the way to another thread.
const SMALL: usize = 256 << 10;
