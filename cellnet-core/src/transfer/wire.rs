//! What the two ends of a transfer say to each other: MessagePack in plain messages on one channel.
//!
//! Maps are read by name and unknown entries skipped, so that both ends may learn. `block` alone has a fixed form, because
//! relays look into it.

use bytes::Bytes;
use bytestring::ByteString;
use serde::{Deserialize, Serialize, de};

use super::{Reason, Receipt, TransferError};
use crate::{
    fqcn::Fqcn,
    message::{Message, ReturnCode},
};

/// The channel of transfers. Its messages never stream: each is one frame.
pub const CHANNEL: &str = crate::wire::keys::TRANSFER_CHANNEL;

/// Puller to source: an offer of what is under a path.
pub const OPEN: &str = "open";
/// Source to sink: a token, and what can be had for it.
pub const OFFER: &str = "offer";
/// Sink to source: a page of the manifest.
pub const LIST: &str = "list";
/// Sink to source: one block; see [`BlockAsk`].
pub const BLOCK: &str = "block";
/// Sink to source: how it went.
pub const DONE: &str = "done";
/// Either way: the transfer is given up.
pub const CANCEL: &str = "cancel";

/// Header of a reply that is a refusal: the word of a [`Reason`], or [`PENDING`].
pub const REASON: &str = "cellnet_reason";
/// In place of a reason: not now, ask again.
pub const PENDING: &str = "pending";
/// Header of a block reply whose source is being read while it is sent: all its bytes, once that is known. Such replies
/// are not to be cached.
pub const LENGTH: &str = "cellnet_length";
/// Header of a block reply of a source that does not know its length yet. Such replies are not to be cached.
pub const LIVE: &str = "cellnet_live";
/// Header of a block request that must not be answered from a cache: what came before was damaged.
pub const FRESH: &str = "cellnet_fresh";
/// Header of a block request: blocks of this file before this number are safe and may be forgotten.
pub const SAFE: &str = "cellnet_safe";

/// Smallest block.
pub const MIN_BLOCK: u32 = 64 << 10;
/// Largest block: what a frame that nobody has to wait for long may carry.
pub const MAX_BLOCK: u32 = 1 << 20;
/// Bytes of a block reply before the block: its BLAKE3 chaining value.
pub const VALUE_LEN: usize = 32;

/// 32 bytes of BLAKE3.
pub type Hash = [u8; 32];

/// Proves that its holder was offered something. It is made of random bytes and shown to nobody else.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub [u8; 16]);

impl Token {
    /// A token that nobody can guess.
    pub fn random() -> Self {
        // Two, because an id has six fixed bits.
        let (a, b) = (uuid::Uuid::new_v4().into_bytes(), uuid::Uuid::new_v4().into_bytes());
        Self(std::array::from_fn(|at| a[at] ^ b[(at + 5) % 16]))
    }
}

impl std::fmt::Debug for Token {
    /// Shows who it is, not what it opens.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

/// Asks for one block. Travels as the MessagePack array `[token: bin 16, file: u32, block: u64]`, numbers in their shortest
/// form, so that equal requests are equal bytes.
///
/// The reply is `ok` with [`VALUE_LEN`] bytes, the BLAKE3 chaining value of the block at its place in the file, and the
/// block after them; without a block these are zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockAsk {
    /// Of the offer.
    pub token: Token,
    /// Number of the entry in the manifest.
    pub file: u32,
    /// Number of the block in the file.
    pub block: u64,
}

impl BlockAsk {
    /// The bytes that travel.
    pub fn encode(&self) -> Bytes {
        encode(&(self.token, self.file, self.block))
    }

    /// Reads them; `None` if they are anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (token, file, block) = rmp_serde::from_slice(bytes).ok()?;
        let ask = Self { token, file, block };
        (ask.encode() == bytes).then_some(ask)
    }
}

