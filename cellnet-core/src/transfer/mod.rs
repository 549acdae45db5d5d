//! Files and directories that arrive whole: verified block by block, resumed after anything, and acknowledged.
//!
//! Whoever asked for it, the receiver (the *sink*) pulls blocks from the *source*. A block travels with its BLAKE3
//! chaining value, so it is checked when it arrives, and the digests of whole files follow from those of their blocks.
//! What is on disk is known by a journal beside it: a sink asks only for what is missing, whatever happened to links
//! and processes in between. At the end the source compares digests, and only then files get their names.
//!
//! ```no_run
//! # use cellnet_core::{cell::Cell, transfer::{SendOptions, TransferConfig, Transfers}};
//! # async fn example(hospital: Cell, server: Cell) -> Result<(), Box<dyn std::error::Error>> {
//! let _inbox = Transfers::attach(&server, TransferConfig::with_inbox("inbox")).await?;
//!
//! let transfers = Transfers::attach(&hospital, TransferConfig::default()).await?;
//! let sending = transfers.send(["model.safetensors"], server.name(), "site-1/", SendOptions::default());
//! let receipt = sending.receipt().await?;
//! println!("{receipt}");
//! # Ok(()) }
//! ```

mod config;
mod error;
mod handle;
mod progress;
mod receipt;
mod wire;

use std::{fmt, path::PathBuf, sync::Arc};

use tokio::io::{AsyncRead, AsyncWrite};

pub use self::{
    config::{FetchOptions, InboxConfig, SendOptions, TransferConfig},
    error::{Reason, TransferError},
    handle::{Arrival, Arrivals, Incoming, Outgoing},
    progress::{Phase, Progress},
    receipt::Receipt,
    wire::{
        BLOCK, BlockAsk, CANCEL, CHANNEL, DONE, FRESH, Hash, LENGTH, LIST, LIVE, MAX_BLOCK, MIN_BLOCK, OFFER, OPEN,
        PENDING, REASON, SAFE, Token, VALUE_LEN,
    },
};
use crate::{cell::Cell, fqcn::Fqcn};

/// The transfers of a cell. Clones are the same. It keeps the cell alive, and everything it does ends with the last clone.
#[derive(Clone)]
pub struct Transfers {
    cell: Cell,
    config: Arc<TransferConfig>,
}

impl Transfers {
    /// Lets a cell send and fetch, and take and give files if the configuration says so. Makes the inbox if it is absent.
    /// A cell has this at most once; a second one replaces the first for what others ask.
    pub async fn attach(cell: &Cell, config: TransferConfig) -> Result<Self, TransferError> {
        Ok(Self { cell: cell.clone(), config: Arc::new(config) })
    }

    /// Sends files and directories to another cell.
    ///
    /// `remote_path` is a path below its inbox: with a slash at its end, or empty, the directory that takes them; else, for
    /// one source, the name that it gets.
    pub fn send(
        &self,
        paths: impl IntoIterator<Item = impl Into<PathBuf>>,
        target: &Fqcn,
        remote_path: &str,
        options: SendOptions,
    ) -> Outgoing {
        let _ = (paths.into_iter().map(Into::<PathBuf>::into).count(), target, remote_path, options);
        handle::unfinished()
    }

    /// [`send`](Self::send) to several cells; one transfer for each, in this order. The source is read once as long as they
    /// keep within the cache of each other.
    pub fn send_many(
        &self,
        paths: impl IntoIterator<Item = impl Into<PathBuf>>,
        targets: &[Fqcn],
        remote_path: &str,
        options: SendOptions,
    ) -> Vec<Outgoing> {
        let _ = (paths.into_iter().map(Into::<PathBuf>::into).count(), remote_path, options);
        targets.iter().map(|_| handle::unfinished()).collect()
    }

    /// Sends what a reader gives, of any length, as one file. `remote_path` is its name below the inbox.
    ///
    /// Blocks are kept until the receiver has them, so lost links and a receiver that starts again do no harm; but if this
    /// process ends the transfer cannot be taken up again.
    pub fn send_reader(
        &self,
        reader: impl AsyncRead + Send + Unpin + 'static,
        target: &Fqcn,
        remote_path: &str,
        options: SendOptions,
    ) -> Outgoing {
        let _ = (reader, target, remote_path, options);
        handle::unfinished()
    }

    /// Fetches a file or directory of another cell's outbox into a local directory, which must exist. It gets the name that
    /// it has there.
    pub fn fetch(
        &self,
        target: &Fqcn,
        remote_path: &str,
        local_dir: impl Into<PathBuf>,
        options: FetchOptions,
    ) -> Incoming {
        let _ = (target, remote_path, local_dir.into(), options);
        handle::unfinished()
    }

    /// Fetches one file of another cell's outbox into a writer, in order. It cannot be taken up again by another process.
    pub fn fetch_into(
        &self,
        target: &Fqcn,
        remote_path: &str,
        writer: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Incoming {
        let _ = (target, remote_path, writer);
        handle::unfinished()
    }

    /// What others sent to this cell's inbox, from now on.
    pub fn arrivals(&self) -> Arrivals {
        handle::no_arrivals()
    }

    /// Ends all transfers of this cell and waits until they have told the other sides, for some seconds at most. Partial
    /// files stay for the next time.
    pub async fn shutdown(&self) {}
}

impl fmt::Debug for Transfers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transfers")
            .field("cell", self.cell.name())
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
