//! A source that is read while it is sent, and of any length.
//!
//! Nothing of it can be read twice, so blocks stay in memory until the receiver says that it has them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::Notify,
};

use super::{
    Reason, Receipt, Token, TransferError,
    blocks::block_count,
    digest::{ManifestDigest, block_value, hole_value, is_hole},
    wire::{Entry, Fingerprint, Hash, VALUE_LEN},
};

/// The part of the source that is in memory.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) entry: Entry,
    block_size: u32,
    /// Blocks in memory at most.
    room: u64,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    blocks: BTreeMap<u64, Bytes>,
    /// Blocks read.
    read: u64,
    /// Blocks that the receiver has.
    safe: u64,
    end: Option<Result<(u64, Hash), TransferError>>,
}

/// What there is to say about a block.
#[derive(Debug)]
pub(crate) enum LiveBlock {
    /// This is it.
    Here(Bytes),
    /// The source has ended before it.
    Behind,
    /// It is not read yet.
    Later,
}

impl Live {
    pub(crate) fn new(name: &str, token: Token, block_size: u32, window: usize) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let entry = Entry {
            path: name.into(),
            dir: false,
            size: None,
            mode: 0o600,
            mtime: (i64::try_from(now.as_secs()).unwrap_or(0), now.subsec_nanos()),
            fingerprint: Fingerprint(token.0),
        };
        let room = (window as u64 / u64::from(block_size)).max(2) * 2;
        Self { entry, block_size, room, state: Mutex::default(), changed: Notify::new() }
    }

    /// Reads all of it, as the receiver makes room. Ends with the reader, or when dropped.
    pub(crate) async fn read(self: Arc<Self>, mut reader: impl AsyncRead + Unpin) {
        let mut hasher = blake3::Hasher::new();
        let mut length = 0;
        loop {
            self.has_room().await;
            let mut buffer = Vec::with_capacity(VALUE_LEN + self.block_size as usize);
            buffer.resize(VALUE_LEN, 0);
            let full = VALUE_LEN + self.block_size as usize;
            while buffer.len() < full {
                let left = (full - buffer.len()) as u64;
                match (&mut reader).take(left).read_buf(&mut buffer).await {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) => return self.end(Err(TransferError::io("the source", &error))),
                }
            }
            let read = buffer.len() - VALUE_LEN;
            if read > 0 {
                hasher.update(&buffer[VALUE_LEN..]);
                self.push(length, buffer);
            }
            length += read as u64;
            if read < self.block_size as usize {
                return self.end(Ok((length, hasher.finalize().into())));
            }
        }
    }

    async fn has_room(&self) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                let state = self.state();
                if state.read < state.safe + self.room {
                    return;
                }
            }
            changed.await;
        }
    }

    fn push(&self, offset: u64, mut buffer: Vec<u8>) {
        let bytes = &buffer[VALUE_LEN..];
        let hole = is_hole(bytes);
        let value = if hole { hole_value(offset, bytes.len()) } else { block_value(offset, bytes) };
        buffer[..VALUE_LEN].copy_from_slice(&value);
        if hole {
            buffer = value.to_vec();
        }
        let mut state = self.state();
        let number = state.read;
        state.blocks.insert(number, buffer.into());
        state.read += 1;
        drop(state);
        self.changed.notify_waiters();
    }

    fn end(&self, end: Result<(u64, Hash), TransferError>) {
        self.state().end = Some(end);
        self.changed.notify_waiters();
    }

    /// A block, as soon as it was read, and the length if that is known. The receiver has the blocks before `safe`.
    pub(crate) async fn block(
        &self,
        block: u64,
        safe: u64,
    ) -> Result<(LiveBlock, Option<u64>), TransferError> {
        let deadline = tokio::time::Instant::now() + HELD;
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            match self.look(block, safe)? {
                (LiveBlock::Later, _) => {}
                found => return Ok(found),
            }
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                return Ok((LiveBlock::Later, None));
            }
        }
    }

    fn look(&self, block: u64, safe: u64) -> Result<(LiveBlock, Option<u64>), TransferError> {
        let mut state = self.state();
        if safe > state.safe {
            state.safe = safe.min(state.read);
            let kept = state.blocks.split_off(&safe);
            state.blocks = kept;
            self.changed.notify_waiters();
        }
        let length = match &state.end {
            Some(Ok((length, _))) => Some(*length),
            Some(Err(error)) => return Err(error.clone()),
            None => None,
        };
        if let Some(payload) = state.blocks.get(&block) {
            return Ok((LiveBlock::Here(payload.clone()), length));
        }
        match length {
            Some(length) if block >= block_count(length, self.block_size) => {
                Ok((LiveBlock::Behind, Some(length)))
            }
            _ if block < state.safe => {
                let text = "the receiver asks for what it had, and it cannot be read again";
                Err(TransferError::here(Reason::SourceChanged, text))
            }
            _ => Ok((LiveBlock::Later, None)),
        }
    }

    /// Why it cannot be read any further.
    pub(crate) fn failure(&self) -> Option<TransferError> {
        self.state().end.clone()?.err()
    }

    /// What was read, when all was.
    pub(crate) fn receipt(&self) -> Result<Receipt, TransferError> {
        let (length, digest) = match &self.state().end {
            Some(end) => end.clone()?,
            None => return Err(TransferError::here(Reason::SizeMismatch, "the source has not ended yet")),
        };
        let mut all = ManifestDigest::default();
        all.add(&self.entry, Some((length, digest)));
        Ok(Receipt { files: 1, bytes: length, received: 0, resumed: 0, digest: all.finish() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a request for a block that was not read yet waits before it is told to come again.
const HELD: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reader_is_not_read_further_than_the_receiver_keeps_up() {
        let live = Arc::new(Live::new("x", Token::random(), 64 << 10, 128 << 10));
        let reading = tokio::spawn(live.clone().read(tokio::io::repeat(7)));
        assert!(matches!(live.block(4, 0).await.unwrap().0, LiveBlock::Later));
        assert_eq!(live.state().blocks.len(), 4);
        assert!(matches!(live.block(4, 2).await.unwrap().0, LiveBlock::Here(_)));
        assert!(live.state().blocks.len() <= 4);
        assert!(live.block(1, 2).await.is_err());
        reading.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_reader_is_known_with_its_last_block() {
        let live = Arc::new(Live::new("x", Token::random(), 64 << 10, 128 << 10));
        let content: &'static [u8] = &[9; (64 << 10) + 1];
        live.clone().read(content).await;
        let (last, length) = live.block(1, 0).await.unwrap();
        assert!(matches!(last, LiveBlock::Here(block) if block.len() == VALUE_LEN + 1));
        assert_eq!(length, Some(content.len() as u64));
        assert!(matches!(live.block(2, 0).await.unwrap(), (LiveBlock::Behind, Some(_))));
        assert_eq!(live.receipt().unwrap().digest, *blake3::hash(content).as_bytes());
    }
}
