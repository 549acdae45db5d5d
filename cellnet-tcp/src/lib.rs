//! The transports `tcp://` and `stcp://` of cellnet.
//!
//! ```
//! # use cellnet_core::transport::{RegistryError, Transports};
//! # use cellnet_tcp::Tcp;
//! let transports = Transports::default().with(Tcp::new())?;
//! # Ok::<(), RegistryError>(())
//! ```
//!
//! `stcp://` (with the feature `tls`) is TCP under TLS, and so is `tcp://` where the URL or the configuration asks for it.
//!
//! A connection is one lane, because a TCP stream delivers in order. So that an urgent frame does not wait behind
//! what the kernel has taken and not sent, little may wait there: 256 KiB (`TCP_NOTSENT_LOWAT`, on Linux).

mod options;
pub mod socket;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
#[cfg(feature = "tls")]
use cellnet_core::tls::{TlsClient, TlsServer};
use cellnet_core::{
    CellUrl, Scheme,
    stats::Budget,
    tls::TlsMode,
    transport::{Accepting, Bind, Connection, Listener, Target, Transport, TransportError, address, framed},
};
use tokio::net::TcpStream;

use socket::Listening;

/// TCP over IPv4 and IPv6, in the clear or under TLS.
///
/// Connecting tries every address of the host in turn. Connections are closed by the system when a peer has not
/// answered for the `silence` of [`Target`] or [`Bind`], busy or idle.
///
/// Listening on host `0` takes connections of both families, or of IPv4 if the system has no IPv6.
#[derive(Debug, Clone)]
pub struct Tcp {
    schemes: Vec<Scheme>,
    connect_timeout: Duration,
}

impl Tcp {
    /// TCP with a connect time-out of 10 s.
    pub fn new() -> Self {
        let schemes: &[&str] = if cfg!(feature = "tls") { &["tcp", SECURE] } else { &["tcp"] };
        let scheme = |text: &&str| text.parse().expect("letters make a scheme");
        Self { schemes: schemes.iter().map(scheme).collect(), connect_timeout: Duration::from_secs(10) }
    }

    /// How long looking up the name and trying all addresses may take together. Each address gets an equal share of
    /// what is left, so one that does not answer leaves time for the others.
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }
}

impl Default for Tcp {
    fn default() -> Self {
        Self::new()
    }
}

/// The scheme that is always under TLS.
const SECURE: &str = "stcp";

fn is_secure(url: &CellUrl) -> bool {
    url.scheme().as_str() == SECURE
}

#[async_trait]
impl Transport for Tcp {
    fn schemes(&self) -> &[Scheme] {
        &self.schemes
    }

    async fn connect(&self, target: &Target) -> Result<Connection, TransportError> {
        let endpoint = address::remote_endpoint(&target.url, None)?;
        let mode = target.tls_mode(is_secure(&target.url))?;
        let dial = socket::connect(&target.url, endpoint, self.connect_timeout, target.silence);
        if mode == TlsMode::Clear {
            return in_the_clear(dial.await?, target.budget.clone());
        }
        #[cfg(feature = "tls")]
        {
            let client = target.credentials()?.client(target.url.host(), mode, &[]);
            let client = client.map_err(|error| TransportError::tls(&target.url, error))?;
            dialled(dial.await?, &client, target.budget.clone()).await
        }
        #[cfg(not(feature = "tls"))]
        Err(no_tls(&target.url))
    }

    /// The address is in use: [`TransportError::Io`] of kind [`AddrInUse`](std::io::ErrorKind::AddrInUse).
    ///
    /// An error of [`accept`](Listener::accept) concerns one connection, or the process if it has no file descriptor
    /// left (`EMFILE`). It is returned at once and at every call as long as it holds, so wait a moment before the
    /// next.
    async fn listen(&self, bind: &Bind) -> Result<Box<dyn Listener>, TransportError> {
        let endpoint = address::endpoint(&bind.url, None)?;
        let mode = bind.tls_mode(is_secure(&bind.url))?;
        #[cfg(feature = "tls")]
        let tls = match mode {
            TlsMode::Clear => None,
            mode => {
                let server = bind.credentials()?.server(mode, &[]);
                Some(Arc::new(server.map_err(|error| TransportError::tls(&bind.url, error))?))
            }
        };
        #[cfg(not(feature = "tls"))]
        if mode != TlsMode::Clear {
            return Err(no_tls(&bind.url));
        }
        Ok(Box::new(TcpListener {
            socket: Listening::bind(&bind.url, endpoint, bind.silence).await?,
            budget: bind.budget.clone(),
            #[cfg(feature = "tls")]
            tls,
        }))
    }
}

