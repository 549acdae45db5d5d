//! Blocks of files that were read, shared by all who ask for them at about the same time.

use std::{
    fs::File,
    num::NonZeroUsize,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use lru::LruCache;
use rustix::fs::SeekFrom;
use tokio::sync::OnceCell;

use super::{
    Reason, TransferConfig, TransferError,
    digest::{block_value, hole_value, is_hole},
    wire::{BlockAsk, Entry, VALUE_LEN},
};
use crate::stats::{Budget, Counter, Reservation};

/// The blocks in memory.
#[derive(Debug)]
pub(crate) struct Blocks {
    recent: Mutex<LruCache<BlockAsk, Shared>>,
    memory: Arc<Budget>,
    read: Counter,
    served: Counter,
}

/// What the source's side of a cell's transfers did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransferStats {
    /// Blocks that were read from files.
    pub blocks_read: u64,
    /// Blocks that were given to receivers.
    pub blocks_served: u64,
    /// Bytes of memory that blocks take now.
    pub memory: usize,
}

type Shared = Arc<OnceCell<Result<Bytes, TransferError>>>;

impl Blocks {
    pub(crate) fn new(config: &TransferConfig) -> Self {
        let kept = (config.cache / config.block() as usize).max(1);
        Self {
            recent: Mutex::new(LruCache::new(NonZeroUsize::new(kept).expect("at least 1"))),
            memory: Budget::new(config.cache.saturating_add(config.in_flight.max(4 << 20))),
            read: Counter::default(),
            served: Counter::default(),
        }
    }

    /// A block as it travels, which `read` reads unless somebody else has or does. `None`: there is no memory for it now. With `keep` it stays for others.
    pub(crate) async fn get<F>(
        &self,
        ask: BlockAsk,
        len: usize,
        keep: bool,
        read: impl FnOnce(Vec<u8>, Reservation) -> F,
    ) -> Option<Result<Bytes, TransferError>>
    where
        F: Future<Output = Result<Bytes, TransferError>>,
    {
        self.served.add(1);
        if !keep {
            let memory = self.reserve(len).await?;
            return Some(read(self.memory.spares().take(VALUE_LEN + len), memory).await);
        }
        let shared = self.recent().get_or_insert(ask, Shared::default).clone();
        let block = shared
            .get_or_try_init(async || {
                let memory = self.reserve(len).await.ok_or(())?;
                Ok::<_, ()>(read(self.memory.spares().take(VALUE_LEN + len), memory).await)
            })
            .await;
        let Ok(block) = block.cloned() else { return None };
        if block.is_err() {
            self.recent().pop(&ask);
        }
        Some(block)
    }

    /// Shares a block that was read into a buffer.
    pub(crate) fn lend(&self, buffer: Vec<u8>, memory: Reservation) -> Bytes {
        self.read.add(1);
        self.memory.spares().lend(buffer, Some(memory))
    }

    /// Takes memory for a block; what was read long ago makes room for it.
    async fn reserve(&self, len: usize) -> Option<Reservation> {
        let given_up = tokio::time::Instant::now() + PATIENCE;
        loop {
            let seen = self.memory.releases();
            if let Some(reserved) = self.memory.reserve(VALUE_LEN + len) {
                return Some(reserved);
            }
            if self.recent().pop_lru().is_some() {
                continue;
            }
            tokio::time::timeout_at(given_up, self.memory.released_since(seen)).await.ok()?;
        }
    }

    /// Forgets what was read for a token.
    pub(crate) fn forget(&self, token: super::Token) {
        let mut recent = self.recent();
        let of_token: Vec<_> = recent.iter().map(|(ask, _)| *ask).filter(|ask| ask.token == token).collect();
        for ask in of_token {
            recent.pop(&ask);
        }
    }

    pub(crate) fn stats(&self) -> TransferStats {
        let (blocks_read, blocks_served) = (self.read.get(), self.served.get());
        TransferStats { blocks_read, blocks_served, memory: self.memory.used() }
    }

