//! Sizes, patience and places of transfers.

use std::{path::PathBuf, time::Duration};

use super::wire::{MAX_BLOCK, MIN_BLOCK};

/// How the transfers of a cell behave. The defaults are those of the documentation of each field.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransferConfig {
    /// Where files that others send go. Nowhere: offers are refused.
    pub inbox: Option<InboxConfig>,
    /// What others may fetch: everything below this directory, except partial files. Nothing.
    pub outbox: Option<PathBuf>,
    /// Bytes of blocks that one transfer to this cell has asked for and not written yet. 4 MiB.
    pub window: usize,
    /// Bytes of the blocks of files that this cell sends; a power of two from 64 KiB to 1 MiB, others are rounded up.
    /// 256 KiB.
    pub block_size: usize,
    /// Memory for blocks that were read and may be asked for again by other receivers. 16 MiB.
    pub cache: usize,
    /// Memory for blocks that were read and are on their way, beyond the cache. 32 MiB.
    pub in_flight: usize,
    /// How long a transfer waits without any progress before it gives up, links that come and go included. 5 min.
    pub patience: Duration,
    /// A block is asked for once more if no block came for so long; the time doubles while that does not help, and is
    /// never less than twice the longest pause between two blocks. 15 s.
    pub block_patience: Duration,
    /// Bytes that all transfers to this cell have asked for and not written yet, beyond two blocks for each. 64 MiB.
    pub windows: usize,
    /// Memory for the names of files: of manifests that others may fetch, and of those that are coming. 128 MiB, which is
    /// enough for some 400,000.
    pub names: usize,
    /// Files and directories of one transfer. 100,000.
    pub max_entries: usize,
    /// Transfers that this cell has open in each direction. 1,024; a quarter of them for one other cell.
    pub max_transfers: usize,
    /// Bytes that are written between two flushes to the disk. 64 MiB.
    pub flush_every: u64,
}

impl Default for TransferConfig {
    fn default() -> Self {
        Self {
            inbox: None,
            outbox: None,
            window: 4 << 20,
            block_size: 256 << 10,
            cache: 16 << 20,
            in_flight: 32 << 20,
            patience: Duration::from_secs(300),
            block_patience: Duration::from_secs(15),
            windows: 64 << 20,
            names: 128 << 20,
            max_entries: 100_000,
            max_transfers: 1024,
            flush_every: 64 << 20,
        }
    }
}

impl TransferConfig {
    /// The defaults, with an inbox.
    pub fn with_inbox(dir: impl Into<PathBuf>) -> Self {
        Self { inbox: Some(InboxConfig::new(dir)), ..Self::default() }
    }

    pub(crate) fn block(&self) -> u32 {
        let size = self.block_size.clamp(MIN_BLOCK as usize, MAX_BLOCK as usize).next_power_of_two();
        u32::try_from(size).expect("at most MAX_BLOCK")
    }
}

/// The directory that takes what others send.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InboxConfig {
    /// The directory; made with mode 0700 if it is absent. Symbolic links below it are not followed.
    pub dir: PathBuf,
    /// Bytes that may be in it, holes counted as if they were bytes. No limit.
    pub quota: Option<u64>,
    /// Partial files that nobody wrote to for so long are removed. 7 days.
    pub partial_max_age: Duration,
}

impl InboxConfig {
    /// An inbox without a quota.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), quota: None, partial_max_age: Duration::from_secs(7 * 86_400) }
    }
}

/// What a sender wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SendOptions {
    /// Replace files that are there already. Otherwise the transfer is refused.
    pub overwrite: bool,
    /// Leave out what is neither a file nor a directory, symbolic links included. Otherwise it is an error.
    pub skip_special: bool,
}

impl SendOptions {
    /// The same with another answer to whether files that are there are replaced.
    pub fn overwrite(mut self, overwrite: bool) -> Self {
        self.overwrite = overwrite;
        self
    }

    /// The same with another answer to whether special files are left out.
    pub fn skip_special(mut self, skip: bool) -> Self {
        self.skip_special = skip;
        self
    }
}

/// What somebody who fetches wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FetchOptions {
    /// Replace files that are there already. Otherwise the transfer ends with [`Exists`](super::Reason::Exists).
    pub overwrite: bool,
}

impl FetchOptions {
    /// The same with another answer to whether files that are there are replaced.
    pub fn overwrite(mut self, overwrite: bool) -> Self {
        self.overwrite = overwrite;
        self
    }
}
