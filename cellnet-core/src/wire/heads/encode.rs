//! Writes heads.

use std::{
    fmt,
    hash::{BuildHasher, Hasher},
};

use bytes::{BufMut, BytesMut};
use uuid::Uuid;

use super::{Entry, F64, MAX_ENTRY, SPECIAL, TABLE, TIME, Varying, last_time, length, times};
use crate::wire::{Headers, HeadersError, Limits, MAX_HEADERS, Scanner, Shape};

/// Writes the heads of one lane: in full, or short where that was agreed.
#[derive(Default)]
pub(crate) struct HeadEncoder {
    table: Option<Box<Table>>,
}

/// What the decoder at the other end knows.
struct Table {
    entries: Vec<Entry>,
    /// Of the entries, by what does not vary in them.
    hashes: Vec<u64>,
    /// The entry that the message before was like: the next one often is too.
    last: usize,
    /// The oldest entry, which the next one replaces.
    oldest: usize,
    /// Heads that were seen once, as a ring. A head is entered when it is seen again, because many are never.
    seen: [u64; SEEN],
    next_seen: usize,
    hasher: foldhash::fast::RandomState,
}

const SEEN: usize = 64;

impl HeadEncoder {
    /// Writes short heads from now on.
    pub(crate) fn compact() -> Self {
        Self {
            table: Some(Box::new(Table {
                entries: Vec::new(),
                hashes: Vec::new(),
                last: 0,
                oldest: 0,
                seen: [0; SEEN],
                next_seen: 0,
                hasher: foldhash::fast::RandomState::default(),
            })),
        }
    }

    /// Appends the head of a message with a body of `body` bytes. On failure `out` and the table are as before.
    ///
    /// What was appended must be written: the decoder has to see every head.
    pub(crate) fn encode(
        &mut self,
        headers: &Headers,
        body: usize,
        out: &mut BytesMut,
    ) -> Result<(), HeadersError> {
        match &mut self.table {
            Some(table) => table.encode(headers, body, out),
            None => headers.encode(out),
        }
    }
}

impl Table {
    fn encode(&mut self, headers: &Headers, body: usize, out: &mut BytesMut) -> Result<(), HeadersError> {
        if self.shorten(self.last, headers, body, out) {
            return Ok(());
        }
        let hash = self.hash(headers);
        if let Some(at) = self.hashes.iter().position(|known| *known == hash) {
            if self.shorten(at, headers, body, out) {
                self.last = at;
                return Ok(());
            }
            return headers.encode(out);
        }
        if headers.encoded_len() > MAX_ENTRY || !self.has_seen(hash) {
            return headers.encode(out);
        }
        if let Some(at) = self.enter(hash, headers) {
            out.put_u8(SPECIAL);
            out.put_u8(at as u8);
        }
        headers.encode(out)
    }

    /// Appends a short head, if the entry is like the headers.
    fn shorten(&self, at: usize, headers: &Headers, body: usize, out: &mut BytesMut) -> bool {
        let start = out.len();
        let entry = self.entries.get(at).filter(|entry| entry.headers.len() == headers.len());
        let Some(entry) = entry else { return false };
        out.put_u8(at as u8);
        let mut last = None;
        let pairs = headers.parts().zip(entry.headers.parts()).zip(&entry.varying);
        for (((key, value, whole), (entry_key, before, entry_whole)), varying) in pairs {
            let alike = match varying {
                Some(_) => key == entry_key,
                None => whole == entry_whole,
            };
            if !alike {
                out.truncate(start);
                return false;
            }
            let Some(varying) = varying else { continue };
            put_varying(*varying, value, before, body, &mut last, out);
        }
        let fits = out.len() - start <= MAX_HEADERS;
        if !fits {
            out.truncate(start);
        }
        fits
    }

    /// Of everything that does not vary.
    fn hash(&self, headers: &Headers) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        for (key, _, whole) in headers.parts() {
            hasher.write(if Varying::of(key).is_some() { key } else { whole });
        }
        hasher.finish()
    }

    /// Whether a head was seen not long ago. Now it was.
    fn has_seen(&mut self, hash: u64) -> bool {
        if self.seen.contains(&hash) {
            return true;
        }
        self.seen[self.next_seen] = hash;
        self.next_seen = (self.next_seen + 1) % SEEN;
        false
    }

    /// The index under which a head is known from now on. `None` if nobody can read it.
    fn enter(&mut self, hash: u64, headers: &Headers) -> Option<usize> {
        let mut block = BytesMut::with_capacity(headers.encoded_len());
        headers.encode(&mut block).ok()?;
        let entry = Entry::new(&Headers::decode(&block.freeze()).ok()?);
        if self.entries.len() < TABLE {
            self.hashes.push(hash);
            self.entries.push(entry);
            return Some(self.entries.len() - 1);
        }
        let at = self.oldest;
        self.oldest = (at + 1) % TABLE;
        self.hashes[at] = hash;
        self.entries[at] = entry;
        Some(at)
    }
}

/// Appends a value that varies: in its short form if it has one, or as it is. `last` is the last time of the route.
fn put_varying(
    varying: Varying,
    value: &[u8],
    before: &[u8],
    body: usize,
    last: &mut Option<[u8; TIME]>,
    out: &mut BytesMut,
) {
    let start = out.len();
    out.put_u8(SPECIAL);
    let short = match varying {
        Varying::Id => put_uuid(value, out),
        Varying::Route => {
            *last = last_time(value);
            put_times(value, before, out)
        }
        Varying::SendTime => last.is_some_and(|last| value.split_first() == Some((&F64, &last))),
        Varying::Length => value == length(&mut [0; 9], body),
        Varying::Number => false,
    };
    if !short {
        out.truncate(start);
        out.put_slice(value);
    }
}

/// Appends an id, if it is a UUID as they are usually written.
fn put_uuid(value: &[u8], out: &mut BytesMut) -> bool {
    let Ok(Shape::Text(text)) = Scanner::new(value, Limits::SMALL).step() else { return false };
    let Ok(id) = Uuid::try_parse(text) else { return false };
    let usual = value.len() == 2 + text.len() && *id.hyphenated().encode_lower(&mut [0; 36]) == *text;
    if usual {
        out.put_slice(id.as_bytes());
    }
    usual
}

/// Appends the times of a route that is an earlier one in everything else.
fn put_times(route: &[u8], before: &[u8], out: &mut BytesMut) -> bool {
    let Some(times) = times(route).filter(|_| route.len() == before.len()) else { return false };
    let mut end = 0;
    for at in times {
        // What is the same up to a time has the time in the same place.
        let Some(at) = at.filter(|at| route[end..*at] == before[end..*at]) else { return false };
        end = at + TIME;
        out.put_slice(&route[at..end]);
    }
    route[end..] == before[end..]
}

impl fmt::Debug for HeadEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.table.as_ref().map(|table| table.entries.len());
        f.debug_struct("HeadEncoder").field("entries", &entries).finish()
    }
}