    fn recent(&self) -> MutexGuard<'_, LruCache<BlockAsk, Shared>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a request for a block may wait for memory before it is told to come again.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of a block of a file of `size` bytes; `None` if it has no such block.
pub(crate) fn block_len(size: u64, block_size: u32, block: u64) -> Option<usize> {
    let begin = block.checked_mul(block_size.into())?;
    let left = size.checked_sub(begin).filter(|left| *left > 0)?;
    Some(usize::try_from(left.min(block_size.into())).expect("at most a block"))
}

/// Blocks of a file of `size` bytes.
pub(crate) fn block_count(size: u64, block_size: u32) -> u64 {
    size.div_ceil(block_size.into())
}

/// Reads a block with its value into a buffer. A hole leaves the value alone in it. Blocks.
pub(crate) fn read_block(
    file: &File,
    entry: &Entry,
    offset: u64,
    len: usize,
    buffer: &mut Vec<u8>,
) -> Result<(), TransferError> {
    buffer.clear();
    if in_hole(file, offset, len) {
        buffer.extend_from_slice(&hole_value(offset, len));
        return Ok(());
    }
    buffer.resize(VALUE_LEN + len, 0);
    file.read_exact_at(&mut buffer[VALUE_LEN..], offset).map_err(|error| unreadable(entry, &error))?;
    if is_hole(&buffer[VALUE_LEN..]) {
        buffer.truncate(VALUE_LEN);
        buffer[..VALUE_LEN].copy_from_slice(&hole_value(offset, len));
    } else {
        let value = block_value(offset, &buffer[VALUE_LEN..]);
        buffer[..VALUE_LEN].copy_from_slice(&value);
    }
    Ok(())
}

/// Reads a part of a file. Blocks.
pub(crate) fn read_plain(
    file: &File,
    entry: &Entry,
    offset: u64,
    len: usize,
    buffer: &mut Vec<u8>,
) -> Result<(), TransferError> {
    buffer.resize(len, 0);
    file.read_exact_at(buffer, offset).map_err(|error| unreadable(entry, &error))
}

fn unreadable(entry: &Entry, error: &std::io::Error) -> TransferError {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => {
            TransferError::here(Reason::SourceChanged, format!("'{}' has become shorter", entry.path))
        }
        _ => TransferError::io(format_args!("'{}'", entry.path), error),
    }
}

/// Whether the file system keeps nothing there. If it does not tell, it keeps something.
fn in_hole(file: &File, offset: u64, len: usize) -> bool {
    match rustix::fs::seek(file, SeekFrom::Data(offset)) {
        Ok(data) => data >= offset + len as u64,
        // No data behind it: a hole up to the end, or a file that has become shorter.
        Err(rustix::io::Errno::NXIO) => {
            file.metadata().is_ok_and(|metadata| metadata.len() >= offset + len as u64)
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(block: u64) -> BlockAsk {
        BlockAsk { token: super::super::Token([1; 16]), file: 0, block }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_on_its_way_is_bounded_and_what_is_kept_makes_room() {
        let config = TransferConfig { cache: 1 << 20, in_flight: 4 << 20, ..TransferConfig::default() };
        let blocks = Blocks::new(&config);
        let len = 1 << 20;
        let shelf = &blocks;
        let read = |mut buffer: Vec<u8>, memory: Reservation| async move {
            buffer.resize(VALUE_LEN + len, 7);
            Ok(shelf.lend(buffer, memory))
        };
        let mut held = Vec::new();
        while let Some(block) = blocks.get(ask(held.len() as u64), len, false, read).await {
            held.push(block.unwrap());
        }
        assert_eq!(held.len(), 4);
        assert!(blocks.stats().memory <= 5 << 20);
        held.clear();
        assert_eq!(blocks.stats().memory, 0);
        for at in 0..20 {
            blocks.get(ask(at), len, true, read).await.unwrap().unwrap();
        }
        assert!(blocks.stats().memory <= 5 << 20);
        blocks.forget(ask(0).token);
        assert_eq!(blocks.stats().memory, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_ask_at_the_same_time_share_one_reading() {
        let blocks = Blocks::new(&TransferConfig::default());
        let shelf = &blocks;
        let read = |mut buffer: Vec<u8>, memory: Reservation| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            buffer.resize(VALUE_LEN + 100, 7);
            Ok(shelf.lend(buffer, memory))
        };
        let (a, b) = tokio::join!(blocks.get(ask(3), 100, true, read), blocks.get(ask(3), 100, true, read));
        assert_eq!(a.unwrap().unwrap().as_ptr(), b.unwrap().unwrap().as_ptr());
        assert_eq!((blocks.stats().blocks_read, blocks.stats().blocks_served), (1, 2));
    }

    #[test]
    fn blocks_of_a_file_cover_it() {
        assert_eq!(block_count(0, 4), 0);
        assert_eq!(block_len(0, 4, 0), None);
        assert_eq!((block_count(8, 4), block_len(8, 4, 1), block_len(8, 4, 2)), (2, Some(4), None));
        assert_eq!((block_count(9, 4), block_len(9, 4, 2)), (3, Some(1)));
        assert_eq!(block_len(u64::MAX, 1 << 18, u64::MAX), None);
    }
}
