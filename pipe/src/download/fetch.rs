//! The puller's side: asks an owner until everything is there.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
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
    wire::{self, CHANNEL, TOPIC, WireError},
};

/// How much may still come, for all that is pulled together. What has come counts for the whole cell until it is dropped.
#[derive(Debug)]
pub(super) struct Allowance {
    bytes: (AtomicU64, u64),
    items: (AtomicUsize, usize),
    all: (Arc<AtomicU64>, u64),
}

impl Allowance {
    pub(super) fn new(config: &PullConfig, all: Arc<AtomicU64>) -> Self {
        Self {
            bytes: (AtomicU64::new(0), config.max_bytes),
            items: (AtomicUsize::new(0), config.max_items),
            all: (all, config.max_all_bytes),
        }
    }

    fn take_bytes(&self, bytes: u64) -> Result<(), PullError> {
        let ((mine, most), (all, most_of_all)) = (&self.bytes, &self.all);
        // Both count it, because it is here already.
        let mine = mine.fetch_add(bytes, Relaxed).saturating_add(bytes);
        let all = all.fetch_add(bytes, Relaxed).saturating_add(bytes);
        match (mine > *most, all > *most_of_all) {
            (true, _) => Err(PullError::TooLarge(*most)),
            (false, true) => Err(PullError::Full(*most_of_all)),
            (false, false) => Ok(()),
        }
    }

    fn take_items(&self, items: usize) -> Result<(), PullError> {
        let (taken, most) = &self.items;
        let before = taken.fetch_add(items, Relaxed);
        if before.saturating_add(items) > *most { Err(PullError::TooMany(*most)) } else { Ok(()) }
    }

    /// Most items that one answer may bring; one too many is seen as such.
    fn items_left(&self) -> usize {
        let (taken, most) = &self.items;
        most.saturating_sub(taken.load(Relaxed)).saturating_add(1)
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        self.all.0.fetch_sub(*self.bytes.0.get_mut(), Relaxed);
    }
}

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
        allowance.take_bytes(bytes as u64)?;
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
