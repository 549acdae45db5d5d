//! The header map of a frame.

use std::{fmt, mem, ops::Range};

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;

use crate::Fqcn;

use super::{
    DecodeError, Limits, MAX_HEADERS, Value,
    marks::{Marks, SOMEWHERE},
    scan::{Scanner, Shape},
};

/// An ordered map that keeps what it does not know. Keys are text, or bytes that nobody here reads.
///
/// Headers stay as they were encoded: what arrived is checked and indexed once, a value is decoded when it is asked
/// for, and whoever sends them on copies the bytes of what it did not change.
#[derive(Clone, Default)]
pub struct Headers {
    /// What arrived.
    block: Bytes,
    /// What was set here.
    own: Vec<u8>,
    entries: Vec<Entry>,
    marks: Marks,
}

/// Where a key and its value are.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// The key with its marker.
    start: u32,
    value: u32,
    end: u32,
    /// Bytes of the key's marker.
    marker: u8,
    /// Whether the key is text.
    readable: bool,
    home: Home,
}

/// Which of the two buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Home {
    Block,
    Own,
}

/// The headers do not fit into a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("headers of {0} bytes exceed the {MAX_HEADERS} that a frame can carry")]
pub struct HeadersError(pub usize);

impl Headers {
    /// No headers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decodes a header block; an empty block is no headers at all.
    pub fn decode(block: &Bytes) -> Result<Self, DecodeError> {
        if block.is_empty() {
            return Ok(Self::default());
        }
        let limits = Limits::HEADERS;
        if block.len() > limits.bytes {
            return Err(DecodeError::TooLong(limits.bytes));
        }
        let mut scanner = Scanner::new(block, limits);
        let Shape::Map(len) = scanner.step()? else {
            // What is wrong with the value itself matters more than that it is no map.
            Scanner::new(block, limits).skip(0)?;
            return Err(DecodeError::Expected("a map of headers"));
        };
        scanner.enter(0)?;
        let mut entries = Vec::with_capacity(len.min(USUAL_ENTRIES));
        let mut marks = Marks::default();
        for _ in 0..len {
            let start = offset(scanner.at());
            let key = scanner.key(1)?;
            let value = offset(scanner.at());
            let (key_len, readable) = match key {
                Shape::Text(text) => (text.len(), true),
                Shape::Bytes(bytes) => (bytes.len(), false),
                _ => unreachable!("no other shape is a key"),
            };
            scanner.skip(1)?;
            let marker = marker_of(value - start, key_len);
            marks.add(&block[value as usize - key_len..value as usize], entries.len());
            entries.push(Entry {
                start,
                value,
                end: offset(scanner.at()),
                marker,
                readable,
                home: Home::Block,
            });
        }
        match scanner.rest().len() {
            0 => Ok(Self { block: block.clone(), own: Vec::new(), entries, marks }),
            rest => Err(DecodeError::Trailing(rest)),
        }
    }

