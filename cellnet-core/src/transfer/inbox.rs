//! The directory that takes what others send: how full it may be, and what is swept out of it.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::fs::FileType;

use super::{
    InboxConfig, Reason, Token, TransferError,
    dir::{Dir, Stat},
    journal::lock_unused,
    path::{JOURNAL, PARTIAL, RelPath},
};

/// An inbox.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(crate) dir: Arc<Dir>,
    config: InboxConfig,
    /// What running transfers may still write.
    reserved: Mutex<HashMap<Token, u64>>,
}

/// What a transfer may write; given back on drop.
#[derive(Debug)]
pub(crate) struct Room {
    inbox: Arc<Inbox>,
    token: Token,
    pub(crate) bytes: u64,
    /// What was there of it before.
    resumed: u64,
}

impl Room {
    /// So much was written in all, which from now on is among what the inbox holds.
    pub(crate) fn wrote(&self, bytes: u64) {
        if let Some(left) = self.inbox.reserved().get_mut(&self.token) {
            *left = self.bytes.saturating_sub(self.resumed).saturating_sub(bytes);
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.inbox.reserved().remove(&self.token);
    }
}

impl Inbox {
    /// Opens the inbox, which is made for its user alone if it is absent. Blocks.
    pub(crate) fn open(config: InboxConfig) -> Result<Self, TransferError> {
        let explain = |error| TransferError::io(format_args!("inbox '{}'", config.dir.display()), &error);
        make_private(&config.dir).map_err(explain)?;
        let dir = Arc::new(Dir::open(&config.dir).map_err(explain)?);
        Ok(Self { dir, config, reserved: Mutex::default() })
    }

    /// Sets room aside for a transfer to a path of the inbox. What is there of it already counts for it. Blocks.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        token: Token,
        total: Option<u64>,
        stored: u64,
        resumed: u64,
    ) -> Result<Room, TransferError> {
        let Some(quota) = self.config.quota else {
            self.check_disk(stored.saturating_sub(resumed))?;
            return Ok(Room { inbox: self.clone(), token, bytes: u64::MAX, resumed });
        };
        let used = usage(&self.dir).map_err(|error| TransferError::io("inbox", &error))?;
        let mut reserved = self.reserved();
        let taken =
            reserved.values().fold(used.saturating_sub(resumed), |sum, more| sum.saturating_add(*more));
        let left = quota.saturating_sub(taken);
        let bytes = total.unwrap_or(left);
        if bytes > left || (total.is_none() && left == 0) {
            let text =
                format!("{bytes} bytes do not fit into the {left} that are left of the inbox's {quota}");
            return Err(TransferError::here(Reason::Quota, text));
        }
        reserved.insert(token, bytes.saturating_sub(resumed));
        drop(reserved);
        let room = Room { inbox: self.clone(), token, bytes, resumed };
        self.check_disk(stored.saturating_sub(resumed))?;
        Ok(room)
    }

    fn reserved(&self) -> MutexGuard<'_, HashMap<Token, u64>> {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the disk has room now, so that hours are not spent to find out.
    fn check_disk(&self, bytes: u64) -> Result<(), TransferError> {
        match self.dir.room() {
            Ok(room) if room < bytes => {
                let text = format!("{bytes} bytes do not fit into the {room} that the disk has left");
                Err(TransferError::here(Reason::DiskFull, text))
            }
            _ => Ok(()),
        }
    }

    /// Bytes of what is at a path and not complete, of these names, each of which counts once. Blocks.
    pub(crate) fn partial_bytes<'a>(&self, path: &RelPath, names: impl Iterator<Item = &'a str>) -> u64 {
        let names: BTreeSet<_> = names.collect();
        names.iter().fold(0, |sum, name| sum.saturating_add(self.partial_bytes_of(path, name)))
    }

    fn partial_bytes_of(&self, path: &RelPath, name: &str) -> u64 {
        let size = || -> Result<u64, TransferError> {
            let dir = self.dir.descend(path, super::dir::Missing::Fail)?;
            let partial = format!("{name}{PARTIAL}");
            size_of(&dir, &partial, MAX_DEPTH).map_err(|error| TransferError::io("inbox", &error))
        };
        size().unwrap_or(0)
    }

    /// Removes partial files that nobody wrote to for a long time. Says how many. Blocks.
    pub(crate) fn sweep(&self) -> io::Result<usize> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        sweep(&self.dir, now.saturating_sub(self.config.partial_max_age), MAX_DEPTH)
    }
}

