//! What is known of a partial file: which of its blocks are on disk, and with which values.
//!
//! ```text
//!   0  "cellnet journal" 1     16 bytes
//!  16  fingerprint             16 bytes: the state of the source that the blocks are from
//!  32  size of the file        u64, little-endian; all ones if it was not known
//!  40  size of a block         u32, and 4 bytes that are 0
//!  48  checksum                 8 bytes: the first of the BLAKE3 of what is before
//!  56  records of 48 bytes:    kind and number u64 (the highest byte is the kind), 32 bytes of value, checksum of 8 bytes
//! ```
//!
//! Kind 0: block *number* has this chaining value. Kind 1: all of it is checked and about to get its name; the value is the
//! digest. A record's checksum is over the fingerprint and the record, so a torn end or a strange record ends the journal.
//! A record says that a block was written, not that it survived a power cut: what it says is compared with what is on disk
//! before it is believed.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
};

use rustix::fs::FlockOperation;

use super::{
    dir::{Dir, Stat},
    wire::{Fingerprint, Hash},
};

/// The journal of one partial file, open and locked.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    about: About,
    end: u64,
    buffer: Vec<u8>,
}

/// What a journal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct About {
    pub(crate) fingerprint: Fingerprint,
    /// `u64::MAX` if it was not known.
    pub(crate) size: u64,
    pub(crate) block_size: u32,
}

/// One thing that a journal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Record {
    Block(u64, Hash),
    /// The digest of what is about to get its name.
    Placing(Hash),
}

/// Why a journal cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    /// Somebody else has it.
    #[error("another transfer writes there")]
    Busy,
    #[error("journal")]
    Io(#[from] io::Error),
}

impl Journal {
    /// Opens or makes a journal and locks it until it is dropped. Says whether it was about the same; if not, it is empty
    /// now. Blocks.
    pub(crate) fn open(dir: &Dir, name: &str, about: About) -> Result<(Self, bool), JournalError> {
        let mut file = lock(dir, name)?;
        let mut header = [0; HEADER];
        let same = file.read_exact(&mut header).is_ok() && header == about.encode();
        let mut journal = Self { file, about, end: HEADER as u64, buffer: Vec::new() };
        if same {
            journal.end = journal.whole()?;
            journal.file.set_len(journal.end)?;
        } else {
            journal.reset()?;
        }
        Ok((journal, same))
    }

    /// Forgets everything.
    pub(crate) fn reset(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.write_all_at(&self.about.encode(), 0)?;
        self.end = HEADER as u64;
        self.buffer.clear();
        Ok(())
    }

    /// The records, in the order in which they were made.
    pub(crate) fn records(&self) -> io::Result<Records> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(HEADER as u64))?;
        Ok(Records {
            about: self.about,
            file: BufReader::new(file),
            left: (self.end - HEADER as u64) / RECORD as u64,
        })
    }

    /// The digest of what was about to get its name when the journal ended, if that is the last that it says.
    pub(crate) fn placing(&self) -> io::Result<Option<Hash>> {
        if self.end < (HEADER + RECORD) as u64 {
            return Ok(None);
        }
        let mut bytes = [0; RECORD];
        self.file.read_exact_at(&mut bytes, self.end - RECORD as u64)?;
        Ok(match self.about.decode(&bytes) {
            Some(Record::Placing(digest)) => Some(digest),
            _ => None,
        })
    }

    /// Adds a record; it is written with [`write`](Self::write).
    pub(crate) fn push(&mut self, record: Record) {
        self.buffer.extend_from_slice(&self.about.record(record));
    }

    /// Gives what was added to the system.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.file.write_all_at(&self.buffer, self.end)?;
        self.end += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Another handle of the file.
    pub(crate) fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Makes it permanent.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.write()?;
        self.file.sync_data()
    }

    /// Where the records end that are whole.
    fn whole(&self) -> io::Result<u64> {
        let length = self.file.metadata()?.len();
        let all = Records {
            about: self.about,
            file: {
                let mut file = self.file.try_clone()?;
                file.seek(SeekFrom::Start(HEADER as u64))?;
                BufReader::new(file)
            },
            left: length.saturating_sub(HEADER as u64) / RECORD as u64,
        };
        let mut whole = 0;
        for record in all {
            record?;
            whole += 1;
        }
        Ok((HEADER + whole * RECORD) as u64)
    }
}

impl Drop for Journal {
    /// Other handles of the file share the lock, and may be at work for a while.
    fn drop(&mut self) {
        // Who cannot unlock it loses the lock with the last handle.
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

/// Opens and locks a journal by its name.
fn lock(dir: &Dir, name: &str) -> Result<File, JournalError> {
    for _ in 0..RACES {
        let file = dir.make_file(name)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(JournalError::Busy),
            locked => locked.map_err(io::Error::from)?,
        }
        // Whoever had it may have removed it meanwhile; then the lock is on something without a name.
        let here = dir.stat(name)?.map(|stat| stat.id);
        if here == Some(Stat::of_file(&file)?.id) {
            return Ok(file);
        }
    }
    Err(JournalError::Busy)
}

/// Locks a journal that is there, if nobody uses it. `None` if somebody does.
pub(crate) fn lock_unused(dir: &Dir, name: &str) -> Option<File> {
    let file = dir.open_file(name).ok()?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    let here = dir.stat(name).ok()?.map(|stat| stat.id);
    (here == Some(Stat::of_file(&file).ok()?.id)).then_some(file)
}

/// What a journal says, record by record, until its end or the first that is damaged.
#[derive(Debug)]
pub(crate) struct Records {
    about: About,
    file: BufReader<File>,
    left: u64,
}

impl Iterator for Records {
    type Item = io::Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let mut bytes = [0; RECORD];
        if let Err(error) = self.file.read_exact(&mut bytes) {
            return Some(Err(error));
        }
        let record = self.about.decode(&bytes);
        if record.is_none() {
            self.left = 0;
        }
        record.map(Ok)
    }
}

