//! The header map of a frame.

use std::{fmt, ops::Range};

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;

use crate::Fqcn;

use super::{
    DecodeError, Limits, MAX_HEADERS, Value,
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
}

/// Where a key and its value are.
#[derive(Debug, Clone, Copy)]
struct Entry {
    home: Home,
    /// Whether the key is text.
    readable: bool,
    /// The key with its marker.
    start: u32,
    /// The key without it.
    key: u32,
    value: u32,
    end: u32,
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
            let key = value - offset(key_len);
            entries.push(Entry { home: Home::Block, readable, start, key, value, end: offset(scanner.at()) });
        }
        match scanner.rest().len() {
            0 => Ok(Self { block: block.clone(), own: Vec::new(), entries }),
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
        match self.shape(key)? {
            Shape::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The text under a key, sharing memory with what arrived.
    pub fn shared_text(&self, key: &str) -> Option<ByteString> {
        let entry = &self.entries[self.find(key)?];
        let value = &self.buffer(entry.home)[range(entry.value, entry.end)];
        let Ok(Shape::Text(text)) = Scanner::new(value, Limits::HEADERS).step() else { return None };
        match entry.home {
            Home::Block => {
                let end = entry.end as usize;
                ByteString::try_from(self.block.slice(end - text.len()..end)).ok()
            }
            Home::Own => Some(text.into()),
        }
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
        self.set_encoded(key, |out| {
            rmp::encode::write_str(&mut bytes::BufMut::writer(out), text)
                .expect("a buffer in memory takes everything");
        });
    }

    /// Sets what `encode` appends to the buffer, which is one value.
    pub(crate) fn set_encoded(&mut self, key: &str, encode: impl FnOnce(&mut Vec<u8>)) {
        if self.own.is_empty() {
            // Where one is set, all that the protocol needs are going to be.
            self.own.reserve(USUAL_BYTES);
            self.entries.reserve(USUAL_ENTRIES.saturating_sub(self.entries.len()));
        }
        let start = offset(self.own.len());
        rmp::encode::write_str(&mut bytes::BufMut::writer(&mut self.own), key)
            .expect("a buffer in memory takes everything");
        let value = offset(self.own.len());
        encode(&mut self.own);
        let end = offset(self.own.len());
        let entry =
            Entry { home: Home::Own, readable: true, start, key: value - offset(key.len()), value, end };
        match self.find(key) {
            Some(at) => self.entries[at] = entry,
            None => self.entries.push(entry),
        }
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
        let before = self.entries.len();
        while let Some(at) = self.find(key) {
            self.entries.remove(at);
        }
        self.entries.len() < before
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

    fn find(&self, key: &str) -> Option<usize> {
        self.entries.iter().rposition(|entry| {
            (entry.value - entry.key) as usize == key.len()
                && self.key(entry) == key.as_bytes()
                && entry.readable
        })
    }

    fn key(&self, entry: &Entry) -> &[u8] {
        &self.buffer(entry.home)[range(entry.key, entry.value)]
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

/// What the headers of most messages fit into.
const USUAL_ENTRIES: usize = 24;
const USUAL_BYTES: usize = 640;

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
