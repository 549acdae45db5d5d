//! One file on its way to the disk.

use std::{fs::File, io, os::unix::fs::FileExt};

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::{
    Reason, TransferError,
    blocks::{block_count, block_len, read_plain},
    digest::{BlockTree, block_value, hole_digest, hole_value},
    dir::{Dir, dress},
    journal::{Journal, Record, Records},
    ranges::Ranges,
    wire::{Entry, Hash, VALUE_LEN},
};

/// One file on its way to the disk. All of it blocks.
#[derive(Debug)]
pub(crate) struct Receiving {
    pub(crate) entry: Entry,
    pub(crate) dir: Dir,
    /// What it is called in `dir` until it is complete.
    pub(crate) name: String,
    pub(crate) data: File,
    /// Small files of a tree have none: they are fetched again.
    pub(crate) journal: Option<Journal>,
    block_size: u32,
    size: Option<u64>,
    have: Ranges,
    tree: BlockTree,
    /// Of a file of one block, or one that was read as a whole.
    digest: Option<Hash>,
    check: Option<Check>,
    /// Up to here there may be something in the file that its journal does not speak of.
    dirty: u64,
    unsynced: u64,
    /// The disk takes what was written before, while more comes.
    syncing: Option<JoinHandle<io::Result<()>>>,
}

/// What is on disk already, being compared with what is known of it.
#[derive(Debug)]
enum Check {
    /// Block by block, with the values in the journal.
    Blocks(Records),
    /// Nothing is known; the source will say whether the digest is right.
    Whole { hasher: Box<blake3::Hasher>, block: u64 },
}

/// What became of a block that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// It is in the file now: so many bytes of it.
    New(usize),
    /// It was there already.
    Known,
    /// Its value does not fit.
    Damaged,
}

impl Receiving {
    /// A file to go on with, if its journal is `known`, or to begin.
    pub(crate) fn begin(
        entry: Entry,
        dir: Dir,
        name: String,
        data: File,
        journal: Option<(Journal, bool)>,
        block_size: u32,
    ) -> io::Result<Self> {
        let known = journal.as_ref().is_some_and(|(_, known)| *known);
        if !known {
            data.set_len(0)?;
        }
        let check = match &journal {
            Some((journal, true)) => Some(Check::Blocks(journal.records()?)),
            _ => None,
        };
        let dirty = if known { data.metadata()?.len() } else { 0 };
        let journal = journal.map(|(journal, _)| journal);
        Ok(Self { check, dirty, ..Self::new(entry, dir, name, data, journal, block_size) })
    }

    /// A file that seems to be complete.
    pub(crate) fn complete(entry: Entry, dir: Dir, name: String, data: File, block_size: u32) -> Self {
        let check = Some(Check::Whole { hasher: Box::default(), block: 0 });
        Self { check, ..Self::new(entry, dir, name, data, None, block_size) }
    }

    fn new(
        entry: Entry,
        dir: Dir,
        name: String,
        data: File,
        journal: Option<Journal>,
        block_size: u32,
    ) -> Self {
        let size = entry.size;
        Self {
            entry,
            dir,
            name,
            data,
            journal,
            block_size,
            size,
            have: Ranges::default(),
            tree: BlockTree::default(),
            digest: None,
            check: None,
            dirty: 0,
            unsynced: 0,
            syncing: None,
        }
    }

    /// Compares a part of what is on disk with what is known of it. Gives the bytes that proved right; `None` when there is
    /// nothing left to compare.
    pub(crate) fn check(&mut self) -> io::Result<Option<u64>> {
        let Some(mut check) = self.check.take() else { return Ok(None) };
        let (mut good, mut buffer, mut looked) = (0, Vec::new(), 0);
        let size = self.size.unwrap_or(u64::MAX);
        while looked < CHECK_BYTES {
            match &mut check {
                Check::Blocks(records) => {
                    let Some(record) = records.next() else { return Ok(Some(good)) };
                    let Record::Block(block, value) = record? else { continue };
                    let Some(len) = block_len(size, self.block_size, block) else { continue };
                    // The last block of a file of unknown size is not told from one that is torn; it comes again.
                    let offset = block * u64::from(self.block_size);
                    looked += len as u64;
                    if read_plain(&self.data, &self.entry, offset, len, &mut buffer).is_err() {
                        continue;
                    }
                    if block_value(offset, &buffer) == value && self.have.insert(block) {
                        self.take(block, value, || blake3::hash(&buffer).into());
                        good += len as u64;
                    }
                }
                Check::Whole { hasher, block } => {
                    let Some(len) = block_len(size, self.block_size, *block) else {
                        self.digest = Some(hasher.finalize().into());
                        return Ok(Some(good));
                    };
                    let offset = *block * u64::from(self.block_size);
                    read_plain(&self.data, &self.entry, offset, len, &mut buffer)
                        .map_err(io::Error::other)?;
                    hasher.update(&buffer);
                    self.have.insert(*block);
                    (*block, looked, good) = (*block + 1, looked + len as u64, good + len as u64);
                }
            }
        }
        self.check = Some(check);
        Ok(Some(good))
    }