    /// Appends the map. On failure `out` is as before.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), HeadersError> {
        let size = self.encoded_len();
        if size > MAX_HEADERS {
            return Err(HeadersError(size));
        }
        let len =
            u32::try_from(self.entries.len()).expect("each takes at least two of the bytes just checked");
        rmp::encode::write_map_len(&mut bytes::BufMut::writer(&mut *out), len)
            .expect("a buffer in memory takes everything");
        let mut entries = self.entries.iter().peekable();
        while let Some(first) = entries.next() {
            // Neighbours are copied in one piece.
            let mut end = first.end;
            while let Some(next) = entries.next_if(|next| next.home == first.home && next.start == end) {
                end = next.end;
            }
            out.extend_from_slice(&self.buffer(first.home)[range(first.start, end)]);
        }
        Ok(())
    }

    /// As many bytes as [`encode`](Self::encode) appends.
    pub fn encoded_len(&self) -> usize {
        let marker = match self.entries.len() {
            ..16 => 1,
            16..0x1_0000 => 3,
            _ => 5,
        };
        marker + self.entries.iter().map(|entry| (entry.end - entry.start) as usize).sum::<usize>()
    }

    /// What the headers take in memory, in bytes, more or less.
    pub fn memory(&self) -> usize {
        self.block.len() + self.own.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    /// The value under a key, decoded; the last one, if a peer sent several.
    pub fn get(&self, key: &str) -> Option<Value> {
        self.find(key).map(|at| self.value(&self.entries[at]))
    }

    /// The text under a key, if it is text.
    pub fn text(&self, key: &str) -> Option<&str> {
        let value = self.encoded(key)?;
        str::from_utf8(&value[text_marker(value)?..]).ok()
    }

    /// The text under a key, sharing memory with what arrived.
    pub fn shared_text(&self, key: &str) -> Option<ByteString> {
        let entry = &self.entries[self.find(key)?];
        let value = range(entry.value, entry.end);
        let text = value.start + text_marker(&self.buffer(entry.home)[value.clone()])?..value.end;
        let text = match entry.home {
            Home::Block => self.block.slice(text),
            Home::Own => Bytes::copy_from_slice(&self.own[text]),
        };
        ByteString::try_from(text).ok()
    }

    /// The cell name under a key, if it is a valid one.
    pub fn fqcn(&self, key: &str) -> Option<Fqcn> {
        Fqcn::parse(self.shared_text(key)?).ok()
    }

    /// The integer under a key, if it is one and not negative.
    pub fn uint(&self, key: &str) -> Option<u64> {
        match self.shape(key)? {
            Shape::Uint(value) => Some(value),
            _ => None,
        }
    }

    /// The number under a key, whole or not.
    pub fn number(&self, key: &str) -> Option<f64> {
        self.shape(key)?.number()
    }

    /// Whether a key is there and true.
    pub fn flag(&self, key: &str) -> bool {
        matches!(self.shape(key), Some(Shape::Bool(true)))
    }

    /// Whether there is anything under a key.
    pub fn contains(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// Sets a key, in its old place if it was there.
    pub fn set(&mut self, key: impl AsRef<str>, value: impl Into<Value>) {
        self.set_encoded(key.as_ref(), |out| value.into().encode(out));
    }

    /// Sets a text, without a copy of it in between.
    pub(crate) fn set_text(&mut self, key: &str, text: &str) {
        self.set_encoded(key, |out| put_text(out, text));
    }

    /// Sets what `encode` appends to the buffer, which is one value.
    pub(crate) fn set_encoded(&mut self, key: &str, encode: impl FnOnce(&mut Vec<u8>)) {
        if self.own.is_empty() && self.entries.is_empty() {
            // Where one is set, all that the protocol needs are going to be.
            self.own.reserve(USUAL_BYTES);
            self.entries.reserve(USUAL_ENTRIES);
        } else if self.own.is_empty() {
            self.own.reserve(USUAL_REVISION);
        }
        let start = self.own.len();
        put_text(&mut self.own, key);
        let value = self.own.len();
        encode(&mut self.own);
        let end = self.own.len();
        let marker = marker_of(offset(value - start), key.len());
        let entry = Entry {
            start: offset(start),
            value: offset(value),
            end: offset(end),
            marker,
            readable: true,
            home: Home::Own,
        };
        let Some(at) = self.find(key) else {
            self.marks.add(key.as_bytes(), self.entries.len());
            return self.entries.push(entry);
        };
        let old = self.entries[at];
        let fits = old.home == Home::Own && (old.end - old.start) as usize == end - start;
        if fits {
            self.own.copy_within(start..end, old.start as usize);
            self.own.truncate(start);
            let at_old_place = |offset: u32| old.start + offset - entry.start;
            self.entries[at] =
                Entry { start: old.start, value: at_old_place(entry.value), end: old.end, ..entry };
        } else {
            self.entries[at] = entry;
        }
    }

    /// Appends what `encode` appends, which is one value, to the list under a key. What is no list becomes one.
    pub(crate) fn append(&mut self, key: &str, encode: impl FnOnce(&mut Vec<u8>)) {
        let list = self.find(key).and_then(|at| {
            let Entry { home, value, end, .. } = self.entries[at];
            let mut scanner = Scanner::new(&self.buffer(home)[range(value, end)], Limits::HEADERS);
            let Ok(Shape::Array(len)) = scanner.step() else { return None };
            Some((len, home, value as usize + scanner.at()..end as usize))
        });
        let block = self.block.clone();
        self.set_encoded(key, |out| {
            let len = list.as_ref().map_or(0, |(len, ..)| *len) + 1;
            rmp::encode::write_array_len(&mut bytes::BufMut::writer(&mut *out), offset(len))
                .expect("a buffer in memory takes everything");
            match list {
                Some((_, Home::Block, items)) => out.extend_from_slice(&block[items]),
                Some((_, Home::Own, items)) => out.extend_from_within(items),
                None => {}
            }
            encode(out);
        });
    }

    /// Sets everything that is in `other`.
    pub fn extend(&mut self, other: &Self) {
        for key in other.keys() {
            let value = other.encoded(key).expect("it has the key");
            self.set_encoded(key, |out| out.extend_from_slice(value));
        }
    }

    /// Removes a key, all of it if a peer sent several. Says whether it was there.
    pub fn remove(&mut self, key: &str) -> bool {
        if self.find(key).is_none() {
            return false;
        }
        let (mut entries, mut marks) = (mem::take(&mut self.entries), Marks::default());
        entries.retain(|entry| !(entry.readable && self.key(entry) == key.as_bytes()));
        entries.iter().enumerate().for_each(|(at, entry)| marks.add(self.key(entry), at));
        (self.entries, self.marks) = (entries, marks);
        true
    }

    /// [Removes](Self::remove) a key and gives the value that [`get`](Self::get) would have.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        let value = self.get(key);
        self.remove(key);
        value
    }

    /// The keys that are text, in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let readable = self.entries.iter().filter(|entry| entry.readable);
        readable.map(|entry| str::from_utf8(self.key(entry)).expect("only text is readable"))
    }

    /// Keys and values in order, decoded.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Value, Value)> {
        self.entries.iter().map(|entry| {
            let key = Bytes::copy_from_slice(self.key(entry));
            let key = match entry.readable {
                true => Value::Str(ByteString::try_from(key).expect("only text is readable")),
                false => Value::Bin(key),
            };
            (key, self.value(entry))
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The headers as one map, as a RETURN carries those of the failed request.
    pub fn into_value(self) -> Value {
        Value::Map(self.iter().collect())
    }

    /// The value under a key as it is encoded.
    pub(crate) fn encoded(&self, key: &str) -> Option<&[u8]> {
        let entry = &self.entries[self.find(key)?];
        Some(&self.buffer(entry.home)[range(entry.value, entry.end)])
    }

    /// The value under a key as far as a look at its first bytes tells.
    fn shape(&self, key: &str) -> Option<Shape<'_>> {
        Scanner::new(self.encoded(key)?, Limits::HEADERS).step().ok()
    }

    /// A copy with room for other values.
    pub(crate) fn roomy_copy(&self) -> Self {
        let mut own = Vec::with_capacity(self.own.len() + USUAL_REVISION);
        own.extend_from_slice(&self.own);
        Self { block: self.block.clone(), own, entries: self.entries.clone(), marks: self.marks }
    }

    /// Sets everything that is in `other` and not here.
    pub(crate) fn extend_absent(&mut self, other: &Self) {
        for key in other.keys() {
            if !self.contains(key) {
                let value = other.encoded(key).expect("it has the key");
                self.set_encoded(key, |out| out.extend_from_slice(value));
            }
        }
    }

    /// The same headers in memory of their own.
    pub(super) fn detached(&self) -> Self {
        Self { block: Bytes::copy_from_slice(&self.block), ..self.clone() }
    }

    /// Headers like these that came as another block: it differs in values at most, and each of those has its old
    /// place. `None` if it is not like this, or too hard to tell.
    pub(super) fn resembling(&self, block: &Bytes) -> Option<Self> {
        let known = &self.block;
        let first = self.entries.first().map_or(known.len(), |first| first.start as usize);
        if known.len() != block.len() || !self.own.is_empty() || known[..first] != block[..first] {
            return None;
        }
        for entry in &self.entries {
            let (whole, key) = (range(entry.start, entry.end), range(entry.start, entry.value));
            if known[whole.clone()] == block[whole] {
                continue;
            }
            let mut scanner = Scanner::new(&block[range(entry.value, entry.end)], Limits::SMALL);
            let same_place =
                known[key.clone()] == block[key] && scanner.skip(1).is_ok() && scanner.rest().is_empty();
            if !same_place {
                return None;
            }
        }
        Some(Self { block: block.clone(), ..self.clone() })
    }

    /// Headers like these that arrived, with another value wherever `changes` has something. `change` appends it,
    /// and is told that and the value before.
    pub(super) fn revised<C: Copy, E>(
        &self,
        changes: &[Option<C>],
        mut change: impl FnMut(C, &[u8], &mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Self, E> {
        let (mut own, mut entries) = (Vec::with_capacity(USUAL_REVISION), self.entries.clone());
        for (entry, how) in entries.iter_mut().zip(changes) {
            let Some(how) = how else { continue };
            let start = offset(own.len());
            own.extend_from_slice(&self.block[range(entry.start, entry.value)]);
            let value = offset(own.len());
            change(*how, &self.block[range(entry.value, entry.end)], &mut own)?;
            *entry = Entry { start, value, end: offset(own.len()), home: Home::Own, ..*entry };
        }
        Ok(Self { block: self.block.clone(), own, entries, marks: self.marks })
    }

    /// Keys and values as they are encoded, in order: the key without its marker, the value, and both with it.
    pub(super) fn parts(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8], &[u8])> {
        self.entries.iter().map(|entry| {
            let buffer = self.buffer(entry.home);
            (self.key(entry), &buffer[range(entry.value, entry.end)], &buffer[range(entry.start, entry.end)])
        })
    }

    fn find(&self, key: &str) -> Option<usize> {
        let is_it = |entry: &Entry| {
            entry.key_len() == key.len() && self.key(entry) == key.as_bytes() && entry.readable
        };
        match self.marks.of(key.as_bytes()) {
            0 => None,
            SOMEWHERE => self.entries.iter().rposition(is_it),
            mark => Some(usize::from(mark) - 1).filter(|at| is_it(&self.entries[*at])),
        }
    }

    fn key(&self, entry: &Entry) -> &[u8] {
        &self.buffer(entry.home)[range(entry.start + u32::from(entry.marker), entry.value)]
    }

    fn value(&self, entry: &Entry) -> Value {
        let (encoded, limits) = match entry.home {
            Home::Block => (self.block.slice(range(entry.value, entry.end)), Limits::HEADERS),
            Home::Own => (Bytes::copy_from_slice(&self.own[range(entry.value, entry.end)]), Limits::NONE),
        };
        Value::decode(&encoded, limits).expect("it was encoded here, or checked when it arrived")
    }

    fn buffer(&self, home: Home) -> &[u8] {
        match home {
            Home::Block => &self.block,
            Home::Own => &self.own,
        }
    }
}

impl Entry {
    fn key_len(&self) -> usize {
        (self.value - self.start) as usize - usize::from(self.marker)
    }
}

/// What the headers of most messages fit into.
const USUAL_ENTRIES: usize = 24;
const USUAL_BYTES: usize = 640;

/// What changes in most of them.
const USUAL_REVISION: usize = 320;

/// Appends text with its marker.
fn put_text(out: &mut Vec<u8>, text: &str) {
    match text.len() {
        len @ ..32 => out.push(0xa0 | len as u8),
        len @ 32..256 => out.extend_from_slice(&[0xd9, len as u8]),
        _ => {
            return rmp::encode::write_str(&mut bytes::BufMut::writer(out), text)
                .expect("a buffer in memory takes everything");
        }
    }
    out.extend_from_slice(text.as_bytes());
}

/// Bytes of the marker of a text; `None` for anything else.
fn text_marker(value: &[u8]) -> Option<usize> {
    match value.first()? {
        0xa0..=0xbf => Some(1),
        0xd9 => Some(2),
        0xda => Some(3),
        0xdb => Some(5),
        _ => None,
    }
}

/// Bytes of the marker of a key: those that are not the key.
fn marker_of(whole: u32, key: usize) -> u8 {
    u8::try_from(whole as usize - key).expect("markers have five bytes at most")
}

fn range(start: u32, end: u32) -> Range<usize> {
    start as usize..end as usize
}

/// Far more than a frame can carry cannot be set either.
fn offset(at: usize) -> u32 {
    u32::try_from(at).expect("headers are far below 4 GiB")
}

impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        self.entries.len() == other.entries.len() && self.iter().eq(other.iter())
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: AsRef<str>, V: Into<Value>> FromIterator<(K, V)> for Headers {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(pairs: T) -> Self {
        let mut headers = Self::new();
        pairs.into_iter().for_each(|(key, value)| headers.set(key, value));
        headers
    }
}

impl TryFrom<Value> for Headers {
    type Error = DecodeError;

    fn try_from(value: Value) -> Result<Self, DecodeError> {
        let Value::Map(_) = value else { return Err(DecodeError::Expected("a map of headers")) };
        let mut block = BytesMut::new();
        value.encode(&mut block);
        Self::decode(&block.freeze())
    }
}
