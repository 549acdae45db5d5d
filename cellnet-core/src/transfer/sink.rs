//! Pulls everything of one offer to the disk: asks ahead as far as the window goes, and goes on as fast as the disk takes it.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    task::JoinHandle,
    time::{sleep_until, timeout},
};

use super::{
    Phase, Reason, Receipt, TransferConfig, TransferError,
    asker::Asker,
    blocks::block_count,
    dir::Dir,
    inbox::Room,
    job::{Did, Job},
    limits::{self, Limits, Share},
    path::RelPath,
    pull::Pull,
    ranges::Ranges,
    staging::{Arrived, Staging},
    wire::{Done, Entry, LENGTH, Offer, Page, VALUE_LEN},
};
use crate::{message::Message, stats::Reservation};

/// Pulls one offer into a directory.
pub(crate) struct Sink {
    pub(crate) asker: Arc<Asker>,
    pub(crate) pull: Arc<Pull>,
    pub(crate) offer: Offer,
    pub(crate) root: Arc<Dir>,
    pub(crate) path: RelPath,
    pub(crate) config: Arc<TransferConfig>,
    pub(crate) limits: Limits,
    /// What may be written, if that has a limit.
    pub(crate) room: Option<Room>,
}

impl Sink {
    /// Does all of it. The source is told how it ended; the outcome is known to the [`Pull`] before that.
    pub(crate) async fn run(self) -> Result<Receipt, TransferError> {
        let outcome = self.transfer().await;
        self.pull.gone.cancel();
        self.pull.end(outcome.clone());
        // A receiver that stops may be back before the sender's patience ends.
        if let Err(error) = &outcome
            && error.reason() != Reason::ShuttingDown
        {
            self.asker.failed(error).await;
        }
        self.pull.close();
        outcome
    }

    async fn transfer(&self) -> Result<Receipt, TransferError> {
        self.pull.announce(self.offer.bytes, self.offer.files.into());
        let (root, path, offer) = (self.root.clone(), self.path.clone(), self.offer.clone());
        let allowed = self.room.as_ref().map_or(u64::MAX, |room| room.bytes);
        let flush_every = self.config.flush_every;
        let staging = blocking(move || {
            let mut staging = Staging::open(&root, &path, offer, flush_every)?;
            staging.allowed = allowed;
            Ok(staging)
        });
        let staging = self.patiently(staging).await?;
        let mut staging = Flow::new(self, staging).run().await?;
        self.pull.did(staging.safe, staging.resumed, Phase::Settling);
        let receipt = staging.receipt()?;
        let mut done =
            Done { token: self.offer.token, placed: false, receipt: Some(receipt.clone()), failure: None };
        if let Err(error) = self.patiently(self.asker.done(&done)).await {
            if error.reason() == Reason::Corrupt {
                blocking(move || {
                    staging.wipe();
                    Ok(())
                })
                .await?;
            }
            return Err(error);
        }
        let digest = receipt.digest;
        let placing = blocking(move || {
            staging.place(digest)?;
            Ok(staging)
        });
        let mut staging = self.says_so(placing).await?;
        // Everything is there, whether or not the source gets to know it.
        self.pull.end(Ok(receipt.clone()));
        self.pull.did(staging.safe, staging.resumed, Phase::Over);
        done.placed = true;
        loop {
            let source = self.pull.source();
            if self.asker.placed(&done).await {
                // A sender that began again in this moment is told as well.
                if self.pull.close_for(&source) {
                    break;
                }
            } else if self.asker.fetches() {
                // It is here, whatever the source knows.
                break;
            } else {
                tracing::warn!(path = %self.path, "the source may not know that all has arrived");
                return Ok(receipt);
            }
        }
        blocking(move || {
            staging.forget();
            Ok(())
        })
        .await?;
        Ok(receipt)
    }

    /// Waits for the disk, which may take long to have everything for good, and lets the source know that this one lives.
    async fn says_so<T>(
        &self,
        disk: impl Future<Output = Result<T, TransferError>>,
    ) -> Result<T, TransferError> {
        let mut disk = std::pin::pin!(disk);
        for _ in 0..MOST_SIGNS {
            match timeout(self.config.patience / 4, disk.as_mut()).await {
                Ok(done) => return done,
                Err(_) => self.pull.touch(),
            }
        }
        disk.await
    }

