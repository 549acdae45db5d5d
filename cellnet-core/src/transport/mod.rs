//! The seam between cells and drivers: frames in batches over lanes.
//!
//! A driver implements [`Transport`], [`Listener`], [`FrameSender`] and [`FrameReceiver`] and knows nothing of cells,
//! headers or routing. Byte-stream drivers get the two halves from [`framed`].

pub mod address;
pub mod framed;
pub mod mem;
mod registry;

use std::{collections::VecDeque, fmt, io, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::future::BoxFuture;

#[cfg(feature = "tls")]
use crate::tls::{Tls, TlsError};
pub use crate::wire::Frame;
use crate::{
    stats::{Budget, Meter},
    tls::TlsMode,
    url::{CellUrl, Scheme},
    wire::PrefixError,
};
pub use registry::{RegistryError, Transports};

/// Frames handed over together; the caller bounds it in number and bytes and keeps the allocation.
pub type Batch = VecDeque<Frame>;

/// Largest frame accepted before HELLO, and the most memory a connection may use until then.
pub const MAX_FRAME_BEFORE_HELLO: usize = 64 * 1024;

/// A way to reach other cells, chosen by URL scheme.
#[async_trait]
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// The schemes this driver serves.
    fn schemes(&self) -> &[Scheme];

    /// Opens a connection. A dropped future leaves nothing behind.
    async fn connect(&self, target: &Target) -> Result<Connection, TransportError>;

    /// Starts to listen; returns once the address is bound. A dropped future leaves nothing bound.
    async fn listen(&self, bind: &Bind) -> Result<Box<dyn Listener>, TransportError>;
}

/// The rest of an accepted connection's set-up (TLS, upgrade), awaited off the accept loop.
pub type Accepting = BoxFuture<'static, Result<Connection, TransportError>>;

/// A bound address.
#[async_trait]
pub trait Listener: fmt::Debug + Send + 'static {
    /// Where it listens, with the real port.
    fn local_url(&self) -> &CellUrl;

    /// The next connection. Never waits for a peer to send anything. A dropped future loses no connection.
    /// An error does not end the listener unless it repeats.
    async fn accept(&mut self) -> Result<Accepting, TransportError>;
}

/// The half of a lane that writes.
#[async_trait]
pub trait FrameSender: fmt::Debug + Send + 'static {
    /// Takes frames from the front of `batch`, at least one if nothing fed before waits to be flushed; never waits.
    fn feed(&mut self, batch: &mut Batch);

    /// Writes what was fed. A dropped future leaves unsent bytes in the driver; the next call goes on with them.
    async fn flush(&mut self) -> Result<(), TransportError>;

    /// Flushes and tells the peer that nothing follows. A dropped future leaves the lane half closed; call it again.
    async fn close(&mut self) -> Result<(), TransportError>;

    /// Counts the bytes of this lane alone, so that one which stands still is noticed while others move; `None` if the
    /// connection has one lane.
    fn meter(&self) -> Option<Arc<Meter>> {
        None
    }

    /// Gives back memory that earlier frames needed and that nothing waits in. Called now and then, between a flush and
    /// the next feed.
    fn relax(&mut self) {}
}

/// The half of a lane that reads.
#[async_trait]
pub trait FrameReceiver: fmt::Debug + Send + 'static {
    /// Appends one or more whole frames to `batch`. A dropped future loses nothing: a half-read frame stays in the
    /// driver. [`TransportError::Closed`] is the orderly end.
    ///
    /// A frame longer than the limit arrives once, truncated (see [`Frame::is_truncated`]); its body is read past and
    /// never kept.
    async fn recv(&mut self, batch: &mut Batch) -> Result<(), TransportError>;

    /// The longest frame that is kept, in bytes; [`MAX_FRAME_BEFORE_HELLO`] until this is called.
    fn set_max_frame(&mut self, bytes: usize);
}

/// Two halves that carry frames in order.
#[derive(Debug)]
pub struct Lane {
    /// Writes.
    pub tx: Box<dyn FrameSender>,
    /// Reads.
    pub rx: Box<dyn FrameReceiver>,
}

