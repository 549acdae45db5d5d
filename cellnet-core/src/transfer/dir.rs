//! Directories by descriptor, so that nothing that is below one can lead out of it.
//!
//! A path is opened name by name, each in the directory before it and never through a symbolic link. Names hold no slash
//! and are not `..`, because [`RelPath`] has none. So it does not matter what others do to the directory meanwhile.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RenameFlags, Timespec, Timestamps};

use super::{Reason, TransferError, path::RelPath, wire::Entry};

/// An open directory.
#[derive(Debug)]
pub(crate) struct Dir {
    fd: OwnedFd,
}

/// What is known of a file or directory without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) kind: FileType,
    pub(crate) size: u64,
    /// Bytes that take room on the disk.
    pub(crate) stored: u64,
    pub(crate) mode: u32,
    pub(crate) mtime: (i64, u32),
    pub(crate) id: (u64, u64),
}

/// What is looked for in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Directories that are not there are made.
    Make,
    /// It is an error.
    Fail,
}

impl Dir {
    /// Opens a directory of this machine's user, who may have symbolic links in its path.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        Ok(Self { fd: fs::open(path, DIRECTORY, Mode::empty())? })
    }

    /// Opens a directory in this one.
    pub(crate) fn child(&self, name: &str) -> io::Result<Self> {
        Ok(Self { fd: fs::openat(&self.fd, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())? })
    }

    /// The same through a symbolic link.
    pub(crate) fn follow_child(&self, name: &str) -> io::Result<Self> {
        Ok(Self { fd: fs::openat(&self.fd, name, DIRECTORY, Mode::empty())? })
    }

    /// Opens a directory below this one.
    pub(crate) fn descend(&self, path: &RelPath, missing: Missing) -> Result<Self, TransferError> {
        let mut dir = self.again().map_err(|error| TransferError::io("directory", &error))?;
        for name in path.names() {
            if missing == Missing::Make {
                dir.make_dir(name).map_err(|error| TransferError::io(format_args!("'{path}'"), &error))?;
            }
            dir = dir.child(name).map_err(|error| dir.explain(name, path, &error))?;
        }
        Ok(dir)
    }

    /// Why a name in a directory cannot be opened as one.
    fn explain(&self, name: &str, path: &RelPath, error: &io::Error) -> TransferError {
        match self.stat(name) {
            Ok(Some(stat)) if stat.kind == FileType::Symlink => {
                TransferError::here(Reason::OutsideInbox, format!("'{name}' in '{path}' is a symbolic link"))
            }
            Ok(Some(stat)) if stat.kind != FileType::Directory => {
                TransferError::here(Reason::Exists, format!("'{name}' in '{path}' is not a directory"))
            }
            _ => TransferError::io(format_args!("'{path}'"), error),
        }
    }

    pub(crate) fn again(&self) -> io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()? })
    }

    /// Makes a directory for its user alone, unless something has that name.
    pub(crate) fn make_dir(&self, name: &str) -> io::Result<()> {
        match fs::mkdirat(&self.fd, name, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// What has this name here, links not followed.
    pub(crate) fn stat(&self, name: &str) -> io::Result<Option<Stat>> {
        match fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Stat::of(&stat))),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn is_file(&self, name: &str) -> bool {
        self.stat(name).is_ok_and(|stat| stat.is_some_and(|stat| stat.kind == FileType::RegularFile))
    }

    /// Opens a file for reading. A FIFO or a device does not block, and can be told by its [`Stat`].
    pub(crate) fn open_file(&self, name: &str) -> io::Result<File> {
        Ok(fs::openat(&self.fd, name, READ | OFlags::NOFOLLOW, Mode::empty())?.into())
    }

    /// The same through a symbolic link.
    pub(crate) fn follow_file(&self, name: &str) -> io::Result<File> {
        Ok(fs::openat(&self.fd, name, READ, Mode::empty())?.into())
    }

    /// Opens a file for reading and writing, for its user alone; makes it if it is absent.
    pub(crate) fn make_file(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let open = || fs::openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR);
        let file = match open() {
            // It got its final permissions, and then something came between.
            Err(rustix::io::Errno::ACCESS) if self.is_file(name) => {
                fs::chmodat(&self.fd, name, Mode::RUSR | Mode::WUSR, AtFlags::empty())?;
                open()?
            }
            opened => opened?,
        };
        let file = File::from(file);
        if Stat::of_file(&file)?.kind != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "not a file"));
        }
        Ok(file)
    }

    /// Gives something here another name, here or in another directory. Without `replace` it fails if that is taken.
    pub(crate) fn rename(&self, from: &str, to: (&Self, &str), replace: bool) -> io::Result<()> {
        let (dir, name) = to;
        if replace {
            return Ok(fs::renameat(&self.fd, from, &dir.fd, name)?);
        }
        match fs::renameat_with(&self.fd, from, &dir.fd, name, RenameFlags::NOREPLACE) {
            // Some file systems cannot do that in one step.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {
                self.rename_slowly(from, to)
            }
            done => Ok(done?),
        }
    }

    /// A second name fails if it is taken. Directories cannot have one.
    fn rename_slowly(&self, from: &str, (dir, name): (&Self, &str)) -> io::Result<()> {
        if self.stat(from)?.is_some_and(|stat| stat.kind == FileType::Directory) {
            if dir.stat(name)?.is_some() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            return Ok(fs::renameat(&self.fd, from, &dir.fd, name)?);
        }
        fs::linkat(&self.fd, from, &dir.fd, name, AtFlags::empty())?;
        self.remove_file(from)
    }

    /// Removes a file; it is no failure if there is none.
    pub(crate) fn remove_file(&self, name: &str) -> io::Result<()> {
        match fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a file, or a directory with all that is in it.
    pub(crate) fn remove_all(&self, name: &str) -> io::Result<()> {
        self.remove_below(name, MAX_DEPTH)
    }

    fn remove_below(&self, name: &str, depth: usize) -> io::Result<()> {
        let Some(stat) = self.stat(name)? else { return Ok(()) };
        if stat.kind != FileType::Directory {
            return self.remove_file(name);
        }
        if depth == 0 {
            return Err(io::Error::other("too deep"));
        }
        let dir = self.child(name)?;
        for name in dir.names()? {
            dir.remove_below(&name, depth - 1)?;
        }
        match fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The names in it, sorted. One that is not UTF-8 is an error.
    pub(crate) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(&self.fd)? {
            let entry = entry?;
            match entry.file_name().to_str() {
                Ok("." | "..") => {}
                Ok(name) => names.push(name.to_owned()),
                Err(_) => {
                    let text = format!("name is not UTF-8: {:?}", entry.file_name());
                    return Err(io::Error::new(io::ErrorKind::InvalidFilename, text));
                }
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// The same, where others matter to nobody.
    pub(crate) fn names_in_utf8(&self) -> io::Result<Vec<String>> {
        let entries = fs::Dir::read_from(&self.fd)?;
        let names = entries.map(|entry| Ok(entry?.file_name().to_str().ok().map(str::to_owned)));
        let names = names.filter_map(Result::transpose).collect::<io::Result<Vec<_>>>()?;
        Ok(names.into_iter().filter(|name| !matches!(&**name, "." | "..")).collect())
    }

    /// Gives a directory the permissions and the time it has at the source. Its owner may always look and write here: others
    /// may yet send something for it, it counts for the quota, and old partial files are swept out of it.
    pub(crate) fn dress(&self, entry: &Entry) -> io::Result<()> {
        dress(&self.fd, &Entry { mode: entry.mode | 0o700, ..entry.clone() })
    }

    /// Makes names in it permanent.
    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(fs::fsync(&self.fd)?)
    }

    /// Makes everything on its file system permanent, where that can be asked for.
    pub(crate) fn sync_all(&self) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        fs::syncfs(&self.fd)?;
        self.sync()
    }

    /// Bytes that its file system has left for this user.
    pub(crate) fn room(&self) -> io::Result<u64> {
        let stat = fs::fstatvfs(&self.fd)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// Gives a file or a directory the permissions and the time it has at the source.
pub(crate) fn dress(fd: impl AsFd, entry: &Entry) -> io::Result<()> {
    // No bits that let others act as this user.
    fs::fchmod(&fd, Mode::from_raw_mode(entry.mode & 0o777))?;
    let time = Timespec { tv_sec: entry.mtime.0, tv_nsec: entry.mtime.1.min(999_999_999).into() };
    Ok(fs::futimens(&fd, &Timestamps { last_access: time, last_modification: time })?)
}

impl Stat {
    fn of(stat: &fs::Stat) -> Self {
        let (kind, mode) = (FileType::from_raw_mode(stat.st_mode), stat.st_mode & 0o7777);
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let stored = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512).min(size);
        let mtime = (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0));
        Self { kind, size, stored, mode, mtime, id: (stat.st_dev, stat.st_ino) }
    }

    pub(crate) fn of_file(file: impl AsFd) -> io::Result<Self> {
        Ok(Self::of(&fs::fstat(file)?))
    }
}

const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// Nothing that was put there by a transfer is deeper.
const MAX_DEPTH: usize = 256;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::transfer::wire::Fingerprint;

    #[test]
    fn a_directory_stays_open_to_its_owner_whatever_is_sent() {
        let temp = tempfile::tempdir().unwrap();
        let entry = Entry {
            path: "d".into(),
            dir: true,
            size: Some(0),
            mode: 0o7055,
            mtime: (1_000_000_000, 5),
            fingerprint: Fingerprint([0; 16]),
        };
        Dir::open(temp.path()).unwrap().dress(&entry).unwrap();
        assert_eq!(temp.path().metadata().unwrap().permissions().mode() & 0o7777, 0o755);
    }
}
