//! Why streams fail.

use std::sync::Arc;

use bytestring::ByteString;

use super::{RecvError, SendError};
use crate::{cell::RequestError, fqcn::Fqcn};

/// Why a stream failed. The other end is told, unless it is the one that cannot be reached.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// It could not be sent.
    #[error("stream could not be sent")]
    Send(#[from] SendError),
    /// It could not be received.
    #[error("stream could not be received")]
    Receive(#[from] RecvError),
    /// Nothing carries it any more.
    #[error("stream is no longer carried")]
    Carrier(#[source] RequestError),
    /// The memory for streams is in use.
    #[error("no memory for {0} bytes of a stream")]
    NoMemory(u64),
    /// The streams of one neighbour use what it may.
    #[error("no memory for {wanted} bytes of a stream, streams by '{peer}' have {limit} in all")]
    ShareInUse {
        /// The neighbour.
        peer: Fqcn,
        /// Bytes of the window.
        wanted: u64,
        /// Bytes that all windows of a neighbour may have.
        limit: u64,
    },
    /// Too many streams arrive by one neighbour.
    #[error("too many streams, {limit} are arriving by '{peer}' already")]
    TooManyFrom {
        /// The neighbour.
        peer: Fqcn,
        /// How many may.
        limit: usize,
    },
    /// Too many streams arrive at this cell.
    #[error("too many streams, {0} are arriving already")]
    TooMany(usize),
    /// This end gave up: with a reason of the application's, or by dropping what held the stream.
    #[error("stream given up: {0}")]
    Aborted(ByteString),
    /// The stream was finished before.
    #[error("stream is finished already")]
    Finished,
}

impl StreamError {
    /// The error of a request that the stream carried.
    pub(crate) fn into_request(self) -> RequestError {
        match self {
            Self::Carrier(error) => error,
            error => RequestError::Stream(Arc::new(error)),
        }
    }

    /// What the other end is told.
    pub(super) fn told(&self) -> String {
        crate::link::chain(self)
    }
}

impl From<RequestError> for StreamError {
    fn from(error: RequestError) -> Self {
        Self::Carrier(error)
    }
}

impl From<StreamError> for std::io::Error {
    fn from(error: StreamError) -> Self {
        Self::other(error)
    }
}
