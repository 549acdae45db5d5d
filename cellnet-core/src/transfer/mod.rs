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

mod asker;
mod blocks;
mod config;
mod digest;
mod dir;
mod error;
mod fetch;
mod handle;
mod inbox;
mod job;
mod journal;
mod limits;
mod live;
mod manifest;
mod offered;
mod offers;
mod path;
mod placed;
mod progress;
mod pull;
mod ranges;
mod receipt;
mod receiving;
mod rival;
mod send;
mod serve;
mod shared;
mod sink;
mod staging;
mod wire;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::broadcast,
};
use tokio_util::{sync::DropGuard, task::TaskTracker};

use self::{
    blocks::Blocks, dir::Dir, handle::Runner, inbox::Inbox, limits::Limits, offers::Offers, shared::Shared,
    sink::blocking,
};
pub use self::{
    blocks::TransferStats,
    config::{FetchOptions, InboxConfig, SendOptions, TransferConfig},
    error::{Reason, TransferError},
    handle::{Arrival, Arrivals, Finishing, Incoming, Outgoing, Running},
    progress::{Phase, Progress},
    receipt::Receipt,
    wire::{
        BLOCK, BlockAsk, CANCEL, CHANNEL, DONE, FRESH, Hash, LENGTH, LIST, LIVE, MAX_BLOCK, MIN_BLOCK, OFFER,
        OPEN, PENDING, REASON, SAFE, Token, VALUE_LEN,
    },
};
use crate::{cell::Cell, fqcn::Fqcn};

/// The transfers of a cell. Clones are the same. It keeps the cell alive, and everything it does ends with the last clone.
#[derive(Clone)]
pub struct Transfers {
    shared: Arc<Shared>,
    /// Running transfers hold what is shared, so it takes this to end them.
    _stop: Arc<DropGuard>,
}

impl Transfers {
    /// Lets a cell send and fetch, and take and give files if the configuration says so. Makes the inbox if it is absent.
    /// A second call for the same cell replaces the first for what others ask.
    pub async fn attach(cell: &Cell, config: TransferConfig) -> Result<Self, TransferError> {
        let (inbox, outbox) = (config.inbox.clone(), config.outbox.clone());
        let (inbox, outbox) = blocking(move || {
            let inbox = inbox.map(|inbox| Inbox::open(inbox).map(Arc::new)).transpose()?;
            let outbox = outbox.map(|dir| {
                let explain = |error| TransferError::io(format_args!("outbox '{}'", dir.display()), &error);
                Dir::open(&dir).map(Arc::new).map_err(explain)
            });
            Ok((inbox, outbox.transpose()?))
        })
        .await?;
        let stop = cell.inner().kill.child_token();
        let shared = Arc::new(Shared {
            cell: cell.clone(),
            offers: Offers::new(config.max_transfers),
            blocks: Arc::new(Blocks::new(&config)),
            limits: Limits::new(&config),
            config: Arc::new(config),
            inbox,
            outbox,
            pulls: Default::default(),
            arrivals: broadcast::channel(ARRIVALS).0,
            stop,
            tasks: TaskTracker::new(),
        });
        serve::register(&shared);
        tokio::spawn(shared::keep_house(Arc::downgrade(&shared), shared.stop.clone()));
        let stop = shared.stop.clone().drop_guard();
        Ok(Self { shared, _stop: Arc::new(stop) })
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
        let mut sent = self.send_many(paths, std::slice::from_ref(target), remote_path, options);
        sent.pop().expect("one for each target")
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
        let paths = paths.into_iter().map(Into::into).collect();
        let (runners, running) = targets.iter().map(|_| self.running()).unzip::<_, _, Vec<_>, Vec<_>>();
        let targets = targets.iter().cloned().zip(runners).collect();
        let shared = self.shared.clone();
        self.shared.tasks.spawn(send::send_files(shared, paths, remote_path.into(), options, targets));
        running
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
        let (runner, running) = self.running();
        let (shared, target, remote) = (self.shared.clone(), target.clone(), remote_path.into());
        self.shared.tasks.spawn(send::send_reader(shared, reader, remote, options, target, runner));
        running
    }

    /// Fetches a file or directory of another cell's outbox into a local directory, which must exist. It gets the name that
    /// it has there. An empty path means everything in the outbox.
    pub fn fetch(
        &self,
        target: &Fqcn,
        remote_path: &str,
        local_dir: impl Into<PathBuf>,
        options: FetchOptions,
    ) -> Incoming {
        let (runner, running) = self.running();
        let (shared, target, remote) = (self.shared.clone(), target.clone(), remote_path.into());
        self.shared.tasks.spawn(fetch::fetch(shared, target, remote, local_dir.into(), options, runner));
        running
    }

    /// Fetches one file of another cell's outbox into a writer, in order. It cannot be taken up again by another process, and
    /// what was written before an error stays written.
    pub fn fetch_into(
        &self,
        target: &Fqcn,
        remote_path: &str,
        writer: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Incoming {
        let (runner, running) = self.running();
        let (shared, target, remote) = (self.shared.clone(), target.clone(), remote_path.into());
        self.shared.tasks.spawn(fetch::fetch_into(shared, target, remote, writer, runner));
        running
    }

    /// What others sent to this cell's inbox, from now on.
    pub fn arrivals(&self) -> Arrivals {
        Arrivals { events: self.shared.arrivals.subscribe() }
    }

    /// What the source's side did, for whoever wants to see that files are read once.
    pub fn stats(&self) -> TransferStats {
        self.shared.blocks.stats()
    }

    /// Ends all transfers of this cell and waits until they have told the other sides, for some seconds at most. Partial
    /// files stay for the next time.
    pub async fn shutdown(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        let _ = tokio::time::timeout(FAREWELL, self.shared.tasks.wait()).await;
        self.shared.offers.clear();
    }

    fn running(&self) -> (Runner, Running) {
        handle::running(&self.shared.stop)
    }
}

impl fmt::Debug for Transfers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transfers")
            .field("cell", self.shared.cell.name())
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}

/// Arrivals that somebody who listens may be behind.
const ARRIVALS: usize = 256;
/// How long transfers have to tell the other sides that they end.
const FAREWELL: Duration = Duration::from_secs(5);