/// What can be had for a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offer {
    pub(crate) token: Token,
    /// Where the entries go, below the inbox; empty for the inbox itself, and in replies to `open`.
    pub(crate) path: ByteString,
    /// Entries of the manifest: files and directories.
    pub(crate) entries: u32,
    pub(crate) files: u32,
    /// None while the source is being read.
    pub(crate) bytes: Option<u64>,
    /// Bytes that are no holes.
    pub(crate) stored: u64,
    pub(crate) block: u32,
    /// Changes with anything in the manifest.
    pub(crate) fingerprint: Fingerprint,
    pub(crate) overwrite: bool,
}

/// What the sink says to an offer that it takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Accepted {
    /// Bytes that need not travel any more.
    pub(crate) safe: u64,
    /// Bytes among these from before.
    pub(crate) resumed: u64,
    /// Changes whenever something was done.
    pub(crate) activity: u64,
    /// The transfer is over, and this is what came of it.
    pub(crate) receipt: Option<Receipt>,
}

/// Asks for the manifest from an entry on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ListAsk {
    pub(crate) token: Token,
    pub(crate) from: u32,
}

/// A page of the manifest; never empty unless the manifest ends before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Page {
    pub(crate) entries: Vec<Entry>,
}

/// A file or a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Below the path of the offer, with `/` between names. A directory comes before what is in it.
    pub(crate) path: ByteString,
    pub(crate) dir: bool,
    /// None while the source is being read.
    pub(crate) size: Option<u64>,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Seconds since 1970 and nanoseconds.
    pub(crate) mtime: (i64, u32),
    /// Changes with the content.
    pub(crate) fingerprint: Fingerprint,
}

/// Says how it went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Done {
    pub(crate) token: Token,
    /// Whether everything is in its place. Before that the source is asked whether the digest is right.
    pub(crate) placed: bool,
    pub(crate) receipt: Option<Receipt>,
    /// A word and a text, if it failed.
    pub(crate) failure: Option<(ByteString, ByteString)>,
}

/// Gives a transfer up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cancel {
    pub(crate) token: Token,
    pub(crate) reason: ByteString,
    pub(crate) text: ByteString,
}

/// Asks for an offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Open {
    pub(crate) path: ByteString,
}

macro_rules! binary {
    ($name:ident, $len:literal) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl de::Visitor<'_> for Visitor {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(concat!($len, " bytes"))
                    }

                    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<$name, E> {
                        bytes.try_into().map($name).map_err(|_| E::invalid_length(bytes.len(), &self))
                    }
                }
                deserializer.deserialize_bytes(Visitor)
            }
        }
    };
}

/// Tells one state of a source from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint(pub(crate) [u8; 16]);

binary!(Token, 16);
binary!(Fingerprint, 16);

pub(crate) fn encode<T: Serialize>(value: &T) -> Bytes {
    rmp_serde::to_vec_named(value).expect("these types have an encoding").into()
}

/// Reads a message of the other side.
pub(crate) fn decode<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, TransferError> {
    if bytes.len() > MAX_MESSAGE {
        return Err(TransferError::here(Reason::Protocol, format!("message of {} bytes", bytes.len())));
    }
    rmp_serde::from_slice(bytes)
        .map_err(|error| TransferError::here(Reason::Protocol, format!("message not understood: {error}")))
}

/// Longest message that is read, blocks aside: some 10,000 entries of a manifest.
const MAX_MESSAGE: usize = 1 << 20;

/// A reply that says no.
pub(crate) fn refusal(reason: Reason, text: impl Into<ByteString>) -> Message {
    Message::failure(reason.code(), text).with_header(REASON, reason.as_str())
}

/// A reply that says: later.
pub(crate) fn pending(text: &'static str) -> Message {
    Message::failure(ReturnCode::SERVICE_UNAVAILABLE, text).with_header(REASON, PENDING)
}

/// The refusal in a reply of `cell`, if it is one that the other end itself made.
pub(crate) fn refused(cell: &Fqcn, reply: &Message) -> Option<TransferError> {
    let word = reply.headers.text(REASON)?;
    Some(TransferError::peer(cell, Reason::parse(word), reply.error().unwrap_or_default()))
}

impl From<TransferError> for Message {
    fn from(error: TransferError) -> Self {
        refusal(error.reason(), error.text().to_owned())
    }
}
