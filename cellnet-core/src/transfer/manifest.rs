//! What a source has: files and directories, in the order in which they are sent.

use std::{fs::File, os::unix::fs::FileExt, path::Path, sync::Arc};

use rustix::{fs::FileType, io::Errno};

use super::{
    Reason, TransferError,
    dir::{Dir, Missing, Stat},
    limits,
    path::{JOURNAL, PARTIAL, RelPath},
    wire::{Entry, Fingerprint},
};
use crate::stats::{Budget, Reservation};

/// All that one transfer consists of.
#[derive(Debug)]
pub(crate) struct Manifest {
    roots: Vec<Root>,
    entries: Vec<(Entry, u32)>,
    pub(crate) files: u32,
    pub(crate) bytes: u64,
    pub(crate) stored: u64,
    pub(crate) fingerprint: Fingerprint,
    memory: Option<Reservation>,
}

/// A file or a directory that was named, not found below another.
#[derive(Debug)]
struct Root {
    /// Where it is.
    dir: Arc<Dir>,
    /// What it is called there.
    name: String,
    /// Whether it may be a symbolic link.
    follow: bool,
}

/// What is looked for, and how hard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Walk {
    pub(crate) max_entries: usize,
    /// Leave out what cannot be sent.
    pub(crate) skip_special: bool,
    /// Leave out partial files.
    pub(crate) skip_partial: bool,
}

impl Manifest {
    /// Looks at files and directories of this machine. `rename` is the name that a single one gets. Blocks.
    pub(crate) fn of_paths(
        paths: &[impl AsRef<Path>],
        rename: Option<&str>,
        walk: Walk,
    ) -> Result<Self, TransferError> {
        let mut builder = Builder::new(walk);
        for path in paths {
            let path = path.as_ref();
            let explain = |error| TransferError::io(format_args!("'{}'", path.display()), &error);
            let full = match path.file_name() {
                Some(_) => path.to_owned(),
                None => path.canonicalize().map_err(explain)?,
            };
            let name = full.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
                let text = format!("'{}' has no name in UTF-8", path.display());
                TransferError::here(Reason::InvalidPath, text)
            })?;
            let dir = Dir::open(full.parent().unwrap_or(Path::new("."))).map_err(explain)?;
            let root = Root { dir: Arc::new(dir), name: name.into(), follow: true };
            builder.root(root, rename.unwrap_or(name))?;
        }
        builder.finish()
    }

    /// Looks at what is below a directory that others may fetch from. Blocks.
    pub(crate) fn of_outbox(outbox: &Dir, path: &RelPath, walk: Walk) -> Result<Self, TransferError> {
        let mut builder = Builder::new(walk);
        match path.split_last() {
            Some((parent, name)) => {
                let dir = Arc::new(outbox.descend(&parent, Missing::Fail)?);
                builder.root(Root { dir, name: name.into(), follow: false }, name)?;
            }
            None => {
                let dir = outbox.again().and_then(|dir| Ok((dir.names()?, Arc::new(dir))));
                let (names, dir) = dir.map_err(|error| TransferError::io("directory", &error))?;
                for name in names.iter().filter(|name| !is_partial(name)) {
                    let stat = dir
                        .stat(name)
                        .map_err(|error| TransferError::io(format_args!("'{name}'"), &error))?;
                    let kinds = [FileType::RegularFile, FileType::Directory];
                    if walk.skip_special && !stat.is_some_and(|stat| kinds.contains(&stat.kind)) {
                        continue;
                    }
                    builder.root(Root { dir: dir.clone(), name: name.clone(), follow: false }, name)?;
                }
            }
        }
        builder.finish()
    }

    /// The same, with its memory counted: somebody else asked for it.
    pub(crate) fn counted(mut self, names: &Arc<Budget>) -> Result<Self, TransferError> {
        self.memory = names.reserve(limits::memory(self.entries()));
        if self.memory.is_some() { Ok(self) } else { Err(limits::too_many_names(names)) }
    }

    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.entries.len()).expect("bounded when it was made")
    }

    pub(crate) fn entry(&self, at: u32) -> Option<&Entry> {
        Some(&self.entries.get(at as usize)?.0)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().map(|(entry, _)| entry)
    }

    /// Opens a file of the manifest, if it is still what it was. Blocks.
    pub(crate) fn open(&self, at: u32) -> Result<File, TransferError> {
        let (entry, root) = self.entries.get(at as usize).ok_or_else(no_such_entry)?;
        let file = self.roots[*root as usize].open(entry)?;
        check(&file, entry)?;
        Ok(file)
    }
}

