//! Writes heads.

use std::{
    fmt,
    hash::{BuildHasher, Hasher},
};

use bytes::{BufMut, BytesMut};
use smallvec::SmallVec;
use uuid::Uuid;

use super::{F64, Hops, SPECIAL, TABLE, TIME, UUID_MARKER, last_time, may_enter};
use crate::wire::{
    Headers, HeadersError, MAX_HEADERS,
    headers::{Varying, uint},
};

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

struct Entry {
    /// What varies in these may not be what the decoder knows.
    headers: Headers,
    /// What that has for each [`Varying::Route`].
    routes: SmallVec<[Box<[u8]>; 1]>,
}

impl Entry {
    fn new(headers: &Headers) -> Self {
        let mut routes = SmallVec::new();
        headers.each_varying(|varying, value| {
            if varying == Varying::Route {
                routes.push(value.into());
            }
        });
        Self { headers: headers.detached(), routes }
    }
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
        let is_kin = |entry: &Entry| entry.headers.are_kin(headers);
        let known = match self.entries.get(self.last).is_some_and(is_kin) {
            true => Some(self.last),
            false => self.entries.iter().position(is_kin),
        };
        if let Some(at) = known {
            return self.shorten(at, headers, body, out);
        }
        let hash = self.hash(headers);
        if let Some(at) = self.hashes.iter().position(|known| *known == hash) {
            if self.entries[at].headers.are_alike(headers) {
                // The next ones are likely to share the layout of these. What the decoder knows is the same.
                self.entries[at].headers = headers.detached();
                return self.shorten(at, headers, body, out);
            }
            return headers.encode(out);
        }
        if may_enter(headers, headers.encoded_len()).is_err() || !self.has_seen(hash) {
            return headers.encode(out);
        }
        if let Some(at) = self.enter(hash, headers) {
            out.put_u8(SPECIAL);
            out.put_u8(at as u8);
        }
        headers.encode(out)
    }

    /// Appends the head of headers that are like an entry: short, unless that is too long.
    fn shorten(
        &mut self,
        at: usize,
        headers: &Headers,
        body: usize,
        out: &mut BytesMut,
    ) -> Result<(), HeadersError> {
        self.last = at;
        let start = out.len();
        out.put_u8(at as u8);
        let mut last = None;
        // What is like an entry has as many routes.
        let mut routes = self.entries[at].routes.iter();
        headers.each_varying(|varying, value| {
            let before = if varying == Varying::Route { routes.next() } else { None };
            put_varying(varying, value, before.map_or(&[], |route| route), body, &mut last, out);
        });
        if out.len() - start <= MAX_HEADERS {
            return Ok(());
        }
        out.truncate(start);
        headers.encode(out)
    }

    /// Of everything that does not vary.
    fn hash(&self, headers: &Headers) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        for (key, value) in headers.steady() {
            hasher.write(key);
            hasher.write(value.unwrap_or_default());
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
        Headers::decode(&block.freeze()).ok()?;
        let entry = Entry::new(headers);
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
            let times = put_times(value, before, out);
            *last = times.unwrap_or_else(|| last_time(value));
            times.is_some()
        }
        Varying::SendTime => last.is_some_and(|last| value.split_first() == Some((&F64, &last))),
        Varying::Length => value == uint(&mut [0; 9], body as u64),
        Varying::Number => false,
    };
    if !short {
        out.truncate(start);
        out.put_slice(value);
    }
}

/// Appends an id, if it is a UUID as they are usually written.
fn put_uuid(value: &[u8], out: &mut BytesMut) -> bool {
    let Some((&UUID_MARKER, text)) = value.split_first_chunk() else { return false };
    // Of this length only the form with hyphens is one.
    let Ok(text) = <&[u8; 36]>::try_from(text) else { return false };
    let Ok(id) = Uuid::try_parse_ascii(text) else { return false };
    let usual = !text.iter().any(u8::is_ascii_uppercase);
    if usual {
        out.put_slice(id.as_bytes());
    }
    usual
}

/// Appends the times of a route that is an earlier one in everything else. Gives the last of them, if there is one.
fn put_times(route: &[u8], before: &[u8], out: &mut BytesMut) -> Option<Option<[u8; TIME]>> {
    let hops = Hops::of(route).filter(|_| route.len() == before.len())?;
    let (mut end, mut last) = (0, None);
    for hop in hops {
        // What is the same up to a time has the time in the same place.
        let at = hop?.time.filter(|at| route[end..*at] == before[end..*at])?;
        let time = *route[at..].first_chunk()?;
        out.put_slice(&time);
        (end, last) = (at + TIME, Some(time));
    }
    (route[end..] == before[end..]).then_some(last)
}

impl fmt::Debug for HeadEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.table.as_ref().map(|table| table.entries.len());
        f.debug_struct("HeadEncoder").field("entries", &entries).finish()
    }
}
