//! The sink's side on disk: what is there, what is coming, and how it gets its name.
//!
//! What was named by the sender is a *root*: a file, or a directory with all below it. While it is coming it is called
//! `NAME.cellnet-partial`, with `NAME.cellnet-journal` beside it, whose lock keeps others away. Inside a partial directory
//! complete files have their names; large ones that are coming have a journal of their own.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::Arc,
};

use bytes::Bytes;
use rustix::fs::FileType;

use super::{
    Reason, Receipt, TransferError,
    blocks::block_count,
    digest::ManifestDigest,
    dir::{Dir, Missing},
    journal::{About, Journal, JournalError, Record},
    path::{JOURNAL, PARTIAL, RelPath},
    placed::Placed,
    ranges::Ranges,
    receiving::{Receiving, Written},
    wire::{Entry, Hash, Offer},
};
use crate::stats::Reservation;

/// Everything of one transfer that is on disk. All of it blocks.
#[derive(Debug)]
pub(crate) struct Staging {
    base: Dir,
    offer: Offer,
    flush_every: u64,
    roots: Vec<Root>,
    /// Directories below roots, in order; they get their permissions and times at the end.
    dirs: Vec<Entry>,
    open: HashMap<u32, Receiving>,
    digest: Ordered,
    announced: u64,
    pub(crate) safe: u64,
    pub(crate) resumed: u64,
    pub(crate) received: u64,
    /// What may be written at most.
    pub(crate) allowed: u64,
    /// Memory for names.
    pub(crate) names: Option<Reservation>,
}

/// Something that was named by the sender.
#[derive(Debug)]
struct Root {
    name: String,
    entry: Entry,
    journal: Option<Journal>,
    /// Of a directory: where its files go.
    tree: Option<Dir>,
    /// It has its name already, from an attempt that ended before the source knew.
    placed: bool,
    /// Of a file, when it is complete.
    digest: Option<Hash>,
}

/// A block that came.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) file: u32,
    pub(crate) block: u64,
    pub(crate) payload: Bytes,
}

/// What is to be fetched of a file.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) file: u32,
    pub(crate) have: Ranges,
    /// None if the source does not know yet.
    pub(crate) size: Option<u64>,
}

impl Staging {
    /// Opens the directory that takes the roots, which is made if it is absent.
    pub(crate) fn open(
        root: &Arc<Dir>,
        path: &RelPath,
        offer: Offer,
        flush_every: u64,
    ) -> Result<Self, TransferError> {
        Ok(Self {
            base: root.descend(path, Missing::Make)?,
            offer,
            flush_every,
            roots: Vec::new(),
            dirs: Vec::new(),
            open: HashMap::new(),
            digest: Ordered::default(),
            announced: 0,
            safe: 0,
            resumed: 0,
            received: 0,
            allowed: u64::MAX,
            names: None,
        })
    }

    /// Begins with the next entry of the manifest. Says what is to be fetched, unless it is a directory or there already;
    /// while [`check`](Self::check) has to be called first, nothing.
    pub(crate) fn begin(&mut self, at: u32, entry: Entry) -> Result<(), TransferError> {
        let path = RelPath::parse(&entry.path)?;
        self.announced = self.announced.saturating_add(entry.size.unwrap_or(0));
        if self.announced > self.offer.bytes.unwrap_or(u64::MAX) {
            let text = format!("more than the {} bytes of the offer", self.offer.bytes.unwrap_or(0));
            return Err(TransferError::here(Reason::SizeMismatch, text));
        }
        if entry.size.is_none() && self.offer.bytes.is_some() {
            // It would be asked for until the source says that it ends.
            let text = format!("'{path}' has no size, but the offer has");
            return Err(TransferError::here(Reason::SizeMismatch, text));
        }
        let (root, below) = path.split_first().ok_or_else(nameless)?;
        if below.is_empty() {
            return self.begin_root(at, root, entry);
        }
        let known = self.roots.last().filter(|known| known.name == root);
        let (tree, placed) =
            known.and_then(|known| Some((known.tree.as_ref()?, known.placed))).ok_or_else(|| {
                TransferError::here(Reason::Protocol, format!("'{path}' is in no directory of the transfer"))
            })?;
        let (parent, name) = below.split_last().ok_or_else(nameless)?;
        let dir = tree.descend(&parent, Missing::Fail)?;
        if entry.dir {
            dir.make_dir(name).map_err(|error| TransferError::io(format_args!("'{path}'"), &error))?;
            self.digest.add(at, entry.clone(), None);
            self.dirs.push(entry);
            return Ok(());
        }
        let receiving = begin_below(dir, name, entry, placed, &self.offer)?;
        self.open.insert(at, receiving);
        Ok(())
    }