    /// Waits as long as there is progress, and until the transfer is stopped.
    async fn patiently<T>(
        &self,
        wait: impl Future<Output = Result<T, TransferError>>,
    ) -> Result<T, TransferError> {
        tokio::select! {
            biased;
            () = self.pull.stopped.cancelled() => Err(self.pull.why()),
            done = wait => done,
            error = self.stalled() => Err(error),
        }
    }

    /// Ends when there was no progress for too long.
    async fn stalled(&self) -> TransferError {
        let patience = self.config.patience;
        loop {
            let deadline = self.pull.last_progress() + patience;
            if deadline <= tokio::time::Instant::now() {
                return TransferError::here(Reason::Stalled, format!("no progress for {patience:?}"));
            }
            sleep_until(deadline).await;
        }
    }
}

/// The middle of a transfer: from the first page of the manifest to the last block.
struct Flow<'a> {
    sink: &'a Sink,
    disk: Disk,
    /// Entries that were listed and not begun.
    listed: VecDeque<(u32, Entry)>,
    next_listed: u32,
    listing: Option<BoxFuture<'a, Result<Page, TransferError>>>,
    wanted: VecDeque<Want>,
    /// Blocks to be fetched once more.
    again: VecDeque<(u32, u64)>,
    damaged: HashMap<(u32, u64), u32>,
    flying: FuturesUnordered<BoxFuture<'a, Flown>>,
    arrived: Vec<Arrived>,
    lengths: Vec<(u32, u64)>,
    /// Files of unknown length, and what is safe of them.
    live: HashMap<u32, u64>,
    /// Blocks asked for and not written.
    outstanding: usize,
    window: usize,
    share: Share,
    /// What is listed.
    names: Reservation,
}

/// File, block, and what came of asking for it.
type Flown = (u32, u64, Result<Message, TransferError>);

/// What is left to be asked for of one file.
struct Want {
    file: u32,
    have: Ranges,
    blocks: Option<u64>,
    next: u64,
}

enum Disk {
    Idle(Box<Staging>),
    Busy(JoinHandle<(Box<Staging>, Result<Did, TransferError>)>),
    Gone,
}

impl<'a> Flow<'a> {
    fn new(sink: &'a Sink, staging: Staging) -> Self {
        let window = (sink.config.window / sink.offer.block as usize).clamp(2, MAX_WINDOW);
        Self {
            sink,
            disk: Disk::Idle(Box::new(staging)),
            listed: VecDeque::new(),
            next_listed: 0,
            listing: None,
            wanted: VecDeque::new(),
            again: VecDeque::new(),
            damaged: HashMap::new(),
            flying: FuturesUnordered::new(),
            arrived: Vec::new(),
            lengths: Vec::new(),
            live: HashMap::new(),
            outstanding: 0,
            window,
            share: Share::new(&sink.limits.windows, sink.offer.block as usize),
            names: limits::nothing(&sink.limits.names),
        }
    }

    async fn run(mut self) -> Result<Staging, TransferError> {
        let mut checking = None;
        loop {
            if let Err(error) = self.step(&mut checking).await {
                // The disk finishes what it does, so that whoever comes next finds it free. One that hangs is left to itself.
                if let Disk::Busy(job) = std::mem::replace(&mut self.disk, Disk::Gone) {
                    let _ = timeout(self.sink.config.patience, job).await;
                }
                return Err(error);
            }
            if let Disk::Idle(staging) = &self.disk
                && staging.complete() == self.sink.offer.entries
                && self.outstanding == 0
            {
                match std::mem::replace(&mut self.disk, Disk::Gone) {
                    Disk::Idle(mut staging) => {
                        staging.names = Some(self.names);
                        return Ok(*staging);
                    }
                    other => self.disk = other,
                }
            }
        }
    }