#[cfg(unix)]
fn make_private(path: &std::path::Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    match std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made,
    }
}

/// Bytes of all files, holes included.
fn usage(dir: &Dir) -> io::Result<u64> {
    dir.names_in_utf8()?
        .iter()
        .try_fold(0_u64, |sum, name| Ok(sum.saturating_add(size_of(dir, name, MAX_DEPTH)?)))
}

fn size_of(dir: &Dir, name: &str, depth: usize) -> io::Result<u64> {
    let Some(stat) = dir.stat(name)? else { return Ok(0) };
    if name.ends_with(JOURNAL) {
        return Ok(0);
    }
    match stat.kind {
        FileType::RegularFile => Ok(stat.size),
        FileType::Directory if depth > 0 => {
            let dir = match dir.child(name) {
                // It got another name meanwhile, or is gone.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
                dir => dir?,
            };
            let sizes = dir.names_in_utf8()?.into_iter().map(|name| size_of(&dir, &name, depth - 1));
            sizes.into_iter().try_fold(0_u64, |sum, size| Ok(sum.saturating_add(size?)))
        }
        _ => Ok(0),
    }
}

/// Removes what is partial and was not written to since `then`.
fn sweep(dir: &Dir, then: Duration, depth: usize) -> io::Result<usize> {
    let old = |stat: &Stat| is_old(stat, then);
    let mut removed = 0;
    for name in dir.names_in_utf8()? {
        let Some(stat) = dir.stat(&name)? else { continue };
        if let Some(whole) = name.strip_suffix(PARTIAL) {
            let journal = format!("{whole}{JOURNAL}");
            let beside = dir.stat(&journal)?;
            if beside.as_ref().is_some_and(|stat| !old(stat))
                || !is_old_below(dir, &name, then, depth).unwrap_or(false)
            {
                continue;
            }
            let lock = lock_unused(dir, &journal);
            if beside.is_some() && lock.is_none() {
                continue;
            }
            dir.remove_all(&name)?;
            dir.remove_file(&journal)?;
            removed += 1;
        } else if let Some(whole) = name.strip_suffix(JOURNAL) {
            if old(&stat)
                && dir.stat(&format!("{whole}{PARTIAL}"))?.is_none()
                && lock_unused(dir, &name).is_some()
            {
                dir.remove_file(&name)?;
                removed += 1;
            }
        } else if stat.kind == FileType::Directory && depth > 0 {
            // One directory that cannot be looked into does not keep the others dirty.
            removed += dir.child(&name).and_then(|dir| sweep(&dir, then, depth - 1)).unwrap_or(0);
        }
    }
    Ok(removed)
}

fn is_old(stat: &Stat, then: Duration) -> bool {
    u64::try_from(stat.mtime.0).unwrap_or(0) < then.as_secs()
}

/// Whether something, and all that is in it, was not written to since `then`.
fn is_old_below(dir: &Dir, name: &str, then: Duration, depth: usize) -> io::Result<bool> {
    let Some(stat) = dir.stat(name)? else { return Ok(true) };
    if !is_old(&stat, then) || stat.kind != FileType::Directory || depth == 0 {
        return Ok(is_old(&stat, then));
    }
    let dir = dir.child(name)?;
    for name in dir.names_in_utf8()? {
        if !is_old_below(&dir, &name, then, depth - 1)? {
            return Ok(false);
        }
    }
    Ok(true)
}