/// An open connection. Order holds within a lane only.
#[derive(Debug)]
#[non_exhaustive]
pub struct Connection {
    /// Who and where.
    pub info: ConnectionInfo,
    /// Carries the handshake, small messages, and everything else if there are no bulk lanes.
    pub control: Lane,
    /// Carry large frames, if the transport has streams that do not block one another.
    pub bulk: Vec<Lane>,
}

impl Connection {
    /// A connection with one lane.
    pub fn new(info: ConnectionInfo, control: Lane) -> Self {
        Self { info, control, bulk: Vec::new() }
    }
}

/// What a driver knows about a connection.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// Our address, for people.
    pub local: String,
    /// The peer's address, for people.
    pub remote: String,
    /// How the connection is protected.
    pub tls: TlsMode,
    /// The common name of the peer's verified certificate.
    pub peer_cn: Option<String>,
    /// Bytes moved, counted on every read and write of every lane.
    pub meter: Arc<Meter>,
    /// The largest frame that a peer which is not cellnet accepts on this transport, if it has such a limit.
    pub legacy_max_frame: Option<usize>,
    /// Whether silence must be broken with PING; false if the transport has a keep-alive of its own.
    pub needs_heartbeat: bool,
}

impl ConnectionInfo {
    /// A connection between two addresses that needs heartbeats and has no limits of its own.
    pub fn new(local: impl Into<String>, remote: impl Into<String>) -> Self {
        Self {
            local: local.into(),
            remote: remote.into(),
            tls: TlsMode::Clear,
            peer_cn: None,
            meter: Arc::default(),
            legacy_max_frame: None,
            needs_heartbeat: true,
        }
    }
}

/// Where to connect and what the connection may use.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Target {
    /// The peer's listener.
    pub url: CellUrl,
    /// How long a peer may be silent before the link is given up; drivers set keep-alive and user time-outs from it.
    pub silence: Duration,
    /// Memory that frames above [`MAX_FRAME_BEFORE_HELLO`] count against, from their first byte until the last use of
    /// their body is gone.
    pub budget: Arc<Budget>,
    /// Who this cell is and whom it trusts, if connections may be protected.
    #[cfg(feature = "tls")]
    pub tls: Option<Tls>,
}

