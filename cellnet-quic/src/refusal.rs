//! What became of a connection, in the words of the seam.

use std::{io, net::SocketAddr};

use cellnet_core::transport::TransportError;
use quinn::{ConnectionError, ReadExactError, WriteError};

/// Why a connection did not open.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// The connection ended.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// It could not be begun.
    #[error(transparent)]
    Connect(#[from] quinn::ConnectError),
    /// A lane ended before its first bytes.
    #[error("a lane ended before its first bytes")]
    Lane(#[source] io::Error),
    /// The lanes are not what the other side expects.
    #[error("{0}")]
    Lanes(String),
    /// The system said no.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Refusal {
    /// As the seam knows it. `None` is a peer that does not answer.
    pub(crate) fn into_error(self, doing: &str, peer: SocketAddr) -> Option<TransportError> {
        let refused = |why: String| TransportError::Refused { peer: peer.to_string(), why };
        let io = |error| TransportError::io(format!("{doing} {peer}"), error);
        Some(match self {
            Self::Connection(ConnectionError::TimedOut) => return None,
            Self::Connection(error @ (ConnectionError::Reset | ConnectionError::LocallyClosed)) => {
                io(error.into())
            }
            Self::Connection(error) if is_about_trust(&error) => {
                TransportError::Untrusted { peer: peer.to_string(), why: error.to_string() }
            }
            Self::Connection(error) => refused(error.to_string()),
            Self::Connect(error) => refused(error.to_string()),
            Self::Lanes(why) => refused(why),
            Self::Lane(error) | Self::Io(error) => io(error),
        })
    }
}

/// Whether a certificate is why the connection ended, on either side.
fn is_about_trust(error: &ConnectionError) -> bool {
    let code = match error {
        ConnectionError::TransportError(error) => error.code,
        ConnectionError::ConnectionClosed(close) => close.error_code,
        _ => return false,
    };
    // Alerts of TLS are error codes from 0x100 to 0x1ff (RFC 9001, 4.8).
    let alert = u64::from(code).checked_sub(0x100).and_then(|alert| u8::try_from(alert).ok());
    alert.is_some_and(cellnet_core::tls::alert_is_about_trust)
}

impl From<WriteError> for Refusal {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::ConnectionLost(error) => Self::Connection(error),
            error => Self::Lane(error.into()),
        }
    }
}

impl From<ReadExactError> for Refusal {
    fn from(error: ReadExactError) -> Self {
        match error {
            ReadExactError::ReadError(quinn::ReadError::ConnectionLost(error)) => Self::Connection(error),
            error => Self::Lane(io::Error::new(io::ErrorKind::UnexpectedEof, error)),
        }
    }
}
