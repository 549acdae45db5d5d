//! The header map of a frame.

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;

use super::{DecodeError, Limits, MAX_HEADERS, Value};

/// An ordered map that keeps what it does not know. Keys are text, or bytes that nobody here reads.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Headers {
    entries: Vec<(Value, Value)>,
}

/// A marker with the longest length or number.
const MAX_MARKER: usize = 9;

/// The headers do not fit into a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("headers of {0} bytes exceed the {MAX_HEADERS} that a frame can carry")]
pub struct HeadersError(pub usize);

impl Headers {
    /// No headers.
    pub fn new() -> Self {
        Self::default()
    }

    /// No headers yet, with room for some.
    pub fn with_capacity(entries: usize) -> Self {
        Self { entries: Vec::with_capacity(entries) }
    }

    /// Decodes a header block; an empty block is no headers at all.
    pub fn decode(block: &Bytes) -> Result<Self, DecodeError> {
        if block.is_empty() {
            return Ok(Self::default());
        }
        match Value::decode_strict(block, Limits::HEADERS)? {
            Value::Map(entries) => Ok(Self { entries }),
            _ => Err(DecodeError::Expected("a map of headers")),
        }
    }

    /// Appends the map. On failure `out` is as before.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), HeadersError> {
        let start = out.len();
        let len = u32::try_from(self.entries.len()).map_err(|_| HeadersError(usize::MAX))?;
        rmp::encode::write_map_len(&mut bytes::BufMut::writer(&mut *out), len)
            .expect("a buffer in memory takes everything");
        for (key, value) in &self.entries {
            key.encode(out);
            value.encode(out);
        }
        match out.len() - start {
            size if size <= MAX_HEADERS => Ok(()),
            size => {
                out.truncate(start);
                Err(HeadersError(size))
            }
        }
    }

    /// At least as many bytes as [`encode`](Self::encode) appends, without encoding.
    pub fn size_bound(&self) -> usize {
        let pairs = self.entries.iter().map(|(key, value)| key.size_bound() + value.size_bound());
        MAX_MARKER + pairs.sum::<usize>()
    }

    /// What the headers take in memory, in bytes, more or less.
    pub fn memory(&self) -> usize {
        self.entries.iter().map(|(key, value)| key.memory() + value.memory()).sum()
    }

    /// The value under a key; the last one, if a peer sent several.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.iter().rev().find(|(k, _)| k.as_str() == Some(key)).map(|(_, value)| value)
    }

    /// The text under a key, if it is text.
    pub fn text(&self, key: &str) -> Option<&ByteString> {
        self.get(key)?.as_text()
    }

    /// Whether a key is there and true.
    pub fn flag(&self, key: &str) -> bool {
        self.get(key).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Sets a key, in its old place if it was there.
    pub fn set(&mut self, key: impl Into<ByteString>, value: impl Into<Value>) {
        let key = key.into();
        match self.get_mut(&key) {
            Some(old) => *old = value.into(),
            None => self.entries.push((Value::Str(key), value.into())),
        }
    }

    /// Removes a key, all of it if a peer sent several. Gives the value that [`get`](Self::get) would have.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let at = self.entries.iter().rposition(|(k, _)| k.as_str() == Some(key))?;
        let (_, value) = self.entries.remove(at);
        self.entries.retain(|(k, _)| k.as_str() != Some(key));
        Some(value)
    }

    /// The value under a key, to change it.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.entries.iter_mut().rev().find(|(k, _)| k.as_str() == Some(key)).map(|(_, value)| value)
    }

    /// Keys and values in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Value, &Value)> {
        self.entries.iter().map(|(key, value)| (key, value))
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
        Value::Map(self.entries)
    }
}

impl<K: Into<ByteString>, V: Into<Value>> FromIterator<(K, V)> for Headers {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(pairs: T) -> Self {
        let mut headers = Self::new();
        pairs.into_iter().for_each(|(key, value)| headers.set(key, value));
        headers
    }
}

impl TryFrom<Value> for Headers {
    type Error = DecodeError;

    fn try_from(value: Value) -> Result<Self, DecodeError> {
        match value {
            Value::Map(entries) => Ok(Self { entries }),
            _ => Err(DecodeError::Expected("a map of headers")),
        }
    }
}