impl Target {
    /// A target with the default silence of 30 s and without credentials.
    pub fn new(url: CellUrl, budget: Arc<Budget>) -> Self {
        Self {
            url,
            silence: DEFAULT_SILENCE,
            budget,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// How the connection is to be protected; `secure`: the scheme says that it must be. See [`TlsMode::of`].
    pub fn tls_mode(&self, secure: bool) -> Result<TlsMode, TransportError> {
        #[cfg(feature = "tls")]
        return tls_mode(&self.url, secure, self.tls.as_ref());
        #[cfg(not(feature = "tls"))]
        TlsMode::of(&self.url, secure, None)
    }

    /// The credentials, which a mode other than [`TlsMode::Clear`] needs.
    #[cfg(feature = "tls")]
    pub fn credentials(&self) -> Result<&Tls, TransportError> {
        credentials(&self.url, self.tls.as_ref())
    }
}

/// Where to listen and what each connection may use.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Bind {
    /// The address; port 0 lets the system choose.
    pub url: CellUrl,
    /// As [`Target::silence`].
    pub silence: Duration,
    /// As [`Target::budget`].
    pub budget: Arc<Budget>,
    /// As [`Target::tls`].
    #[cfg(feature = "tls")]
    pub tls: Option<Tls>,
}

impl Bind {
    /// An address with the default silence of 30 s and without credentials.
    pub fn new(url: CellUrl, budget: Arc<Budget>) -> Self {
        Self {
            url,
            silence: DEFAULT_SILENCE,
            budget,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// As [`Target::tls_mode`].
    pub fn tls_mode(&self, secure: bool) -> Result<TlsMode, TransportError> {
        #[cfg(feature = "tls")]
        return tls_mode(&self.url, secure, self.tls.as_ref());
        #[cfg(not(feature = "tls"))]
        TlsMode::of(&self.url, secure, None)
    }

    /// As [`Target::credentials`].
    #[cfg(feature = "tls")]
    pub fn credentials(&self) -> Result<&Tls, TransportError> {
        credentials(&self.url, self.tls.as_ref())
    }
}

#[cfg(feature = "tls")]
fn tls_mode(url: &CellUrl, secure: bool, tls: Option<&Tls>) -> Result<TlsMode, TransportError> {
    TlsMode::of(url, secure, tls.and_then(Tls::mode))
}

#[cfg(feature = "tls")]
fn credentials<'a>(url: &CellUrl, tls: Option<&'a Tls>) -> Result<&'a Tls, TransportError> {
    tls.ok_or_else(|| address::unusable(url, "TLS needs credentials, and none were given"))
}

/// Three heartbeats of 10 s.
const DEFAULT_SILENCE: Duration = Duration::from_secs(30);

/// Why a driver failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The peer ended the connection in order.
    #[error("connection closed by peer")]
    Closed,
    /// The system said no.
    #[error("{what}")]
    Io {
        /// What was tried, with the address.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// Connecting or the transport's own handshake took too long.
    #[error("no connection to {0} within {1:?}")]
    Timeout(String, Duration),
    /// The peer's bytes are no frames.
    #[error("peer sent an invalid frame")]
    Frame(#[from] PrefixError),
    /// The peer sent more than this side may keep.
    #[error("no memory left in the budget for a frame of {0} bytes")]
    OverBudget(usize),
    /// The URL cannot be used with this driver.
    #[error("'{url}' cannot be used: {why}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// Credentials do not fit the URL, or cannot be used.
    #[cfg(feature = "tls")]
    #[error("'{url}' cannot be used")]
    Tls {
        /// The URL.
        url: String,
        /// What is wrong with the credentials.
        source: TlsError,
    },
    /// The peer and this side could not agree on a protected or upgraded connection.
    #[error("handshake with {peer} failed: {why}")]
    Refused {
        /// The peer's address.
        peer: String,
        /// What it said, or what was wrong with it.
        why: String,
    },
    /// One side does not trust the certificate of the other, or misses one.
    #[error("handshake with {peer} failed: {why}")]
    Untrusted {
        /// The peer's address.
        peer: String,
        /// Who refused what.
        why: String,
    },
    /// No driver for a scheme.
    #[error("no transport for '{scheme}' in '{url}'; known schemes: {known}")]
    UnknownScheme {
        /// The scheme.
        scheme: String,
        /// The URL.
        url: String,
        /// What could be used.
        known: String,
    },
}

impl TransportError {
    /// Credentials that cannot be used for a URL.
    #[cfg(feature = "tls")]
    pub fn tls(url: &CellUrl, source: TlsError) -> Self {
        Self::Tls { url: url.to_string(), source }
    }

    /// A TLS handshake that failed: [`Untrusted`](Self::Untrusted) if a certificate was the reason, else
    /// [`Refused`](Self::Refused).
    #[cfg(feature = "tls")]
    pub fn handshake(peer: impl Into<String>, error: &(dyn std::error::Error + 'static)) -> Self {
        let (peer, why) = (peer.into(), format!("TLS: {error}"));
        if crate::tls::is_about_trust(error) {
            Self::Untrusted { peer, why }
        } else {
            Self::Refused { peer, why }
        }
    }

    /// Whether one side does not trust the other's certificate, as far as this side knows. In TLS 1.3 a listener that
    /// refuses a certificate is heard only by whoever reads.
    pub fn is_unauthorised(&self) -> bool {
        match self {
            Self::Untrusted { .. } => true,
            #[cfg(feature = "tls")]
            Self::Io { source, .. } => crate::tls::is_about_trust(source),
            _ => false,
        }
    }

    /// An error of the system with what was tried.
    pub fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io { what: what.into(), source }
    }
}