/// Whether an open file is what the manifest says. Blocks.
pub(crate) fn check(file: &File, entry: &Entry) -> Result<(), TransferError> {
    let stat =
        Stat::of_file(file).map_err(|error| TransferError::io(format_args!("'{}'", entry.path), &error))?;
    if stat.kind != FileType::RegularFile || fingerprint(&stat) != entry.fingerprint {
        let text = format!("'{}' has changed since the transfer began", entry.path);
        return Err(TransferError::here(Reason::SourceChanged, text));
    }
    // The files of /proc say that they hold nothing, and give something.
    let size = entry.size.unwrap_or(0);
    if file.read_at(&mut [0], size).is_ok_and(|more| more > 0) {
        let text = format!("'{}' holds more than the {size} bytes that it should", entry.path);
        return Err(TransferError::here(Reason::SourceChanged, text));
    }
    Ok(())
}

fn no_such_entry() -> TransferError {
    TransferError::here(Reason::Protocol, "no such file in the manifest")
}

/// Whether a name says that what has it is not complete.
pub(crate) fn is_partial(name: &str) -> bool {
    name.ends_with(PARTIAL) || name.ends_with(JOURNAL)
}

/// What it means that something cannot be opened that was there before.
fn cannot_open(entry: &Entry, error: TransferError) -> TransferError {
    let reason = match error.reason() {
        // It is there, but not for this user, or the system cannot open any more files.
        reason @ (Reason::PermissionDenied | Reason::Io) => reason,
        _ => Reason::SourceChanged,
    };
    TransferError::here(reason, format!("'{}' cannot be opened: {}", entry.path, error.text()))
}

impl Root {
    fn open(&self, entry: &Entry) -> Result<File, TransferError> {
        let gone = |error: std::io::Error| {
            let reason = match Errno::from_io_error(&error) {
                // Something else has its name.
                Some(Errno::LOOP | Errno::NOTDIR) => Reason::SourceChanged,
                _ => Reason::of_io(&error),
            };
            cannot_open(entry, TransferError::here(reason, error.to_string()))
        };
        let path = RelPath::parse(&entry.path)?;
        let below = path.split_first().map(|(_, below)| below).unwrap_or_default();
        match below.split_last() {
            Some((parent, name)) => {
                let tree = self.tree().map_err(gone)?;
                let dir = tree.descend(&parent, Missing::Fail).map_err(|error| cannot_open(entry, error))?;
                dir.open_file(name).map_err(gone)
            }
            None => self.file().map_err(gone),
        }
    }

    fn file(&self) -> std::io::Result<File> {
        if self.follow { self.dir.follow_file(&self.name) } else { self.dir.open_file(&self.name) }
    }

    fn tree(&self) -> std::io::Result<Dir> {
        if self.follow { self.dir.follow_child(&self.name) } else { self.dir.child(&self.name) }
    }
}

struct Builder {
    walk: Walk,
    roots: Vec<Root>,
    entries: Vec<(Entry, u32)>,
    bytes: u64,
    stored: u64,
}

impl Builder {
    fn new(walk: Walk) -> Self {
        Self { walk, roots: Vec::new(), entries: Vec::new(), bytes: 0, stored: 0 }
    }

    fn root(&mut self, root: Root, name: &str) -> Result<(), TransferError> {
        let path = RelPath::parse(name)?;
        if path.names().count() != 1 || self.entries.iter().any(|(entry, _)| *entry.path == *name) {
            let text = format!("'{}' is no name, or there twice", name.escape_default());
            return Err(TransferError::here(Reason::InvalidPath, text));
        }
        let explain = |error| TransferError::io(format_args!("'{}'", root.name), &error);
        let file = root.file().map_err(explain)?;
        let stat = Stat::of_file(&file).map_err(explain)?;
        let index = u32::try_from(self.roots.len()).expect("fewer than entries");
        let tree = if stat.kind == FileType::Directory { Some(root.tree().map_err(explain)?) } else { None };
        self.roots.push(root);
        self.add(&path, &stat, index)?;
        match tree {
            Some(tree) => self.below(&tree, &path, index),
            None => Ok(()),
        }
    }