impl About {
    fn encode(&self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[..16].copy_from_slice(MAGIC);
        header[16..32].copy_from_slice(&self.fingerprint.0);
        header[32..40].copy_from_slice(&self.size.to_le_bytes());
        header[40..44].copy_from_slice(&self.block_size.to_le_bytes());
        let sum = checksum(&[&header[..48]]);
        header[48..].copy_from_slice(&sum);
        header
    }

    fn record(&self, record: Record) -> [u8; RECORD] {
        let (word, value) = match record {
            Record::Block(number, value) => (number & NUMBER, value),
            Record::Placing(digest) => (PLACING, digest),
        };
        let mut bytes = [0; RECORD];
        bytes[..8].copy_from_slice(&word.to_le_bytes());
        bytes[8..40].copy_from_slice(&value);
        let sum = checksum(&[&self.fingerprint.0, &bytes[..40]]);
        bytes[40..].copy_from_slice(&sum);
        bytes
    }

    fn decode(&self, bytes: &[u8; RECORD]) -> Option<Record> {
        if checksum(&[&self.fingerprint.0, &bytes[..40]]) != bytes[40..] {
            return None;
        }
        let word = u64::from_le_bytes(bytes[..8].try_into().ok()?);
        let value = bytes[8..40].try_into().ok()?;
        match word {
            PLACING => Some(Record::Placing(value)),
            number if number <= NUMBER => Some(Record::Block(number, value)),
            _ => None,
        }
    }
}

fn checksum(parts: &[&[u8]]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    let mut sum = [0; 8];
    sum.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    sum
}

const MAGIC: &[u8; 16] = b"cellnet journal\x01";
const HEADER: usize = 56;
const RECORD: usize = 48;
const NUMBER: u64 = (1 << 56) - 1;
const PLACING: u64 = 1 << 56;
/// How often somebody may remove a journal while it is being locked.
const RACES: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ABOUT: About = About { fingerprint: Fingerprint([3; 16]), size: 1 << 20, block_size: 64 << 10 };

    fn records(journal: &Journal) -> Vec<Record> {
        journal.records().unwrap().map(Result::unwrap).collect()
    }

    fn dir() -> (tempfile::TempDir, Dir) {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        (temp, dir)
    }

    #[test]
    fn a_journal_is_read_back() {
        let (_temp, dir) = dir();
        let said = [Record::Block(0, [1; 32]), Record::Block(7, [2; 32]), Record::Placing([9; 32])];
        let (mut journal, known) = Journal::open(&dir, "j", ABOUT).unwrap();
        assert!(!known);
        said.iter().for_each(|record| journal.push(*record));
        journal.sync().unwrap();
        assert!(matches!(Journal::open(&dir, "j", ABOUT), Err(JournalError::Busy)));
        assert!(lock_unused(&dir, "j").is_none());
        drop(journal);
        let (journal, known) = Journal::open(&dir, "j", ABOUT).unwrap();
        assert!(known);
        assert_eq!(records(&journal), said);
        assert_eq!(journal.placing().unwrap(), Some([9; 32]));
    }

    #[test]
    fn a_journal_that_is_let_go_can_be_had_though_the_disk_still_works_on_it() {
        let (_temp, dir) = dir();
        let (journal, _) = Journal::open(&dir, "j", ABOUT).unwrap();
        let at_work = journal.file().unwrap();
        drop(journal);
        assert!(Journal::open(&dir, "j", ABOUT).is_ok());
        drop(at_work);
    }

    #[test]
    fn a_journal_about_something_else_is_begun_anew() {
        let (_temp, dir) = dir();
        let (mut journal, _) = Journal::open(&dir, "j", ABOUT).unwrap();
        journal.push(Record::Block(0, [1; 32]));
        journal.write().unwrap();
        drop(journal);
        let (journal, known) = Journal::open(&dir, "j", About { size: 5, ..ABOUT }).unwrap();
        assert!(!known);
        assert_eq!(records(&journal), []);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn damage_ends_a_journal_where_it_is(
            numbers in prop::collection::vec(0_u64..1 << 40, 1..20), cut in any::<prop::sample::Index>(),
            flip in any::<Option<prop::sample::Index>>(),
        ) {
            let (temp, dir) = dir();
            let (mut journal, _) = Journal::open(&dir, "j", ABOUT).unwrap();
            let said: Vec<_> = numbers.iter().map(|number| Record::Block(*number, [*number as u8; 32])).collect();
            said.iter().for_each(|record| journal.push(*record));
            journal.sync().unwrap();
            drop(journal);
            let path = temp.path().join("j");
            let mut bytes = std::fs::read(&path).unwrap();
            let at = HEADER + cut.index(bytes.len() - HEADER);
            match flip {
                Some(bit) => bytes[at] ^= 1 << bit.index(8),
                None => bytes.truncate(at),
            }
            std::fs::write(&path, bytes).unwrap();
            let (mut journal, known) = Journal::open(&dir, "j", ABOUT).unwrap();
            prop_assert!(known);
            let good = (at - HEADER) / RECORD;
            prop_assert_eq!(&records(&journal), &said[..good]);
            // What is added follows what was whole.
            journal.push(Record::Block(1, [8; 32]));
            journal.sync().unwrap();
            drop(journal);
            let (journal, _) = Journal::open(&dir, "j", ABOUT).unwrap();
            prop_assert_eq!(records(&journal).len(), good + 1);
        }
    }
}
