//! Why requests, handlers and cells fail.

use std::{sync::Arc, time::Duration};

use bytestring::ByteString;

use crate::{
    fqcn::Fqcn,
    message::{Message, ReturnCode},
    stream::StreamError,
    transport::{RegistryError, TransportError},
};

/// Why a request ended without a reply. What another cell answered, even a failure, is a reply.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No answer in time.
    #[error("no reply within {0:?}")]
    Timeout(Duration),
    /// No way from here.
    #[error("no way to '{0}' from here")]
    Unreachable(Fqcn),
    /// It got lost on the way, or its reply did.
    #[error("link to '{peer}' lost: {reason}")]
    LinkLost {
        /// The neighbour.
        peer: Fqcn,
        /// Why.
        reason: String,
    },
    /// The next hop took nothing for too long.
    #[error("'{hop}' made no progress for {patience:?}")]
    NoRoom {
        /// The neighbour.
        hop: Fqcn,
        /// How long it was waited for.
        patience: Duration,
    },
    /// Larger than this cell sends or the next hop takes.
    #[error("payload of {size} bytes exceeds the limit of {limit}")]
    TooBig {
        /// Bytes of the payload.
        size: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The headers do not fit into a frame.
    #[error("headers of {0} bytes do not fit into a frame")]
    HeadersTooBig(usize),
    /// A filter refused the request, or its reply.
    #[error("refused by a filter: {0}")]
    Filtered(String),
    /// The stream that carried it failed.
    #[error("stream failed")]
    Stream(#[from] Arc<StreamError>),
    /// Too many requests are waiting.
    #[error("{0} requests are waiting already")]
    TooManyRequests(usize),
    /// Another request waits for the same reply.
    #[error("a request {0} is waiting already")]
    IdInUse(uuid::Uuid),
    /// This cell stops.
    #[error("this cell is shutting down")]
    ShuttingDown,
}

impl RequestError {
    /// The return code that the reference gives for this.
    pub fn code(&self) -> ReturnCode {
        match self {
            Self::Timeout(_) => ReturnCode::TIMEOUT,
            Self::Unreachable(_) => ReturnCode::TARGET_UNREACHABLE,
            Self::TooBig { .. } | Self::HeadersTooBig(_) => ReturnCode::MSG_TOO_BIG,
            Self::Filtered(_) => ReturnCode::FILTER_ERROR,
            Self::TooManyRequests(_) | Self::IdInUse(_) | Self::ShuttingDown => {
                ReturnCode::SERVICE_UNAVAILABLE
            }
            Self::LinkLost { .. } | Self::NoRoom { .. } | Self::Stream(_) => ReturnCode::COMM_ERROR,
        }
    }
}

/// A handler's failure, sent to the requester as a code and a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {text}")]
pub struct HandlerError {
    /// What kind of failure.
    pub code: ReturnCode,
    /// What happened, in words.
    pub text: ByteString,
}

impl HandlerError {
    /// A failure with a code.
    pub fn new(code: ReturnCode, text: impl Into<ByteString>) -> Self {
        Self { code, text: text.into() }
    }

    /// The handler broke.
    pub fn failed(text: impl Into<ByteString>) -> Self {
        Self::new(ReturnCode::PROCESS_EXCEPTION, text)
    }

    /// The request makes no sense.
    pub fn invalid_request(text: impl Into<ByteString>) -> Self {
        Self::new(ReturnCode::INVALID_REQUEST, text)
    }

    /// Not now.
    pub fn unavailable(text: impl Into<ByteString>) -> Self {
        Self::new(ReturnCode::SERVICE_UNAVAILABLE, text)
    }

    pub(crate) fn into_message(self) -> Message {
        Message::failure(self.code, self.text)
    }
}

/// Why a cell did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Two drivers for one scheme.
    #[error(transparent)]
    Transports(#[from] RegistryError),
    /// An address cannot be listened on.
    #[error("cannot listen on '{url}'")]
    Listen {
        /// The URL.
        url: String,
        /// Why.
        source: TransportError,
    },
    /// A URL to dial has no driver.
    #[error("cannot dial '{url}'")]
    Dial {
        /// The URL.
        url: String,
        /// Why.
        source: TransportError,
    },
}