    fn begin_root(&mut self, at: u32, name: &str, entry: Entry) -> Result<(), TransferError> {
        let explain = |error: io::Error| TransferError::io(format_args!("'{}'", entry.path), &error);
        let (partial, journal) = (format!("{name}{PARTIAL}"), format!("{name}{JOURNAL}"));
        let taken = || TransferError::here(Reason::Exists, format!("'{}' exists", entry.path));
        let there = self.base.stat(name).map_err(explain)?;
        // Before a journal is made beside it.
        if there.is_some() && !self.offer.overwrite && self.base.stat(&journal).map_err(explain)?.is_none() {
            return Err(taken());
        }
        let about = match entry.dir {
            true => About { fingerprint: self.offer.fingerprint, size: 0, block_size: 0 },
            false => about(&entry, self.offer.block),
        };
        let (journal_file, known) =
            Journal::open(&self.base, &journal, about).map_err(|error| explain_journal(&entry, error))?;
        let partial_there = self.base.stat(&partial).map_err(explain)?.is_some();
        let kind = if entry.dir { FileType::Directory } else { FileType::RegularFile };
        let placed = known
            && !partial_there
            && there.is_some_and(|stat| stat.kind == kind)
            && journal_file.placing().map_err(explain)?.is_some();
        if !placed && let Some(stat) = there {
            let fits = stat.kind == kind || (!entry.dir && stat.kind != FileType::Directory);
            if !self.offer.overwrite || !fits {
                if !known {
                    self.base.remove_file(&journal).map_err(explain)?;
                }
                return Err(taken());
            }
        }
        let here = if placed { name } else { &partial };
        let mut root =
            Root { name: name.into(), entry: entry.clone(), journal: None, tree: None, placed, digest: None };
        if entry.dir {
            if !known {
                self.base.remove_all(&partial).map_err(explain)?;
            }
            if !placed {
                self.base.make_dir(&partial).map_err(explain)?;
            }
            root.tree = Some(self.base.child(here).map_err(explain)?);
            root.journal = Some(journal_file);
            self.digest.add(at, entry, None);
        } else {
            let data = if placed { self.base.open_file(here) } else { self.base.make_file(here) };
            let base = self.base.again().map_err(explain)?;
            let journal = Some((journal_file, known));
            let receiving = Receiving::begin(
                entry.clone(),
                base,
                here.into(),
                data.map_err(explain)?,
                journal,
                self.offer.block,
            );
            self.open.insert(at, receiving.map_err(explain)?);
        }
        self.roots.push(root);
        Ok(())
    }

    /// Compares a part of what is on disk of a file that was begun. Says what is to be fetched when that is known.
    pub(crate) fn check(&mut self, at: u32) -> Result<Option<Wanted>, TransferError> {
        let Some(receiving) = self.open.get_mut(&at) else { return Ok(None) };
        if let Some(good) = receiving.check().map_err(|error| receiving.explain(&error))? {
            self.safe += good;
            self.resumed += good;
            return Ok(None);
        }
        let placed = self.roots.last().is_some_and(|root| root.placed);
        if placed && receiving.digest().is_none() {
            let text = format!("'{}' has changed since it was delivered", receiving.entry.path);
            return Err(TransferError::here(Reason::Exists, text));
        }
        let wanted = Wanted { file: at, have: receiving.have().clone(), size: receiving.size() };
        self.close_if_complete(at)?;
        Ok(Some(wanted))
    }

