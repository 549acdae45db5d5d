//! What was set since the headers arrived, or were written.

use smallvec::SmallVec;

use super::{
    layout::offset,
    marks::{Marks, SOMEWHERE},
    scalars::{put_text, text_marker},
};

/// Values that take the place of others, and headers that were added.
#[derive(Debug)]
pub(super) struct Changes {
    bytes: Vec<u8>,
    /// By position, and behind them what was added, in order.
    list: SmallVec<[Change; USUAL]>,
    /// How many of them have positions.
    placed: usize,
    /// Whether a message of the same kind may have something else in one of them, other than what varies.
    unusual: bool,
    /// Where the others are, counted from there.
    marks: Marks<32>,
}

/// What most messages need.
const USUAL: usize = 8;
const USUAL_BYTES: usize = 256;

/// A new value, or a header that was added.
#[derive(Debug, Clone, Copy)]
struct Change {
    /// The position, or [`ADDED`].
    at: u32,
    /// The key with its marker, if it was added.
    start: u32,
    value: u32,
    end: u32,
}

const ADDED: u32 = u32::MAX;

impl Default for Changes {
    /// None, and memory for those of most messages.
    fn default() -> Self {
        Self { bytes: Vec::with_capacity(USUAL_BYTES), ..Self::none() }
    }
}

impl Clone for Changes {
    fn clone(&self) -> Self {
        let mut copy = Self::default();
        copy.clone_from(self);
        copy
    }

    fn clone_from(&mut self, other: &Self) {
        self.bytes.clone_from(&other.bytes);
        self.list.clone_from(&other.list);
        (self.placed, self.unusual, self.marks) = (other.placed, other.unusual, other.marks);
    }
}

impl Changes {
    pub(super) const fn none() -> Self {
        Self {
            bytes: Vec::new(),
            list: SmallVec::new_const(),
            placed: 0,
            unusual: false,
            marks: Marks::none(),
        }
    }

    /// Forgets everything. Gives the bytes that there is memory for.
    pub(super) fn clear(&mut self) -> usize {
        self.bytes.clear();
        self.list.clear();
        (self.placed, self.unusual, self.marks) = (0, false, Marks::none());
        self.bytes.capacity() + self.list.capacity() * size_of::<Change>()
    }

    /// The value at a position, if it is another one.
    #[inline]
    pub(super) fn at(&self, at: usize) -> Option<&[u8]> {
        let change = self.list[..self.placed].iter().find(|change| change.at as usize == at)?;
        Some(self.value(change))
    }

