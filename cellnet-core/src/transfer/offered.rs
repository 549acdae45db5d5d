//! The source's side: what was offered to whom, and what they have to say about it.

use std::{
    collections::HashMap,
    fs::File,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use lru::LruCache;
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    Reason, Receipt, Token, TransferError,
    blocks::{Blocks, block_count, block_len, read_block},
    digest::{BlockTree, ManifestDigest, hole_digest},
    live::Live,
    manifest::{Manifest, check},
    path::RelPath,
    receipt::{Heard, Outcome},
    wire::{BlockAsk, Entry, Fingerprint, Hash, Offer, VALUE_LEN},
};
use crate::fqcn::Fqcn;

/// Something that others may pull with a token.
#[derive(Debug)]
pub(crate) struct Offered {
    pub(crate) token: Token,
    pub(crate) block_size: u32,
    pub(crate) content: Content,
    /// What others asked for to get it, if this side did not offer it by itself.
    fetched: Option<RelPath>,
    state: Mutex<State>,
    files: Mutex<LruCache<u32, Arc<File>>>,
    /// What this side says about all of it, once somebody is done.
    checked: Mutex<Option<Heard>>,
    pub(crate) over: CancellationToken,
    checks: Arc<Semaphore>,
}

/// Where the bytes come from.
#[derive(Debug)]
pub(crate) enum Content {
    /// Files.
    Files(Arc<Manifest>),
    /// A reader.
    Live(Arc<Live>),
}

#[derive(Debug)]
struct State {
    receivers: HashMap<Fqcn, Receiver>,
    /// Files of which some block was read, until all were.
    trees: HashMap<u32, BlockTree>,
    digests: HashMap<u32, Hash>,
    used: Instant,
    began: Instant,
    /// Something spoke against it: nobody else may join.
    closed: bool,
}

/// Somebody who may pull.
#[derive(Debug)]
struct Receiver {
    outcome: watch::Sender<Option<Outcome>>,
    /// Told whenever it asks for something.
    asked: Arc<Notify>,
    seen: Instant,
}

impl Receiver {
    fn new() -> Self {
        Self { outcome: watch::Sender::new(None), asked: Arc::default(), seen: Instant::now() }
    }
}

impl Offered {
    pub(crate) fn new(content: Content, block_size: u32, checks: Arc<Semaphore>) -> Self {
        let now = Instant::now();
        Self {
            token: Token::random(),
            block_size,
            content,
            fetched: None,
            state: Mutex::new(State {
                receivers: HashMap::new(),
                trees: HashMap::new(),
                digests: HashMap::new(),
                used: now,
                began: now,
                closed: false,
            }),
            files: Mutex::new(LruCache::new(NonZeroUsize::new(OPEN_FILES).expect("at least 1"))),
            checked: Mutex::default(),
            over: CancellationToken::new(),
            checks,
        }
    }

    /// The same for those who ask for this path.
    pub(crate) fn for_those_who_ask(mut self, path: RelPath) -> Self {
        self.fetched = Some(path);
        self
    }

    /// Lets somebody pull. What is heard of it comes by the channel.
    pub(crate) fn admit(&self, who: &Fqcn) -> Heard {
        self.state().receivers.entry(who.clone()).or_insert_with(Receiver::new).outcome.subscribe()
    }

    /// Lets somebody pull who asked for it, perhaps once more.
    pub(crate) fn admit_anew(&self, who: &Fqcn) {
        let mut state = self.state();
        state.used = Instant::now();
        state.receivers.insert(who.clone(), Receiver::new());
    }

    pub(crate) fn admits(&self, who: &Fqcn) -> bool {
        let mut state = self.state();
        let now = Instant::now();
        state.used = now;
        let Some(receiver) = state.receivers.get_mut(who) else { return false };
        receiver.seen = now;
        receiver.asked.notify_waiters();
        true
    }

    /// How many pull it because they asked for it.
    pub(crate) fn pulls(&self) -> usize {
        if self.fetched.is_some() { self.state().receivers.len() } else { 0 }
    }

    pub(crate) fn has(&self, who: &Fqcn) -> bool {
        self.state().receivers.contains_key(who)
    }

    /// Whether somebody else who asks for a path, which is in this state now, may join those who pull it.
    pub(crate) fn may_be_joined(&self, path: &RelPath, fingerprint: &Fingerprint) -> bool {
        let same = match &self.content {
            Content::Files(manifest) => manifest.fingerprint == *fingerprint,
            Content::Live(_) => false,
        };
        let state = self.state();
        same && self.fetched.as_ref() == Some(path) && !state.closed && state.began.elapsed() < JOINED
    }

    /// Forgets those who have what they asked for, or have not been seen since then.
    pub(crate) fn forget_idle(&self, since: Option<Instant>) {
        if self.fetched.is_some() {
            let here = |receiver: &Receiver| {
                receiver.outcome.borrow().is_none() && since.is_none_or(|since| receiver.seen >= since)
            };
            self.state().receivers.retain(|_, receiver| here(receiver));
        }
    }

