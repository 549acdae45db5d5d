//! A file on its way to its name.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::download::PullError;

/// A file that is not complete. Dropped unfinished, it is removed unless it is to be resumed.
pub(super) struct Part {
    file: File,
    path: PathBuf,
    part: PathBuf,
    /// When it was opened.
    pub(super) length: u64,
    overwrite: bool,
    keep: bool,
}

impl Part {
    pub(super) fn open(path: PathBuf, resume: bool, overwrite: bool) -> Result<Self, PullError> {
        if !overwrite && exists(&path)? {
            return Err(PullError::Exists(path));
        }
        let part = part_of(&path);
        let file = OpenOptions::new().create(true).append(true).open(&part).map_err(PullError::Sink)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(PullError::Exists(part)),
            Err(fs::TryLockError::Error(error)) => return Err(PullError::Sink(error)),
        }
        // Whoever had the lock before may have given the file its name, or removed it.
        if !is_at(&file, &part).map_err(PullError::Sink)? {
            return Err(PullError::Exists(part));
        }
        if !resume {
            file.set_len(0).map_err(PullError::Sink)?;
        }
        let length = file.metadata().map_err(PullError::Sink)?.len();
        Ok(Self { file, path, part, length, overwrite, keep: resume })
    }

    pub(super) fn append(mut self, data: &[u8]) -> Result<Self, PullError> {
        self.file.write_all(data).map_err(PullError::Sink)?;
        Ok(self)
    }

    /// Forgets what is behind a position.
    pub(super) fn cut(self, length: u64) -> Result<Self, PullError> {
        if length < self.length {
            self.file.set_len(length).map_err(PullError::Sink)?;
        }
        Ok(self)
    }

    pub(super) fn finish(mut self) -> Result<(), PullError> {
        self.file.sync_all().map_err(PullError::Sink)?;
        if !self.overwrite && exists(&self.path)? {
            return Err(PullError::Exists(self.path.clone()));
        }
        fs::rename(&self.part, &self.path).map_err(PullError::Sink)?;
        self.keep = true;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.keep {
            // Nothing is lost if it stays.
            let _ = fs::remove_file(&self.part);
        }
    }
}

/// The name of the part of a file.
pub(super) fn part_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
    name.push(".part");
    path.with_file_name(name)
}

fn exists(path: &Path) -> Result<bool, PullError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(PullError::Sink(error)),
    }
}

/// Whether an open file is still the one at a path.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let (open, there) = (file.metadata()?, fs::symlink_metadata(path));
    match there {
        Ok(there) => Ok((open.dev(), open.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Files here have no identity that the standard library knows.
#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> io::Result<bool> {
    path.try_exists()
}
