//! The `tcp://` transport of cellnet.
//!
//! ```
//! # use cellnet_core::transport::{RegistryError, Transports};
//! # use cellnet_tcp::Tcp;
//! let transports = Transports::default().with(Tcp::new())?;
//! # Ok::<(), RegistryError>(())
//! ```
//!
//! A connection is one lane, because a TCP stream delivers in order. So that an urgent frame does not wait behind
//! what the kernel has taken and not sent, little may wait there: 128 KiB (`TCP_NOTSENT_LOWAT`, on Linux).

mod listen;
mod options;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use cellnet_core::{
    CellUrl, Scheme,
    stats::Budget,
    transport::{Bind, Connection, ConnectionInfo, Listener, Target, Transport, TransportError, framed},
};
use tokio::{
    net::{TcpSocket, TcpStream, lookup_host},
    time::{Instant, timeout},
};

/// TCP over IPv4 and IPv6.
///
/// Connecting tries every address of the host in turn. Connections are closed by the system when a peer has not
/// answered for the `silence` of [`Target`] or [`Bind`], busy or idle.
///
/// Listening on host `0` takes connections of both families, or of IPv4 if the system has no IPv6.
#[derive(Debug, Clone)]
pub struct Tcp {
    schemes: [Scheme; 1],
    connect_timeout: Duration,
}

impl Tcp {
    /// TCP with a connect time-out of 10 s.
    pub fn new() -> Self {
        Self {
            schemes: ["tcp".parse().expect("letters make a scheme")],
            connect_timeout: Duration::from_secs(10),
        }
    }

    /// How long looking up the name and trying all addresses may take together. Each address gets an equal share of
    /// what is left, so one that does not answer leaves time for the others.
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    async fn dial(&self, target: &Target) -> Result<TcpStream, TransportError> {
        let (host, port) = endpoint(&target.url)?;
        if host.is_empty() {
            return Err(unusable(&target.url, "'0' stands for all interfaces and can only be listened on"));
        }
        let late = || TransportError::Timeout(target.url.to_string(), self.connect_timeout);
        let deadline = Instant::now() + self.connect_timeout;
        let addresses = timeout(self.connect_timeout, resolve(host, port)).await.map_err(|_| late())??;
        let mut failure = late();
        for (i, &address) in addresses.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / (addresses.len() - i) as u32;
            failure = match timeout(share, open(address, target.silence)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => TransportError::io(format!("connect to {}", named(host, address)), error),
                Err(_) => late(),
            };
        }
        Err(failure)
    }
}

impl Default for Tcp {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Transport for Tcp {
    fn schemes(&self) -> &[Scheme] {
        &self.schemes
    }

    async fn connect(&self, target: &Target) -> Result<Connection, TransportError> {
        connection(self.dial(target).await?, target.budget.clone())
    }

    /// The address is in use: [`TransportError::Io`] of kind [`io::ErrorKind::AddrInUse`].
    ///
    /// An error of [`accept`](Listener::accept) concerns one connection, or the process if it has no file descriptor
    /// left (`EMFILE`). It is returned at once and at every call as long as it holds, so wait a moment before the
    /// next.
    async fn listen(&self, bind: &Bind) -> Result<Box<dyn Listener>, TransportError> {
        let (host, port) = endpoint(&bind.url)?;
        Ok(Box::new(listen::TcpListener::bind(bind, host, port).await?))
    }
}

/// The one lane of a connected socket.
fn connection(stream: TcpStream, budget: Arc<Budget>) -> Result<Connection, TransportError> {
    let name = |address: io::Result<SocketAddr>| match address {
        Ok(address) => Ok(canonical(address).to_string()),
        Err(error) => Err(TransportError::io("ask for the address of a connection", error)),
    };
    let info = ConnectionInfo::new(name(stream.local_addr())?, name(stream.peer_addr())?);
    let (read, write) = stream.into_split();
    let lane = framed::lane(read, write, &info, budget);
    Ok(Connection::new(info, lane))
}

async fn open(address: SocketAddr, silence: Duration) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    options::set(&socket, silence);
    socket.connect(address).await
}

/// Every address of a host, in the system's order.
async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, TransportError> {
    let found = async { lookup_host((host, port)).await.map(Iterator::collect::<Vec<_>>) }.await;
    match found {
        Ok(addresses) if !addresses.is_empty() => Ok(addresses),
        Ok(_) => Err(TransportError::io(format!("look up '{host}'"), io::ErrorKind::NotFound.into())),
        Err(error) => Err(TransportError::io(format!("look up '{host}'"), error)),
    }
}

fn endpoint(url: &CellUrl) -> Result<(&str, u16), TransportError> {
    let port = url.port().ok_or_else(|| unusable(url, "it names no port; write tcp://HOST:PORT"))?;
    Ok((url.host(), port))
}

fn unusable(url: &CellUrl, why: &str) -> TransportError {
    TransportError::Url { url: url.to_string(), why: why.into() }
}

/// An address, and the name it was found by if that says more.
fn named(host: &str, address: SocketAddr) -> String {
    if host.parse() == Ok(address.ip()) { address.to_string() } else { format!("{host} at {address}") }
}

/// IPv4 peers of a listener for both families look like IPv4.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
