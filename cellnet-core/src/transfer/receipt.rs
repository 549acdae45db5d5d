//! What is left of a transfer that went well.

use std::fmt;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{TransferError, wire::Hash};

/// How a transfer ended.
pub(crate) type Outcome = Result<Receipt, TransferError>;
/// Hears how it ended, when that is known.
pub(crate) type Heard = watch::Receiver<Option<Outcome>>;

/// What the receiver has, as it said and the source has checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Receipt {
    /// Files.
    pub files: u64,
    /// Bytes of their content, holes included.
    pub bytes: u64,
    /// Bytes that came over the network this time, holes and what was on disk before not included.
    pub received: u64,
    /// Bytes that were on disk from an earlier attempt.
    pub resumed: u64,
    /// BLAKE3 of the content if this was one file (what `b3sum` prints); of a tree see `docs/transfers.md`.
    pub digest: Hash,
}

impl Receipt {
    /// The digest in hex.
    pub fn digest_hex(&self) -> String {
        blake3::Hash::from(self.digest).to_hex().to_string()
    }

    /// Whether both are about the same content.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        (self.files, self.bytes, self.digest) == (other.files, other.bytes, other.digest)
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = if self.files == 1 { "file" } else { "files" };
        write!(f, "{} {files}, {} bytes, blake3 {}", self.files, self.bytes, self.digest_hex())
    }
}