    /// Takes a block as it arrived: its value, and its bytes unless it is a hole.
    pub(crate) fn write(&mut self, block: u64, payload: &Bytes) -> Result<Written, TransferError> {
        let offset = block.saturating_mul(self.block_size.into());
        let (value, bytes) = payload.split_at_checked(VALUE_LEN).ok_or_else(|| self.mismatch(block))?;
        let len = match block_len(self.size.unwrap_or(u64::MAX), self.block_size, block) {
            Some(len) if bytes.is_empty() || bytes.len() == len => len,
            _ => return Err(self.mismatch(block)),
        };
        let known = match bytes {
            [] => hole_value(offset, len),
            bytes => block_value(offset, bytes),
        };
        if known != value {
            return Ok(Written::Damaged);
        }
        if self.have.gap(block) != block {
            return Ok(Written::Known);
        }
        self.put(offset, len, bytes).map_err(|error| self.explain(&error))?;
        self.have.insert(block);
        self.take(block, known, || match bytes {
            [] => hole_digest(len),
            bytes => blake3::hash(bytes).into(),
        });
        self.unsynced += bytes.len() as u64;
        if let Some(journal) = &mut self.journal {
            journal.push(Record::Block(block, known));
        }
        Ok(Written::New(len))
    }

    fn put(&self, offset: u64, len: usize, bytes: &[u8]) -> io::Result<()> {
        match bytes {
            [] if offset < self.dirty => self.data.write_all_at(&vec![0; len], offset),
            [] => Ok(()),
            bytes => self.data.write_all_at(bytes, offset),
        }
    }

    fn take(&mut self, block: u64, value: Hash, digest: impl FnOnce() -> Hash) {
        if self.size.is_some_and(|size| block_count(size, self.block_size) == 1)
            || (self.size.is_none() && block == 0)
        {
            self.digest = Some(digest());
        }
        self.tree.insert(block, value);
    }

    /// The source has ended, and is this long.
    pub(crate) fn learn_size(&mut self, size: u64) -> Result<(), TransferError> {
        if self.size.is_some_and(|known| known != size) {
            return Err(self.mismatch(0));
        }
        self.size = Some(size);
        Ok(())
    }

    /// Gives the journal what was written, and lets the disk have both, if enough has come together.
    pub(crate) fn flush(&mut self, every: u64) -> Result<(), TransferError> {
        let flush = |this: &mut Self| {
            if let Some(journal) = &mut this.journal {
                journal.write()?;
            }
            if this.unsynced >= every {
                this.synced()?;
                let data = this.data.try_clone()?;
                let journal = this.journal.as_ref().map(Journal::file).transpose()?;
                this.syncing = Some(tokio::task::spawn_blocking(move || {
                    data.sync_data()?;
                    journal.map_or(Ok(()), |journal| journal.sync_data())
                }));
                this.unsynced = 0;
            }
            Ok(())
        };
        flush(self).map_err(|error| self.explain(&error))
    }

    /// Waits until the disk has what it was given before, so that it is never further behind than that.
    fn synced(&mut self) -> io::Result<()> {
        let Some(syncing) = self.syncing.take() else { return Ok(()) };
        tokio::runtime::Handle::current()
            .block_on(syncing)
            .unwrap_or_else(|broken| Err(io::Error::other(broken)))
    }

    /// Blocks that are in the file.
    pub(crate) fn have(&self) -> &Ranges {
        &self.have
    }

    pub(crate) fn size(&self) -> Option<u64> {
        self.size
    }

    /// The digest of the whole file, if it is complete.
    pub(crate) fn digest(&self) -> Option<Hash> {
        let blocks = block_count(self.size?, self.block_size);
        match blocks {
            0 => Some(blake3::hash(&[]).into()),
            _ if self.check.is_some() || self.have.count() != blocks => None,
            1 => self.digest,
            _ => self.digest.filter(|_| self.tree.blocks() == 0).or_else(|| self.tree.root(blocks)),
        }
    }

    /// Gives a complete file its size, permissions and time, and the disk all of it if it is worth the wait here.
    pub(crate) fn close(&mut self, sync: bool) -> Result<(), TransferError> {
        let close = |this: &mut Self| {
            let size = this.size.unwrap_or(0);
            if this.data.metadata()?.len() != size {
                this.data.set_len(size)?;
            }
            dress(&this.data, &this.entry)?;
            this.synced()?;
            if sync {
                this.data.sync_all()?;
            }
            Ok(())
        };
        close(self).map_err(|error| self.explain(&error))
    }

    fn mismatch(&self, block: u64) -> TransferError {
        let text = format!("block {block} of '{}' has not the size that the file has", self.entry.path);
        TransferError::here(Reason::SizeMismatch, text)
    }

    pub(crate) fn explain(&self, error: &io::Error) -> TransferError {
        TransferError::io(format_args!("'{}'", self.entry.path), error)
    }
}

/// Bytes that are compared at once, so that progress shows.
const CHECK_BYTES: u64 = 32 << 20;