    /// Starts what can be started, and takes one thing that has happened.
    async fn step(&mut self, checking: &mut Option<u32>) -> Result<(), TransferError> {
        self.ask();
        self.list();
        self.start_job(checking);
        let sink = self.sink;
        let busy = matches!(self.disk, Disk::Busy(_));
        if !busy && self.flying.is_empty() && self.listing.is_none() {
            return match self.disk {
                Disk::Idle(ref staging) if staging.complete() == sink.offer.entries => Ok(()),
                _ => {
                    Err(TransferError::here(Reason::SizeMismatch, "the manifest ends before the offer does"))
                }
            };
        }
        tokio::select! {
            biased;
            () = sink.pull.stopped.cancelled() => Err(sink.pull.why()),
            done = job_of(&mut self.disk), if busy => {
                let (staging, did) = done?;
                self.account(&staging);
                self.disk = Disk::Idle(staging);
                *checking = self.take(did?)?;
                Ok(())
            }
            Some((file, block, reply)) = self.flying.next(), if !self.flying.is_empty() => {
                self.arrive(file, block, &reply?)
            }
            page = page_of(&mut self.listing), if self.listing.is_some() => {
                self.listing = None;
                self.turn_page(page?)
            }
            error = sink.stalled() => Err(error),
        }
    }

    /// Asks for blocks while the window has room.
    fn ask(&mut self) {
        while self.outstanding < self.window && self.share.allows(self.outstanding) {
            let (file, block, damaged) = match self.again.pop_front() {
                Some((file, block)) => (file, block, true),
                None => match self.next_block() {
                    Some((file, block)) => (file, block, false),
                    None => return self.share.settle(self.outstanding),
                },
            };
            let asker = self.sink.asker.clone();
            let safe = self.live.get(&file).copied();
            self.flying.push(Box::pin(async move {
                let reply = asker.block(file, block, damaged, safe).await;
                (file, block, reply)
            }));
            self.outstanding += 1;
        }
    }

    /// So many blocks need not be waited for any more.
    fn answered(&mut self, blocks: usize) {
        self.outstanding -= blocks;
        self.share.settle(self.outstanding);
    }

    fn next_block(&mut self) -> Option<(u32, u64)> {
        loop {
            let want = self.wanted.front_mut()?;
            let block = want.have.gap(want.next);
            if want.blocks.is_some_and(|blocks| block >= blocks) {
                self.wanted.pop_front();
                continue;
            }
            want.next = block + 1;
            return Some((want.file, block));
        }
    }

    /// Gets the next page of the manifest before it is needed.
    fn list(&mut self) {
        if self.listing.is_none()
            && self.listed.len() < LISTED_AHEAD
            && self.next_listed < self.sink.offer.entries
        {
            let (asker, from) = (self.sink.asker.clone(), self.next_listed);
            self.listing = Some(Box::pin(async move { asker.list(from).await }));
        }
    }

    fn turn_page(&mut self, page: Page) -> Result<(), TransferError> {
        let left = self.sink.offer.entries - self.next_listed;
        let listed = u32::try_from(page.entries.len()).unwrap_or(u32::MAX);
        if listed == 0 || listed > left {
            let text = format!("a page of {listed} entries of the manifest where {left} are left");
            return Err(TransferError::here(Reason::SizeMismatch, text));
        }
        let cost = limits::memory(page.entries.iter());
        if !self.names.grow(cost) {
            return Err(limits::too_many_names(&self.sink.limits.names));
        }
        self.listed.extend((self.next_listed..).zip(page.entries));
        self.next_listed += listed;
        Ok(())
    }

    fn start_job(&mut self, checking: &mut Option<u32>) {
        let begin = self.wanted.len() < FILES_AHEAD && (checking.is_some() || !self.listed.is_empty());
        let nothing = !begin && self.arrived.is_empty() && self.lengths.is_empty();
        if nothing || !matches!(self.disk, Disk::Idle(_)) {
            return;
        }
        let Disk::Idle(mut staging) = std::mem::replace(&mut self.disk, Disk::Gone) else { return };
        let mut job = Job {
            arrived: std::mem::take(&mut self.arrived),
            lengths: std::mem::take(&mut self.lengths),
            live: self.live.keys().copied().collect(),
            ..Job::default()
        };
        job.checking = checking.take();
        if begin {
            let room = self.listed.len().min(FILES_AHEAD);
            job.entries = self.listed.drain(..room).collect();
        }
        self.disk = Disk::Busy(tokio::task::spawn_blocking(move || {
            let did = job.run(&mut staging);
            (staging, did)
        }));
    }