    fn below(&mut self, dir: &Dir, path: &RelPath, root: u32) -> Result<(), TransferError> {
        let explain = |error| TransferError::io(format_args!("'{path}'"), &error);
        for name in dir.names().map_err(explain)? {
            if self.walk.skip_partial && is_partial(&name) {
                continue;
            }
            let Some(stat) = dir.stat(&name).map_err(explain)? else { continue };
            let path = RelPath::parse(&name)?.below(path);
            if !self.add(&path, &stat, root)? {
                continue;
            }
            if stat.kind == FileType::Directory {
                // Parsed again, because the whole must not be too deep either.
                let path = RelPath::parse(path.as_str())?;
                let dir =
                    dir.child(&name).map_err(|error| TransferError::io(format_args!("'{path}'"), &error))?;
                self.below(&dir, &path, root)?;
            }
        }
        Ok(())
    }

    /// Says whether it is in the manifest now.
    fn add(&mut self, path: &RelPath, stat: &Stat, root: u32) -> Result<bool, TransferError> {
        let dir = stat.kind == FileType::Directory;
        if !dir && stat.kind != FileType::RegularFile {
            if self.walk.skip_special {
                return Ok(false);
            }
            let text = format!("'{path}' is neither a file nor a directory");
            return Err(TransferError::here(Reason::Unsupported, text));
        }
        if self.entries.len() >= self.walk.max_entries.min(u32::MAX as usize) {
            let text = format!("more than {} files and directories", self.walk.max_entries);
            return Err(TransferError::here(Reason::TooMany, text));
        }
        let size = if dir { 0 } else { stat.size };
        self.bytes = self.bytes.saturating_add(size);
        self.stored = self.stored.saturating_add(if dir { 0 } else { stat.stored });
        let entry = Entry {
            path: path.as_str().into(),
            dir,
            size: Some(size),
            mode: stat.mode & 0o777,
            mtime: stat.mtime,
            fingerprint: if dir { Fingerprint([0; 16]) } else { fingerprint(stat) },
        };
        self.entries.push((entry, root));
        Ok(true)
    }

    fn finish(self) -> Result<Manifest, TransferError> {
        if self.entries.is_empty() {
            return Err(TransferError::here(Reason::NotFound, "there is nothing to send"));
        }
        let mut hasher = blake3::Hasher::new();
        for (entry, _) in &self.entries {
            hasher.update(&super::wire::encode(entry));
        }
        let files = self.entries.iter().filter(|(entry, _)| !entry.dir).count();
        Ok(Manifest {
            roots: self.roots,
            files: u32::try_from(files).expect("bounded by the entries"),
            entries: self.entries,
            bytes: self.bytes,
            stored: self.stored,
            fingerprint: shorten(&hasher),
            memory: None,
        })
    }
}

/// Changes with the content, as far as the system can tell.
fn fingerprint(stat: &Stat) -> Fingerprint {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&stat.size.to_le_bytes());
    hasher.update(&stat.mtime.0.to_le_bytes());
    hasher.update(&stat.mtime.1.to_le_bytes());
    // Not the device, whose number may be another after a restart.
    hasher.update(&stat.id.1.to_le_bytes());
    shorten(&hasher)
}

fn shorten(hasher: &blake3::Hasher) -> Fingerprint {
    let mut short = [0; 16];
    short.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    Fingerprint(short)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn links_in_an_outbox_keep_nobody_from_the_rest() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("x"), "x").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", temp.path().join("link")).unwrap();
        let walk = Walk { max_entries: 9, skip_special: true, skip_partial: true };
        let outbox = Dir::open(temp.path()).unwrap();
        let manifest = Manifest::of_outbox(&outbox, &RelPath::default(), walk).unwrap();
        assert_eq!(manifest.entries().map(|entry| &*entry.path).collect::<Vec<_>>(), ["x"]);
    }

    #[test]
    fn a_file_that_may_not_be_read_has_not_changed() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("x"), "x").unwrap();
        let walk = Walk { max_entries: 9, skip_special: false, skip_partial: false };
        let manifest = Manifest::of_paths(&[temp.path().join("x")], None, walk).unwrap();
        let entry = manifest.entry(0).unwrap();
        for (kind, reason) in [
            (ErrorKind::PermissionDenied, Reason::PermissionDenied),
            (ErrorKind::NotFound, Reason::SourceChanged),
        ] {
            let error = cannot_open(entry, TransferError::io("file", &kind.into()));
            assert_eq!(error.reason(), reason, "{error}");
        }
        std::fs::remove_file(temp.path().join("x")).unwrap();
        assert_eq!(manifest.open(0).unwrap_err().reason(), Reason::SourceChanged);
    }
}