#[derive(Debug)]
struct TcpListener {
    socket: Listening,
    budget: Arc<Budget>,
    #[cfg(feature = "tls")]
    tls: Option<Arc<TlsServer>>,
}

#[async_trait]
impl Listener for TcpListener {
    fn local_url(&self) -> &CellUrl {
        self.socket.url()
    }

    async fn accept(&mut self) -> Result<Accepting, TransportError> {
        let stream = self.socket.accept().await?;
        let budget = self.budget.clone();
        #[cfg(feature = "tls")]
        if let Some(tls) = self.tls.clone() {
            return Ok(Box::pin(async move { accepted(stream, &tls, budget).await }));
        }
        Ok(Box::pin(async move { in_the_clear(stream, budget) }))
    }
}

/// The one lane of a connected socket.
fn in_the_clear(stream: TcpStream, budget: Arc<Budget>) -> Result<Connection, TransportError> {
    let info = socket::info(&stream)?;
    let (read, write) = stream.into_split();
    let lane = framed::lane(read, write, &info, budget);
    Ok(Connection::new(info, lane))
}

#[cfg(feature = "tls")]
async fn dialled(
    stream: TcpStream,
    client: &TlsClient,
    budget: Arc<Budget>,
) -> Result<Connection, TransportError> {
    let mut info = socket::info(&stream)?;
    let stream = client.connect(stream).await.map_err(|error| refused(&info.remote, &error))?;
    client.describe(&mut info, stream.get_ref().1.peer_certificates());
    let (read, write) = tokio::io::split(stream);
    let lane = framed::lane(read, write, &info, budget);
    Ok(Connection::new(info, lane))
}

#[cfg(feature = "tls")]
async fn accepted(
    stream: TcpStream,
    server: &TlsServer,
    budget: Arc<Budget>,
) -> Result<Connection, TransportError> {
    let mut info = socket::info(&stream)?;
    let stream = server.accept(stream).await.map_err(|error| refused(&info.remote, &error))?;
    server.describe(&mut info, stream.get_ref().1.peer_certificates());
    let (read, write) = tokio::io::split(stream);
    let lane = framed::lane(read, write, &info, budget);
    Ok(Connection::new(info, lane))
}

/// A TLS handshake that failed.
#[cfg(feature = "tls")]
fn refused(peer: &str, error: &std::io::Error) -> TransportError {
    TransportError::handshake(peer, error)
}

#[cfg(not(feature = "tls"))]
fn no_tls(url: &CellUrl) -> TransportError {
    address::unusable(url, "it asks for TLS, which is not compiled in; build cellnet with the feature 'tls'")
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn bind(url: &str) -> Bind {
        Bind::new(url.parse().unwrap(), Budget::new(0))
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_and_keeps_its_kind() {
        for host in ["127.0.0.1", "0", "localhost"] {
            let first = Tcp::new().listen(&bind(&format!("tcp://{host}:0"))).await.unwrap();
            let url = first.local_url().to_string();
            let Err(TransportError::Io { what, source }) = Tcp::new().listen(&bind(&url)).await else {
                panic!("{url} was bound twice");
            };
            assert_eq!(source.kind(), io::ErrorKind::AddrInUse);
            assert!(what.contains(&first.local_url().port().unwrap().to_string()), "{what}");
        }
    }

    #[tokio::test]
    async fn all_interfaces_are_shown_as_0_and_reached_by_every_name() {
        let mut listener = Tcp::new().listen(&bind("tcp://0:0")).await.unwrap();
        let url = listener.local_url().clone();
        assert!(url.to_string().starts_with("tcp://0:"), "{url}");
        let mut hosts = vec!["127.0.0.1", "localhost"];
        if std::net::UdpSocket::bind("[::1]:0").is_ok() {
            hosts.push("[::1]");
        }
        for host in hosts {
            let url = format!("tcp://{host}:{}", url.port().unwrap()).parse().unwrap();
            let dialled = Tcp::new().connect(&Target::new(url, Budget::new(0))).await.unwrap();
            let accepted = listener.accept().await.unwrap().await.unwrap();
            assert_eq!(dialled.info.local, accepted.info.remote);
        }
    }

    #[tokio::test]
    async fn unusable_urls_say_why() {
        let error = Tcp::new().listen(&bind("tcp://localhost")).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "'tcp://localhost' cannot be used: it names no port; write tcp://HOST:PORT"
        );
        let target = Target::new("tcp://0:1".parse().unwrap(), Budget::new(0));
        let error = Tcp::new().connect(&target).await.unwrap_err();
        assert!(error.to_string().starts_with("'tcp://0:1' cannot be used: '0' stands for"), "{error}");
    }
}
