//! The transport `quic://` of cellnet.
//!
//! ```
//! # use cellnet_core::transport::{RegistryError, Transports};
//! # use cellnet_quic::Quic;
//! let transports = Transports::default().with(Quic::new().with_lanes(3))?;
//! # Ok::<(), RegistryError>(())
//! ```
//!
//! A connection is QUIC version 1 under TLS 1.3, in the mode `mtls` unless the URL or the configuration says `tls`. It
//! carries a control lane and some bulk lanes, each a stream of its own, so a small reply never waits for a model: not
//! for its bytes, which go out after those of control, nor for a packet of it that was lost.
//!
//! # On the wire
//!
//! Application protocol (ALPN): `cellnet/1`. The side that dialled opens all streams; they are bidirectional.
//!
//! ```text
//! control lane   dialler:   0  N    wanted bulk lanes, 0 to 16
//!                listener:  n       bulk lanes it agrees to: N, or its own number if that is smaller
//! bulk lane k    dialler:   k       1 to n, on n streams, in any order, each once
//! ```
//!
//! Each is one byte. Frames follow on every stream and in both directions, as over TCP. A lane ends in order with the
//! end of its stream. A side that leaves without ending its lanes resets them and closes the connection with code 1;
//! code 0 follows lanes that all ended, those of one side at least; code 2 says that the lanes were not opened as above.
//!
//! Neither side may open other streams, and datagrams are not used. There is no 0-RTT and no resumption: every
//! handshake verifies certificates.

#[cfg(not(any(feature = "ring", feature = "aws-lc-rs")))]
compile_error!("QUIC needs cryptography: build cellnet-quic with the feature 'ring' or 'aws-lc-rs'");

mod admission;
mod dial;
mod fair;
mod lanes;
mod listener;
mod options;
mod refusal;
mod socket;
mod stream;

use async_trait::async_trait;
use cellnet_core::{
    Scheme,
    transport::{Bind, Connection, Listener, Target, Transport, TransportError},
};

pub use options::Quic;

/// The application protocol that both sides name in the handshake.
pub const ALPN: &[u8] = b"cellnet/1";

#[async_trait]
impl Transport for Quic {
    fn schemes(&self) -> &[Scheme] {
        self.known_schemes()
    }

    /// Tries every address of the host in turn. A dropped future closes what it had opened.
    ///
    /// Nobody there is [`TransportError::Timeout`], because UDP does not say it; a listener that is there and does not
    /// want the connection is [`TransportError::Refused`].
    async fn connect(&self, target: &Target) -> Result<Connection, TransportError> {
        dial::connect(self, target).await
    }

    /// The address is in use: [`TransportError::Io`] of kind [`AddrInUse`](std::io::ErrorKind::AddrInUse).
    async fn listen(&self, bind: &Bind) -> Result<Box<dyn Listener>, TransportError> {
        Ok(Box::new(listener::QuicListener::bind(self, bind).await?))
    }
}