    /// [`at`](Self::at) for positions that are asked for in order.
    pub(super) fn in_order<'a>(&'a self) -> impl FnMut(usize) -> Option<&'a [u8]> {
        let mut left = &self.list[..self.placed];
        move |at| {
            while let [first, rest @ ..] = left
                && first.at as usize <= at
            {
                left = rest;
                if first.at as usize == at {
                    return Some(self.value(first));
                }
            }
            None
        }
    }

    /// All values at positions, in order.
    pub(super) fn moved(&self) -> impl Iterator<Item = (usize, &[u8])> {
        self.list[..self.placed].iter().map(|change| (change.at as usize, self.value(change)))
    }

    /// Keys with their markers and values of what was added.
    pub(super) fn added(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let key = |change: &Change| &self.bytes[change.start as usize..change.value as usize];
        self.list[self.placed..].iter().map(move |change| (key(change), self.value(change)))
    }

    /// How many were added.
    pub(super) fn count_added(&self) -> usize {
        self.list.len() - self.placed
    }

    /// The value of a key that was added.
    pub(super) fn find(&self, key: &str) -> Option<&[u8]> {
        self.position(key).map(|at| self.value(&self.list[at]))
    }

    /// Whether anything was set that usually stays, or added.
    #[inline]
    pub(super) fn are_unusual(&self) -> bool {
        self.unusual
    }

    /// Sets the value at a position to what `encode` appends. `old` is the value that would be there without a change,
    /// and `varies` tells whether it is another one in nearly every message.
    pub(super) fn replace<E>(
        &mut self,
        (at, varies): (usize, bool),
        old: &[u8],
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = offset(self.bytes.len());
        encode(&mut self.bytes)?;
        let change = Change { at: offset(at), start, value: start, end: offset(self.bytes.len()) };
        let behind = self.list[..self.placed].iter().rposition(|known| known.at <= change.at);
        match behind.filter(|behind| self.list[*behind].at == change.at) {
            Some(known) => self.update(known, change),
            None if self.value(&change) == old => self.bytes.truncate(start as usize),
            None => {
                self.list.insert(behind.map_or(0, |behind| behind + 1), change);
                self.placed += 1;
                self.unusual |= !varies;
            }
        }
        Ok(())
    }

    /// Sets the value at a position behind all that were set, of a header that varies, to what `encode` appends.
    #[inline]
    pub(super) fn push<R>(&mut self, at: usize, encode: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let start = offset(self.bytes.len());
        let encoded = encode(&mut self.bytes);
        let change = Change { at: offset(at), start, value: start, end: offset(self.bytes.len()) };
        debug_assert!(self.list.last().is_none_or(|last| last.at < change.at));
        self.list.push(change);
        self.placed += 1;
        encoded
    }

    /// Sets the value of a key that has no position to what `encode` appends.
    pub(super) fn add(&mut self, key: &str, encode: impl FnOnce(&mut Vec<u8>)) {
        let known = self.position(key);
        let start = offset(self.bytes.len());
        put_text(&mut self.bytes, key);
        let value = offset(self.bytes.len());
        encode(&mut self.bytes);
        let change = Change { at: ADDED, start, value, end: offset(self.bytes.len()) };
        match known {
            Some(at) => self.update(at, change),
            None => {
                self.marks.add(key.as_bytes(), self.count_added());
                self.list.push(change);
                self.unusual = true;
            }
        }
    }

    /// Takes away a key that was added. Says whether it was there.
    pub(super) fn remove(&mut self, key: &str) -> bool {
        let Some(at) = self.position(key) else { return false };
        self.list.remove(at);
        let mut marks = Marks::none();
        self.added().enumerate().for_each(|(at, (key, _))| marks.add(bare(key), at));
        self.marks = marks;
        true
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        let spilled = if self.list.spilled() { self.list.capacity() * size_of::<Change>() } else { 0 };
        // By what is in it: how much more it has from earlier messages would make one budget hold more than another.
        size_of::<Self>() + self.bytes.len().max(USUAL_BYTES) + spilled
    }

    /// Puts a change in the place of an older one, in its bytes too if they are as many.
    fn update(&mut self, at: usize, change: Change) {
        let old = self.list[at];
        let (start, len) = (change.start as usize, (change.end - change.start) as usize);
        if (old.end - old.start) as usize == len {
            self.bytes.copy_within(start..start + len, old.start as usize);
            self.bytes.truncate(start);
        } else {
            self.list[at] = change;
        }
    }

    fn position(&self, key: &str) -> Option<usize> {
        let added = &self.list[self.placed..];
        let is_it = |change: &Change| {
            bare(&self.bytes[change.start as usize..change.value as usize]) == key.as_bytes()
        };
        let at = match self.marks.of(key.as_bytes()) {
            0 => None,
            SOMEWHERE => added.iter().rposition(is_it),
            mark => Some(usize::from(mark) - 1).filter(|at| is_it(&added[*at])),
        };
        at.map(|at| self.placed + at)
    }

    #[inline]
    fn value(&self, change: &Change) -> &[u8] {
        &self.bytes[change.value as usize..change.end as usize]
    }
}

/// A key without its marker.
fn bare(key: &[u8]) -> &[u8] {
    &key[text_marker(key).expect("keys that are set are text")..]
}
