//! Writes heads.

use std::{
    fmt,
    hash::{BuildHasher, Hasher},
};

use bytes::{BufMut, BytesMut};
use uuid::Uuid;

use super::{F64, MAX_ENTRY, SPECIAL, TABLE, TIME, is_id, last_time, length, times, varies};
use crate::wire::{Headers, HeadersError, Limits, MAX_HEADERS, Scanner, Shape, keys::cn};

/// Writes the heads of one lane: in full, or short where that was agreed.
#[derive(Default)]
pub(crate) struct HeadEncoder {
    table: Option<Box<Table>>,
}

/// What the decoder at the other end knows.
struct Table {
    /// Of the entries, by what does not vary in them.
    hashes: Vec<u64>,
    entries: Vec<Headers>,
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
                hashes: Vec::new(),
                entries: Vec::new(),
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
        let Some(table) = &mut self.table else { return headers.encode(out) };
        let hash = table.hash(headers);
        let known = table.hashes.iter().position(|known| *known == hash);
        if let Some(at) = known.filter(|at| alike(headers, &table.entries[*at])) {
            let start = out.len();
            out.put_u8(at as u8);
            shorten(headers, &table.entries[at], body, out);
            if out.len() - start <= MAX_HEADERS {
                return Ok(());
            }
            out.truncate(start);
            return headers.encode(out);
        }
        if known.is_some() || headers.encoded_len() > MAX_ENTRY || !table.has_seen(hash) {
            return headers.encode(out);
        }
        let at = table.enter(hash, headers)?;
        out.put_u8(SPECIAL);
        out.put_u8(at as u8);
        headers.encode(out)
    }
}

impl Table {
    /// Of everything that does not vary.
    fn hash(&self, headers: &Headers) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        for (key, _, whole) in headers.parts() {
            hasher.write(if varies(key) { key } else { whole });
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

    fn enter(&mut self, hash: u64, headers: &Headers) -> Result<usize, HeadersError> {
        let mut block = BytesMut::with_capacity(headers.encoded_len());
        headers.encode(&mut block)?;
        let Ok(entry) = Headers::decode(&block.freeze()) else {
            // It has more values than anybody reads.
            return Err(HeadersError(headers.encoded_len()));
        };
        if self.entries.len() < TABLE {
            self.hashes.push(hash);
            self.entries.push(entry);
            return Ok(self.entries.len() - 1);
        }
        let at = self.oldest;
        self.oldest = (at + 1) % TABLE;
        self.hashes[at] = hash;
        self.entries[at] = entry;
        Ok(at)
    }
}

/// Whether headers differ in nothing but what varies.
fn alike(headers: &Headers, entry: &Headers) -> bool {
    headers.len() == entry.len()
        && headers.parts().zip(entry.parts()).all(|((key, _, whole), (entry_key, _, entry_whole))| {
            if varies(key) { key == entry_key } else { whole == entry_whole }
        })
}

/// Appends the values that vary.
fn shorten(headers: &Headers, entry: &Headers, body: usize, out: &mut BytesMut) {
    let mut last = None;
    for ((key, value, _), (_, before, _)) in headers.parts().zip(entry.parts()) {
        if !varies(key) {
            continue;
        }
        let start = out.len();
        out.put_u8(SPECIAL);
        let short = if is_id(key) {
            put_uuid(value, out)
        } else if key == cn::ROUTE.as_bytes() {
            last = last_time(value);
            put_times(value, before, out)
        } else if key == cn::SEND_TIME.as_bytes() {
            last.is_some_and(|last| value.split_first() == Some((&F64, &last)))
        } else {
            key == cn::PAYLOAD_LEN.as_bytes() && is_length(value, body)
        };
        if !short {
            out.truncate(start);
            out.put_slice(value);
        }
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
    let (Some(here), Some(there)) = (times(route), times(before)) else { return false };
    if route.len() != before.len() {
        return false;
    }
    let mut end = 0;
    for (at, known) in here.zip(there) {
        let (Some(at), Some(known)) = (at, known) else { return false };
        if at != known || route[end..at] != before[end..at] {
            return false;
        }
        end = at + TIME;
        out.put_slice(&route[at..end]);
    }
    route[end..] == before[end..]
}

/// Whether a value is how the length of a body is usually written.
fn is_length(value: &[u8], body: usize) -> bool {
    value == length(&mut [0; 9], body)
}

impl fmt::Debug for HeadEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.table.as_ref().map(|table| table.entries.len());
        f.debug_struct("HeadEncoder").field("entries", &entries).finish()
    }
}