const MAX_DEPTH: usize = 256;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn inbox(quota: Option<u64>) -> (tempfile::TempDir, Arc<Inbox>) {
        let temp = tempfile::tempdir().unwrap();
        let mut config = InboxConfig::new(temp.path().join("deep/inbox"));
        config.quota = quota;
        (temp, Arc::new(Inbox::open(config).unwrap()))
    }

    #[test]
    fn an_inbox_is_made_for_its_user_alone() {
        let (temp, _inbox) = inbox(None);
        let mode = std::fs::metadata(temp.path().join("deep/inbox")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn running_transfers_count_for_the_quota() {
        let (temp, inbox) = inbox(Some(100));
        std::fs::write(temp.path().join("deep/inbox/there"), [0; 30]).unwrap();
        let first = inbox.reserve(Token([1; 16]), Some(50), 0, 0).unwrap();
        let error = inbox.reserve(Token([2; 16]), Some(21), 0, 0).unwrap_err();
        assert_eq!(error.reason(), Reason::Quota);
        assert!(inbox.reserve(Token([2; 16]), Some(20), 0, 0).is_ok());
        assert_eq!(inbox.reserve(Token([2; 16]), None, 0, 0).unwrap().bytes, 20);
        drop(first);
        assert!(inbox.reserve(Token([2; 16]), Some(70), 0, 0).is_ok());
    }

    #[test]
    fn what_a_running_transfer_wrote_counts_once() {
        let (temp, inbox) = inbox(Some(100));
        let partial = temp.path().join("deep/inbox/x.cellnet-partial");
        std::fs::write(&partial, [0; 10]).unwrap();
        let path = RelPath::default();
        // Somebody may name it more than once.
        let resumed = inbox.partial_bytes(&path, ["x", "y", "x"].into_iter());
        assert_eq!(resumed, 10);
        let room = inbox.reserve(Token([1; 16]), Some(60), 0, resumed).unwrap();
        assert!(inbox.reserve(Token([2; 16]), Some(41), 0, 0).is_err());
        std::fs::write(&partial, [0; 50]).unwrap();
        room.wrote(40);
        assert!(inbox.reserve(Token([2; 16]), Some(41), 0, 0).is_err());
        assert!(inbox.reserve(Token([2; 16]), Some(40), 0, 0).is_ok());
    }

    #[test]
    fn what_the_disk_has_no_room_for_is_refused_at_once() {
        let (_temp, inbox) = inbox(None);
        let error = inbox.reserve(Token([1; 16]), Some(1 << 62), 1 << 62, 0).unwrap_err();
        assert_eq!(error.reason(), Reason::DiskFull);
    }

    #[test]
    fn old_partial_files_are_swept_out_and_others_stay() {
        let (temp, inbox) = inbox(None);
        let root = temp.path().join("deep/inbox");
        std::fs::create_dir(root.join("sub")).unwrap();
        std::fs::create_dir(root.join("tree.cellnet-partial")).unwrap();
        let names = [
            "sub/a.cellnet-partial",
            "sub/a.cellnet-journal",
            "b.cellnet-journal",
            "tree.cellnet-partial/x",
            "c",
        ];
        let long_ago = SystemTime::now() - Duration::from_secs(30 * 86_400);
        for name in names {
            std::fs::write(root.join(name), "x").unwrap();
        }
        std::fs::write(root.join("new.cellnet-partial"), "x").unwrap();
        // A tree that was begun long ago, and written to just now.
        std::fs::create_dir_all(root.join("long.cellnet-partial/sub")).unwrap();
        std::fs::write(root.join("long.cellnet-partial/sub/x"), "x").unwrap();
        let dirs = ["tree.cellnet-partial", "long.cellnet-partial", "long.cellnet-partial/sub"];
        for name in names.iter().chain(&dirs) {
            std::fs::File::open(root.join(name)).unwrap().set_modified(long_ago).unwrap();
        }
        let in_use = lock_unused(&inbox.dir, "b.cellnet-journal").unwrap();
        assert_eq!(inbox.sweep().unwrap(), 2);
        drop(in_use);
        assert_eq!(inbox.sweep().unwrap(), 1);
        let mut left: Vec<_> =
            std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["c", "long.cellnet-partial", "new.cellnet-partial", "sub"]);
        assert_eq!(std::fs::read_dir(root.join("sub")).unwrap().count(), 0);
    }
}