    fn account(&self, staging: &Staging) {
        if let Some(room) = &self.sink.room {
            room.wrote(staging.received);
        }
        self.sink.pull.did(staging.safe, staging.resumed, Phase::Moving);
    }

    /// Takes what the disk did. Gives the file that is still being compared.
    fn take(&mut self, did: Did) -> Result<Option<u32>, TransferError> {
        self.answered(did.written + did.damaged.len());
        for at in did.damaged {
            let times = self.damaged.entry(at).or_default();
            *times += 1;
            if *times >= DAMAGED_AT_MOST {
                let text = format!("block {} of file {} came damaged {times} times", at.1, at.0);
                return Err(TransferError::here(Reason::Corrupt, text));
            }
            tracing::warn!(file = at.0, block = at.1, "a block came damaged and is asked for again");
            self.again.push_back(at);
        }
        for entry in did.entries.into_iter().rev() {
            self.listed.push_front(entry);
        }
        self.live.extend(did.safe);
        for wanted in did.wanted {
            if wanted.size.is_none() {
                self.live.insert(wanted.file, wanted.have.gap(0));
            }
            let blocks = wanted.size.map(|size| block_count(size, self.sink.offer.block));
            self.wanted.push_back(Want { file: wanted.file, have: wanted.have, blocks, next: 0 });
        }
        Ok(did.checking)
    }

    fn arrive(&mut self, file: u32, block: u64, reply: &Message) -> Result<(), TransferError> {
        // It is not kept until the disk has time to look at it.
        if reply.payload.len() > VALUE_LEN + self.sink.offer.block as usize {
            let text = format!("block {block} of file {file} came with {} bytes", reply.payload.len());
            return Err(TransferError::here(Reason::SizeMismatch, text));
        }
        if let Some(length) = self.live.get(&file).and_then(|_| reply.headers.uint(LENGTH)) {
            self.learn_length(file, length);
            if block >= block_count(length, self.sink.offer.block) {
                self.answered(1);
                return Ok(());
            }
        }
        self.arrived.push(Arrived { file, block, payload: reply.payload.to_bytes() });
        Ok(())
    }

    fn learn_length(&mut self, file: u32, length: u64) {
        self.lengths.push((file, length));
        self.sink.pull.announce(Some(length), 1);
        let blocks = Some(block_count(length, self.sink.offer.block));
        self.wanted.iter_mut().filter(|want| want.file == file).for_each(|want| want.blocks = blocks);
    }
}

async fn job_of(disk: &mut Disk) -> Result<(Box<Staging>, Result<Did, TransferError>), TransferError> {
    let Disk::Busy(job) = disk else { return std::future::pending().await };
    job.await.map_err(|_| TransferError::here(Reason::Io, "writing was broken off"))
}

async fn page_of(
    listing: &mut Option<BoxFuture<'_, Result<Page, TransferError>>>,
) -> Result<Page, TransferError> {
    match listing {
        Some(listing) => listing.await,
        None => std::future::pending().await,
    }
}

/// Does what takes a disk off the runtime's threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TransferError> + Send + 'static,
) -> Result<T, TransferError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(TransferError::here(Reason::Io, "work on the disk was broken off")))
}

/// Blocks in flight at most, however small they are.
const MAX_WINDOW: usize = 256;
/// Entries of the manifest that are known before they are needed.
const LISTED_AHEAD: usize = 256;
/// Files that are begun before the blocks of the first have come.
const FILES_AHEAD: usize = 16;
/// Signs of life while the disk works on what is complete, four within the patience.
const MOST_SIGNS: u32 = 16;
/// How often a block may come damaged.
const DAMAGED_AT_MOST: u32 = 3;