    /// Waits until somebody asks for anything. Cancel safe.
    pub(crate) async fn asked_by(&self, who: &Fqcn) {
        let asked = self.state().receivers.get(who).map(|receiver| receiver.asked.clone());
        match asked {
            Some(asked) => asked.notified().await,
            None => std::future::pending().await,
        }
    }

    /// How long nobody has used it.
    pub(crate) fn idle_since(&self) -> Instant {
        self.state().used
    }

    /// Whether somebody of this cell waits for the end, and removes it then.
    pub(crate) fn is_watched(&self) -> bool {
        self.state().receivers.values().any(|receiver| receiver.outcome.receiver_count() > 0)
    }

    /// Whether all have said how it ended.
    pub(crate) fn is_over(&self) -> bool {
        self.state().receivers.values().all(|receiver| receiver.outcome.borrow().is_some())
    }

    pub(crate) fn receivers(&self) -> Vec<Fqcn> {
        self.state().receivers.keys().cloned().collect()
    }

    /// Says how it ended for one; only the first word counts.
    pub(crate) fn conclude(&self, who: &Fqcn, outcome: Outcome) {
        if let Some(receiver) = self.state().receivers.get(who) {
            receiver.outcome.send_if_modified(|known| {
                let first = known.is_none();
                known.get_or_insert(outcome);
                first
            });
        }
    }

    /// The source has failed, for everybody.
    pub(crate) fn fail(&self, error: &TransferError) {
        self.state().closed = true;
        for who in self.receivers() {
            self.conclude(&who, Err(error.clone()));
        }
    }

    /// The offer as it is sent to the inbox path of a receiver.
    pub(crate) fn offer(&self, path: &str, overwrite: bool) -> Offer {
        let (entries, files, bytes, stored, fingerprint) = match &self.content {
            Content::Files(manifest) => {
                (manifest.len(), manifest.files, Some(manifest.bytes), manifest.stored, manifest.fingerprint)
            }
            Content::Live(_) => (1, 1, None, 0, Fingerprint(self.token.0)),
        };
        let (token, block) = (self.token, self.block_size);
        Offer { token, path: path.into(), entries, files, bytes, stored, block, fingerprint, overwrite }
    }

    /// A page of the manifest.
    pub(crate) fn page(&self, from: u32) -> Vec<Entry> {
        let mut room = PAGE_BYTES;
        let fits = |entry: &&Entry| {
            room = room.saturating_sub(entry.path.len() + ENTRY_BYTES);
            room > 0
        };
        match &self.content {
            Content::Files(manifest) => {
                let first = usize::try_from(from).unwrap_or(usize::MAX);
                manifest.entries().skip(first).take(PAGE_ENTRIES).take_while(fits).cloned().collect()
            }
            Content::Live(live) if from == 0 => vec![live.entry.clone()],
            Content::Live(_) => Vec::new(),
        }
    }

    /// A block of a file; `None` if it cannot be had now.
    pub(crate) async fn block(
        self: &Arc<Self>,
        blocks: &Arc<Blocks>,
        ask: BlockAsk,
    ) -> Option<Result<Bytes, TransferError>> {
        let Content::Files(manifest) = &self.content else { return None };
        let unknown = || Some(Err(TransferError::here(Reason::Protocol, "no such block in the offer")));
        let Some(entry) = manifest.entry(ask.file).filter(|entry| !entry.dir) else { return unknown() };
        let size = entry.size.unwrap_or(0);
        let Some(len) = block_len(size, self.block_size, ask.block) else { return unknown() };
        let keep = self.state().receivers.len() > 1;
        let this = self.clone();
        let shelf = blocks.clone();
        blocks
            .get(ask, len, keep, |mut buffer, memory| async move {
                let read = move || {
                    this.read(ask, len, &mut buffer)?;
                    Ok(shelf.lend(buffer, memory))
                };
                tokio::task::spawn_blocking(read).await.unwrap_or_else(|_| Err(broken()))
            })
            .await
    }

    /// Reads a block and remembers its value. Blocks.
    fn read(&self, ask: BlockAsk, len: usize, buffer: &mut Vec<u8>) -> Result<(), TransferError> {
        let Content::Files(manifest) = &self.content else { return Err(broken()) };
        let entry = manifest.entry(ask.file).ok_or_else(broken)?;
        let file = self.file(manifest, ask.file)?;
        let offset = ask.block * u64::from(self.block_size);
        read_block(&file, entry, offset, len, buffer)?;
        let count = block_count(entry.size.unwrap_or(0), self.block_size);
        if count == 1 {
            let digest = match &buffer[VALUE_LEN..] {
                [] => hole_digest(len),
                bytes => blake3::hash(bytes).into(),
            };
            self.state().digests.insert(ask.file, digest);
            return Ok(());
        }
        let mut value = [0; VALUE_LEN];
        value.copy_from_slice(&buffer[..VALUE_LEN]);
        let mut state = self.state();
        if !state.digests.contains_key(&ask.file) {
            let tree = state.trees.entry(ask.file).or_default();
            tree.insert(ask.block, value);
            if let Some(digest) = tree.root(count) {
                state.trees.remove(&ask.file);
                state.digests.insert(ask.file, digest);
            }
        }
        Ok(())
    }