    /// Whether this is a file that was begun and is not complete.
    pub(crate) fn is_open(&self, at: u32) -> bool {
        self.open.contains_key(&at)
    }

    /// Writes a block that came. A file that has all of them is closed.
    pub(crate) fn write(&mut self, arrived: &Arrived) -> Result<Written, TransferError> {
        let Some(receiving) = self.open.get_mut(&arrived.file) else { return Ok(Written::Known) };
        let written = receiving.write(arrived.block, &arrived.payload)?;
        if let Written::New(len) = written {
            self.safe += len as u64;
            self.received += arrived.payload.len().saturating_sub(super::wire::VALUE_LEN) as u64;
            if self.safe > self.allowed {
                return Err(TransferError::here(Reason::Quota, "the inbox is full"));
            }
            self.close_if_complete(arrived.file)?;
        }
        Ok(written)
    }

    /// Takes the length of a file that was not known.
    pub(crate) fn learn_size(&mut self, at: u32, size: u64) -> Result<(), TransferError> {
        let Some(receiving) = self.open.get_mut(&at) else { return Ok(()) };
        receiving.learn_size(size)?;
        self.close_if_complete(at)
    }

    /// Gives the journals what was written.
    pub(crate) fn flush(&mut self) -> Result<(), TransferError> {
        self.open.values_mut().try_for_each(|receiving| receiving.flush(self.flush_every))
    }

    /// The first block of a file that is not written yet.
    pub(crate) fn first_gap(&self, at: u32) -> u64 {
        self.open.get(&at).map_or(u64::MAX, |receiving| receiving.have().gap(0))
    }

    fn close_if_complete(&mut self, at: u32) -> Result<(), TransferError> {
        let complete = self.open.get(&at).is_some_and(|receiving| receiving.digest().is_some());
        let Some(mut receiving) = complete.then(|| self.open.remove(&at)).flatten() else { return Ok(()) };
        let (digest, size) = (receiving.digest().ok_or_else(nameless)?, receiving.size().unwrap_or(0));
        let root = self.roots.iter_mut().rev().find(|root| root.entry.path == receiving.entry.path);
        if !root.as_ref().is_some_and(|root| root.placed) {
            // Small ones are given to the disk together at the end.
            receiving.close(root.is_some() || receiving.journal.is_some())?;
        }
        match root {
            Some(root) => {
                root.journal = receiving.journal.take();
                root.digest = Some(digest);
                if let Some(journal) = &mut root.journal {
                    journal.write().map_err(|error| receiving.explain(&error))?;
                }
            }
            None => name_below(&mut receiving)?,
        }
        self.digest.add(at, receiving.entry, Some((size, digest)));
        Ok(())
    }

    /// How many entries are complete, without gaps.
    pub(crate) fn complete(&self) -> u32 {
        self.digest.next
    }

    /// What there is, when everything is there.
    pub(crate) fn receipt(&self) -> Result<Receipt, TransferError> {
        let digest = &self.digest.digest;
        let bytes = self.offer.bytes.unwrap_or(digest.bytes);
        if self.digest.next != self.offer.entries
            || u64::from(self.offer.files) != digest.files
            || bytes != digest.bytes
        {
            let text = format!(
                "{} files with {} bytes, but {} with {bytes} were offered",
                digest.files, digest.bytes, self.offer.files
            );
            return Err(TransferError::here(Reason::SizeMismatch, text));
        }
        Ok(Receipt {
            files: digest.files,
            bytes: digest.bytes,
            received: self.received,
            resumed: self.resumed,
            digest: digest.finish(),
        })
    }

