//! One frame: what a transport carries.

use bytes::Bytes;

use super::prefix::{PREFIX_LEN, Prefix, PrefixError};

/// One encoded frame: `head` is the 16-byte prefix and the header map, `body` the payload.
///
/// Two pieces, so that a relay can rewrite the head and share the body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frame {
    head: Bytes,
    body: Bytes,
}

impl Frame {
    /// Puts a frame together. `head` starts with the prefix.
    pub fn new(head: Bytes, body: Bytes) -> Self {
        Self { head, body }
    }

    /// Cuts one whole encoded frame into head and body without copying.
    ///
    /// A header length that points past the end takes everything as head, which then fails to decode, as it does in
    /// the reference. Fails if there is no valid prefix.
    pub fn split(mut frame: Bytes) -> Result<Self, PrefixError> {
        let Some(prefix) = frame.first_chunk::<PREFIX_LEN>() else {
            return Err(PrefixError::TooShort(frame.len()));
        };
        let prefix = Prefix::decode(prefix)?;
        let head_len = (PREFIX_LEN + prefix.header_len as usize).min(frame.len());
        let head = frame.split_to(head_len);
        Ok(Self { head, body: frame })
    }

    /// The prefix and the header map.
    pub fn head(&self) -> &Bytes {
        &self.head
    }

    /// The payload.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Takes the frame apart.
    pub fn into_parts(self) -> (Bytes, Bytes) {
        (self.head, self.body)
    }

    /// Bytes of head and body together.
    pub fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// Whether there are no bytes at all, not even a prefix.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The prefix, if the head starts with a valid one.
    pub fn prefix(&self) -> Result<Prefix, PrefixError> {
        match self.head.first_chunk::<PREFIX_LEN>() {
            Some(prefix) => Prefix::decode(prefix),
            None => Err(PrefixError::TooShort(self.head.len())),
        }
    }

    /// Whether the body was left out because the frame is longer than the receiver accepts: the prefix then claims
    /// more bytes than are here. A driver hands such a frame on with an empty body and reads past the rest.
    pub fn is_truncated(&self) -> bool {
        self.prefix().is_ok_and(|prefix| prefix.length as usize > self.len())
    }
}