    /// An open file. Blocks.
    fn file(&self, manifest: &Manifest, at: u32) -> Result<Arc<File>, TransferError> {
        let files = || self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = files().get(&at) {
            return Ok(file.clone());
        }
        let file = Arc::new(manifest.open(at)?);
        files().put(at, file.clone());
        Ok(file)
    }

    /// What this side has to say about all of it; `None` while it is still being read.
    pub(crate) fn checked(self: &Arc<Self>) -> Heard {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        checked
            .get_or_insert_with(|| {
                let (said, heard) = watch::channel(None);
                let this = self.clone();
                tokio::spawn(async move {
                    let _turn = this.checks.clone().acquire_owned().await;
                    let check = move || this.check_all();
                    let outcome = tokio::task::spawn_blocking(check).await.unwrap_or_else(|_| Err(broken()));
                    said.send_replace(Some(outcome));
                });
                heard
            })
            .clone()
    }

    /// Takes what somebody says it has; an error if that is not what there is. If all of it is `placed`, that is the end.
    /// Cancel safe.
    pub(crate) async fn hear(
        self: &Arc<Self>,
        who: &Fqcn,
        claimed: Receipt,
        placed: bool,
    ) -> Result<(), TransferError> {
        let mut checked = self.checked();
        let known = match checked.wait_for(Option::is_some).await.map(|checked| checked.clone()) {
            Ok(Some(known)) => known.inspect_err(|error| self.fail(error))?,
            _ => return Err(broken()),
        };
        if !known.agrees(&claimed) {
            let text = format!("'{who}' has something else than the source: {claimed} instead of {known}");
            let mut error = TransferError::here(Reason::Corrupt, text);
            // What is read from now on may be something else again. But nobody makes us look at all files again and again.
            let first = !std::mem::replace(&mut self.state().closed, true);
            let this = self.clone();
            let check = async || tokio::task::spawn_blocking(move || this.check_files()).await;
            if first && let Ok(Err(changed)) = check().await {
                self.fail(&changed);
                error = changed;
            }
            self.conclude(who, Err(error.clone()));
            return Err(error);
        }
        if placed {
            self.conclude(who, Ok(claimed));
        }
        Ok(())
    }

    /// The digest of everything. Files of which some blocks were not read here, because they went out before this process
    /// began or came from a cache, are read now. Blocks.
    fn check_all(&self) -> Outcome {
        let manifest = match &self.content {
            Content::Files(manifest) => manifest,
            Content::Live(live) => return live.receipt(),
        };
        let mut digest = ManifestDigest::default();
        for (at, entry) in (0..).zip(manifest.entries()) {
            if entry.dir {
                digest.add(entry, None);
                continue;
            }
            let file = self.file(manifest, at)?;
            let known = self.state().digests.get(&at).copied();
            let of_file = match known {
                Some(known) => known,
                None => self.read_all(&file, entry)?,
            };
            check(&file, entry)?;
            digest.add(entry, Some((entry.size.unwrap_or(0), of_file)));
        }
        Ok(Receipt {
            files: digest.files,
            bytes: digest.bytes,
            received: 0,
            resumed: 0,
            digest: digest.finish(),
        })
    }

    /// Whether all files are what they were. Blocks.
    fn check_files(&self) -> Result<(), TransferError> {
        let Content::Files(manifest) = &self.content else { return Ok(()) };
        let mut files = (0..).zip(manifest.entries()).filter(|(_, entry)| !entry.dir);
        files.try_for_each(|(at, entry)| check(&*self.file(manifest, at)?, entry))
    }

    fn read_all(&self, file: &File, entry: &Entry) -> Result<Hash, TransferError> {
        let (size, mut hasher) = (entry.size.unwrap_or(0), blake3::Hasher::new());
        let (mut offset, mut block, mut buffer) = (0, 0, Vec::new());
        while let Some(len) = block_len(size, self.block_size, block) {
            if self.over.is_cancelled() {
                return Err(TransferError::here(Reason::Cancelled, "nobody waits any more"));
            }
            super::blocks::read_plain(file, entry, offset, len, &mut buffer)?;
            hasher.update(&buffer);
            (offset, block) = (offset + len as u64, block + 1);
            self.state().used = Instant::now();
        }
        Ok(hasher.finalize().into())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn broken() -> TransferError {
    TransferError::here(Reason::Io, "reading was broken off")
}

/// Of a message that stays among the small ones.
const PAGE_BYTES: usize = 40 << 10;
const PAGE_ENTRIES: usize = 512;
/// Of an entry without its path.
const ENTRY_BYTES: usize = 80;
/// How long others may join those who pull the same.
const JOINED: Duration = Duration::from_secs(600);
/// Files of one offer that are kept open.
const OPEN_FILES: usize = 8;

/// Bytes that are payload of nothing: an answer about what lies behind the end.
pub(crate) const NOTHING: Bytes = Bytes::new();