    /// Gives everything its name, after the source agreed. What is there is replaced only if the offer says so.
    pub(crate) fn place(&mut self, digest: Hash) -> Result<(), TransferError> {
        let explain = |error: io::Error| TransferError::io("putting files into place", &error);
        for root in self.roots.iter().filter(|root| !root.placed) {
            if let Some(tree) = &root.tree {
                dress_below(tree, &root.name, &self.dirs)?;
                tree.sync_all().and_then(|()| tree.dress(&root.entry)).map_err(explain)?;
            }
        }
        for root in &mut self.roots {
            if let (false, Some(journal)) = (root.placed, &mut root.journal) {
                journal.push(Record::Placing(digest));
                journal.sync().map_err(explain)?;
            }
        }
        let mut placed = Placed::default();
        for root in self.roots.iter_mut().filter(|root| !root.placed) {
            let partial = format!("{}{PARTIAL}", root.name);
            let there = self.base.stat(&root.name).map_err(explain)?;
            let explain = |error: io::Error| TransferError::io(format_args!("'{}'", root.entry.path), &error);
            let placing =
                if let (Some(tree), true, true) = (&root.tree, self.offer.overwrite, there.is_some()) {
                    let into = self.base.child(&root.name);
                    into.map_err(explain).and_then(|into| {
                        merge(tree, &into, &root.name, &mut placed)?;
                        self.base.remove_all(&partial).map_err(explain)?;
                        dress_below(&into, &root.name, &self.dirs)?;
                        into.dress(&root.entry).map_err(explain)
                    })
                } else {
                    let name = (&self.base, &*root.name);
                    self.base.rename(&partial, name, self.offer.overwrite).map_err(explain)
                };
            placing.map_err(|error| placed.so_far(error))?;
            placed.add(&root.name);
            root.placed = true;
        }
        self.base.sync().map_err(|error| placed.so_far(explain(error)))
    }

    /// Removes the journals, once the source knows that everything has its name.
    pub(crate) fn forget(&mut self) {
        for root in &mut self.roots {
            // A journal that stays is found and removed by its age.
            let _ = self.base.remove_file(&format!("{}{JOURNAL}", root.name));
            root.journal = None;
        }
    }

    /// Removes all that has no name yet, because it is not what the source has.
    pub(crate) fn wipe(&mut self) {
        self.open.clear();
        for root in self.roots.iter().filter(|root| !root.placed) {
            // The journal goes first: without it nothing of the rest is believed.
            let _ = self.base.remove_file(&format!("{}{JOURNAL}", root.name));
            let _ = self.base.remove_all(&format!("{}{PARTIAL}", root.name));
        }
    }
}

impl Drop for Staging {
    /// What was written is worth a record, however this ended.
    fn drop(&mut self) {
        for receiving in self.open.values_mut() {
            let _ = receiving.flush(u64::MAX);
        }
    }
}

/// A file in a directory that is coming, or came.
fn begin_below(
    dir: Dir,
    name: &str,
    entry: Entry,
    placed: bool,
    offer: &Offer,
) -> Result<Receiving, TransferError> {
    let explain = |error: io::Error| TransferError::io(format_args!("'{}'", entry.path), &error);
    let there = dir.stat(name).map_err(explain)?.filter(|stat| stat.kind == FileType::RegularFile);
    // The time is set last, so this one is complete.
    if there.is_some_and(|stat| Some(stat.size) == entry.size && stat.mtime == entry.mtime) {
        let data = dir.open_file(name).map_err(explain)?;
        return Ok(Receiving::complete(entry, dir, name.into(), data, offer.block));
    }
    if placed {
        let text = format!("'{}' has changed since it was delivered", entry.path);
        return Err(TransferError::here(Reason::Exists, text));
    }
    if block_count(entry.size.unwrap_or(u64::MAX), offer.block) <= 1 {
        let data = dir.make_file(name).map_err(explain)?;
        return Receiving::begin(entry.clone(), dir, name.into(), data, None, offer.block).map_err(explain);
    }
    let journal = Journal::open(&dir, &format!("{name}{JOURNAL}"), about(&entry, offer.block))
        .map_err(|error| explain_journal(&entry, error))?;
    let partial = format!("{name}{PARTIAL}");
    let data = dir.make_file(&partial).map_err(explain)?;
    Receiving::begin(entry.clone(), dir, partial, data, Some(journal), offer.block).map_err(explain)
}

