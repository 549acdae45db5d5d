//! Why downloads fail.

use std::{io, path::PathBuf, time::Duration};

use bytestring::ByteString;
use cellnet_core::{
    Fqcn,
    cell::RequestError,
    fobs::{FobsError, PackError, ReferenceError},
};

use super::WireError;

/// Why something was not pulled. Nothing of it is kept, except in a sink or a partial file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// The owner cannot be reached, or was lost while it answered.
    #[error("'{owner}' is gone: {reason}")]
    OwnerGone {
        /// Who has it.
        owner: Fqcn,
        /// What happened.
        reason: String,
    },
    /// The owner did not answer any of several requests.
    #[error("'{owner}' did not answer {requests} requests")]
    NoAnswer {
        /// Who has it.
        owner: Fqcn,
        /// How many requests.
        requests: usize,
    },
    /// The progress deadline is over.
    #[error("no progress for {patience:?} with '{owner}'")]
    Stalled {
        /// Who has it.
        owner: Fqcn,
        /// How long.
        patience: Duration,
    },
    /// The owner does not have it, or not any more.
    #[error("'{owner}' does not know the reference '{ref_id}'")]
    Unknown {
        /// Who should have it.
        owner: Fqcn,
        /// What was asked for.
        ref_id: ByteString,
    },
    /// The owner has it for others, or this cell has pulled it often enough.
    #[error("refused by '{owner}': {reason}")]
    Refused {
        /// Who has it.
        owner: Fqcn,
        /// What it said.
        reason: String,
    },
    /// The owner has it and cannot give it.
    #[error("'{owner}' failed: {reason}")]
    OwnerFailed {
        /// Who has it.
        owner: Fqcn,
        /// What it said.
        reason: String,
    },
    /// An answer makes no sense.
    #[error("an answer of '{owner}' makes no sense")]
    Corrupt {
        /// Who sent it.
        owner: Fqcn,
        /// What is wrong.
        source: Box<CorruptError>,
    },
    /// More bytes than this cell accepts.
    #[error("more than {0} bytes")]
    TooLarge(u64),
    /// All that this cell pulls is more than it may hold at once.
    #[error("what is being pulled has more than {0} bytes already")]
    Full(u64),
    /// More arrays than this cell accepts.
    #[error("more than {0} arrays")]
    TooMany(usize),
    /// Too many other pulls went on for too long.
    #[error("{0} pulls are going on already")]
    Busy(usize),
    /// The owner ended without an array that a payload refers to, or what it sent does not fit its place.
    #[error("download is incomplete")]
    Incomplete(#[from] ReferenceError),
    /// The payload cannot be decoded.
    #[error("payload cannot be decoded")]
    Fobs(#[from] FobsError),
    /// A request could not be made.
    #[error("request failed")]
    Request(#[from] RequestError),
    /// What was pulled cannot be written.
    #[error("cannot write what was pulled")]
    Sink(#[source] io::Error),
    /// The file is there already, or somebody else is writing it.
    #[error("'{0}' is there already or being written")]
    Exists(PathBuf),
    /// The runtime ended.
    #[error("runtime is shutting down")]
    RuntimeEnded,
}

/// What is wrong with an answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CorruptError {
    /// It is no answer.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// It holds no arrays.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// It says that there is data and has none.
    #[error("it has no data")]
    Empty,
    /// It brings an array that was there before.
    #[error("it has array {0} again")]
    Twice(ByteString),
}

/// Why something was not offered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OfferError {
    /// It does not say to whom.
    #[error("an offer must say who may pull it")]
    Nobody,
    /// Too many transactions are open.
    #[error("{0} transactions are open already")]
    TooMany(usize),
    /// Too much is offered already.
    #[error("{bytes} bytes do not fit into the {limit} that transactions may hold")]
    TooLarge {
        /// Bytes of the arrays.
        bytes: u64,
        /// Bytes that all may have.
        limit: u64,
    },
    /// The file cannot be offered.
    #[error("cannot offer '{path}'")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The cell is stopping.
    #[error("cell is shutting down")]
    ShuttingDown,
}