/// Gives a complete file inside a partial directory its name.
fn name_below(receiving: &mut Receiving) -> Result<(), TransferError> {
    let Some(name) = receiving.name.strip_suffix(PARTIAL).map(str::to_owned) else { return Ok(()) };
    let (dir, partial) = (&receiving.dir, &receiving.name);
    let named =
        dir.rename(partial, (dir, &name), true).and_then(|()| dir.remove_file(&format!("{name}{JOURNAL}")));
    named.map_err(|error| receiving.explain(&error))
}

fn about(entry: &Entry, block_size: u32) -> About {
    About { fingerprint: entry.fingerprint, size: entry.size.unwrap_or(u64::MAX), block_size }
}

fn explain_journal(entry: &Entry, error: JournalError) -> TransferError {
    match error {
        JournalError::Busy => {
            TransferError::here(Reason::Busy, format!("another transfer writes '{}'", entry.path))
        }
        JournalError::Io(error) => TransferError::io(format_args!("journal of '{}'", entry.path), &error),
    }
}

/// Gives directories below a root their permissions and times, the deepest first: what is done in one changes its time.
fn dress_below(tree: &Dir, root: &str, dirs: &[Entry]) -> Result<(), TransferError> {
    for entry in dirs.iter().rev() {
        let path = RelPath::parse(&entry.path)?;
        if let Some((_, below)) = path.split_first().filter(|(first, _)| *first == root) {
            let dir = tree.descend(&below, Missing::Fail)?;
            dir.dress(entry).map_err(|error| TransferError::io(format_args!("'{path}'"), &error))?;
        }
    }
    Ok(())
}

/// Moves all that is in a directory into another, whose files of the same names are replaced.
fn merge(from: &Dir, into: &Dir, path: &str, placed: &mut Placed) -> Result<(), TransferError> {
    let explain = |error: io::Error| TransferError::io(format_args!("'{path}'"), &error);
    for name in from.names().map_err(explain)? {
        let path = format!("{path}/{name}");
        let explain = |error: io::Error| TransferError::io(format_args!("'{path}'"), &error);
        if from.stat(&name).map_err(explain)?.is_some_and(|stat| stat.kind == FileType::Directory) {
            into.make_dir(&name).map_err(explain)?;
            let (from, into) = (from.child(&name).map_err(explain)?, into.child(&name).map_err(explain)?);
            merge(&from, &into, &path, placed)?;
        } else {
            from.rename(&name, (into, &name), true).map_err(explain)?;
            placed.add(&path);
        }
    }
    into.sync().map_err(explain)
}

fn nameless() -> TransferError {
    TransferError::here(Reason::InvalidPath, "an entry without a name")
}

/// Brings entries, which are complete in any order, into that of the manifest.
#[derive(Debug, Default)]
struct Ordered {
    digest: ManifestDigest,
    next: u32,
    waiting: BTreeMap<u32, (Entry, Option<(u64, Hash)>)>,
}

impl Ordered {
    fn add(&mut self, at: u32, entry: Entry, file: Option<(u64, Hash)>) {
        self.waiting.insert(at, (entry, file));
        while let Some((entry, file)) = self.waiting.remove(&self.next) {
            self.digest.add(&entry, file);
            self.next += 1;
        }
    }
}
