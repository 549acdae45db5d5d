//! The transports `ws://`, `wss://`, `http://` and `https://` of cellnet.
//!
//! ```
//! # use cellnet_core::transport::{RegistryError, Transports};
//! # use cellnet_ws::Ws;
//! let transports = Transports::default().with(Ws::new())?;
//! # Ok::<(), RegistryError>(())
//! ```
//!
//! All four are WebSocket; `http` and `https` are what the reference calls it. `wss` and `https` (with the feature
//! `tls`) are under TLS, and so are the others where the URL or the configuration asks for it.
//!
//! # URLs
//!
//! `ws://HOST[:PORT][/PATH][?KEY=VALUE&…]`
//!
//! * The port is 80 without TLS in the scheme's name and 443 with it.
//! * The path is `/f3`, as in the reference, unless the URL has another one than `/`.
//! * `tls` and `secure` say how the connection is protected, see
//!   [`TlsMode::of`](cellnet_core::tls::TlsMode::of).
//! * `origins` lists origins for a listener, separated by commas, see [`Ws::with_allowed_origins`].
//!
//! # On the wire
//!
//! One frame is one binary message, whose size must be the length in the frame's prefix. Messages may be fragmented,
//! and no extension is offered or accepted. A WebSocket connection is one lane, because TCP delivers in order.
//!
//! A listener's peer that is not cellnet is taken for a client of the reference, which takes no message of 4 MiB or more
//! (`fuel/f3/drivers/aio_http_driver.py`).
//!
//! `GET /` and `GET /healthz` tell people and monitors that a cell is there.

mod answer;
mod ask;
mod head;
mod mask;
mod messages;
mod proxy;
mod recv;
mod send;
mod violation;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
#[cfg(feature = "tls")]
use cellnet_core::tls::TlsServer;
use cellnet_core::{
    CellUrl, Scheme,
    stats::Budget,
    tls::TlsMode,
    transport::{
        Accepting, Bind, Connection, ConnectionInfo, Lane, Listener, Target, Transport, TransportError,
        address, framed::FramedReceiver,
    },
};
use cellnet_tcp::socket::{self, Listening};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use answer::Door;
pub use proxy::{Proxy, ProxyError};
use recv::Payloads;
use send::{MessageSender, Outgoing, Role};

/// WebSocket over IPv4 and IPv6, in the clear or under TLS, through a proxy or not.
///
/// Connecting tries every address of the host in turn. Connections are closed by the system when a peer has not
/// answered for the `silence` of [`Target`] or [`Bind`], busy or idle.
#[derive(Debug, Clone)]
pub struct Ws {
    schemes: Vec<Scheme>,
    connect_timeout: Duration,
    origins: Vec<String>,
    proxy: Proxy,
}

impl Ws {
    /// WebSocket with a connect time-out of 10 s, without a proxy, and closed to the scripts of foreign pages.
    pub fn new() -> Self {
        let schemes: &[&str] =
            if cfg!(feature = "tls") { &["ws", "http", "wss", "https"] } else { &["ws", "http"] };
        let scheme = |text: &&str| text.parse().expect("letters make a scheme");
        Self {
            schemes: schemes.iter().map(scheme).collect(),
            connect_timeout: Duration::from_secs(10),
            origins: Vec::new(),
            proxy: Proxy::default(),
        }
    }

    /// How long looking up the name of the host, or of the proxy, and trying all addresses may take together.
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Lets scripts of these origins (`https://app.example`) connect to listeners, with those of the URL's `origins`.
    ///
    /// Browsers let any page connect anywhere and only say whose it is, so a request with a foreign `Origin` is
    /// refused. Clients other than browsers send none.
    pub fn with_allowed_origins<T: Into<String>>(mut self, origins: impl IntoIterator<Item = T>) -> Self {
        self.origins.extend(origins.into_iter().map(Into::into));
        self
    }

    /// Dials through a proxy.
    pub fn with_proxy(mut self, proxy: Proxy) -> Self {
        self.proxy = proxy;
        self
    }

    /// A socket that leads to the listener, and what is known of it.
    async fn dial(
        &self,
        target: &Target,
        secure: bool,
    ) -> Result<(TcpStream, ConnectionInfo), TransportError> {
        let url = &target.url;
        let endpoint = address::remote_endpoint(url, Some(default_port(url)))?;
        let Some(proxy) = self.proxy.way(url, endpoint.1, secure)? else {
            let stream = socket::connect(url, endpoint, self.connect_timeout, target.silence).await?;
            let info = socket::info(&stream)?;
            return Ok((stream, info));
        };
        let near = (proxy.host.as_str(), proxy.port);
        let reached = socket::connect(url, near, self.connect_timeout, target.silence).await;
        let mut stream = reached.map_err(|error| match error {
            TransportError::Io { what, source } => {
                TransportError::io(format!("{what} (the proxy on the way to {url})"), source)
            }
            TransportError::Timeout(..) => {
                TransportError::Timeout(format!("proxy {proxy} on the way to {url}"), self.connect_timeout)
            }
            other => other,
        })?;
        let tunnel = proxy.tunnel(&mut stream, endpoint.0, endpoint.1);
        let late =
            || TransportError::Timeout(format!("proxy {proxy} on the way to {url}"), self.connect_timeout);
        tokio::time::timeout(self.connect_timeout, tunnel).await.map_err(|_| late())??;
        let mut info = socket::info(&stream)?;
        info.remote = format!("{} by proxy {proxy}", ask::authority(endpoint.0, Some(endpoint.1)));
        Ok((stream, info))
    }
}

impl Default for Ws {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Transport for Ws {
    fn schemes(&self) -> &[Scheme] {
        &self.schemes
    }

    async fn connect(&self, target: &Target) -> Result<Connection, TransportError> {
        let url = &target.url;
        let mode = target.tls_mode(is_secure(url))?;
        let path = path(url)?;
        #[cfg(feature = "tls")]
        if mode != TlsMode::Clear {
            let client = target.credentials()?.client(url.host(), mode, &[HTTP]);
            let client = client.map_err(|error| TransportError::tls(url, error))?;
            let (stream, mut info) = self.dial(target, true).await?;
            let mut stream =
                client.connect(stream).await.map_err(|error| tls_refused(&info.remote, &error))?;
            client.describe(&mut info, stream.get_ref().1.peer_certificates());
            let early = ask::upgrade(&mut stream, url, default_port(url), path).await?;
            let halves = tokio::io::split(stream);
            return Ok(opened(halves, early, Role::Client, info, target.budget.clone()));
        }
        #[cfg(not(feature = "tls"))]
        if mode != TlsMode::Clear {
            return Err(no_tls(url));
        }
        let (mut stream, info) = self.dial(target, false).await?;
        let early = ask::upgrade(&mut stream, url, default_port(url), path).await?;
        Ok(opened(stream.into_split(), early, Role::Client, info, target.budget.clone()))
    }

    /// Errors are those of TCP, see `cellnet_tcp::Tcp`. Whoever connects has to ask for WebSocket in the future that
    /// [`accept`](Listener::accept) gives.
    async fn listen(&self, bind: &Bind) -> Result<Box<dyn Listener>, TransportError> {
        let url = &bind.url;
        let mode = bind.tls_mode(is_secure(url))?;
        #[cfg(feature = "tls")]
        let tls = match mode {
            TlsMode::Clear => None,
            mode => {
                let server = bind.credentials()?.server(mode, &[HTTP]);
                Some(Arc::new(server.map_err(|error| TransportError::tls(url, error))?))
            }
        };
        #[cfg(not(feature = "tls"))]
        if mode != TlsMode::Clear {
            return Err(no_tls(url));
        }
        let listed = url.param("origins").unwrap_or_default().split(',').filter(|origin| !origin.is_empty());
        let door = Door {
            path: path(url)?.into(),
            host: url.host().into(),
            origins: self.origins.iter().cloned().chain(listed.map(Into::into)).collect(),
        };
        Ok(Box::new(WsListener {
            socket: Listening::bind(url, endpoint(url)?, bind.silence).await?,
            door: Arc::new(door),
            budget: bind.budget.clone(),
            #[cfg(feature = "tls")]
            tls,
        }))
    }
}

#[derive(Debug)]
struct WsListener {
    socket: Listening,
    door: Arc<Door>,
    budget: Arc<Budget>,
    #[cfg(feature = "tls")]
    tls: Option<Arc<TlsServer>>,
}

#[async_trait]
impl Listener for WsListener {
    fn local_url(&self) -> &CellUrl {
        self.socket.url()
    }

    async fn accept(&mut self) -> Result<Accepting, TransportError> {
        let mut stream = self.socket.accept().await?;
        let (door, budget) = (self.door.clone(), self.budget.clone());
        #[cfg(feature = "tls")]
        if let Some(tls) = self.tls.clone() {
            return Ok(Box::pin(async move {
                let mut info = accepted(&stream)?;
                let mut stream =
                    tls.accept(stream).await.map_err(|error| tls_refused(&info.remote, &error))?;
                tls.describe(&mut info, stream.get_ref().1.peer_certificates());
                let early = door.open(&mut stream, &info.remote).await?;
                Ok(opened(tokio::io::split(stream), early, Role::Server, info, budget))
            }));
        }
        Ok(Box::pin(async move {
            let info = accepted(&stream)?;
            let early = door.open(&mut stream, &info.remote).await?;
            Ok(opened(stream.into_split(), early, Role::Server, info, budget))
        }))
    }
}

/// What is known of a connection that a peer opened.
fn accepted(stream: &TcpStream) -> Result<ConnectionInfo, TransportError> {
    let mut info = socket::info(stream)?;
    info.legacy_max_frame = Some(LEGACY_MAX_FRAME);
    Ok(info)
}

/// The longest message that a client of the reference takes: its aiohttp refuses 4 MiB and more, if nothing else is
/// asked for (`fuel/f3/drivers/aio_http_driver.py`).
const LEGACY_MAX_FRAME: usize = 4 * 1024 * 1024 - 1;

/// The one lane of an upgraded connection.
fn opened<R, W>(
    (read, write): (R, W),
    early: Vec<u8>,
    role: Role,
    info: ConnectionInfo,
    budget: Arc<Budget>,
) -> Connection
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let outgoing = Outgoing::new(write, role, &info);
    let payloads = Payloads::new(read, early, role, outgoing.clone(), &info);
    // Bytes are counted where they are read, heads of messages included, and not once more.
    let mut uncounted = info.clone();
    uncounted.meter = Arc::default();
    let lane = Lane {
        tx: Box::new(MessageSender::new(outgoing, &info)),
        rx: Box::new(FramedReceiver::new(payloads, &uncounted, budget)),
    };
    Connection::new(info, lane)
}

/// The schemes that are always under TLS.
fn is_secure(url: &CellUrl) -> bool {
    matches!(url.scheme().as_str(), "wss" | "https")
}

fn default_port(url: &CellUrl) -> u16 {
    if is_secure(url) { 443 } else { 80 }
}

fn endpoint(url: &CellUrl) -> Result<(&str, u16), TransportError> {
    address::endpoint(url, Some(default_port(url)))
}

/// The path of a URL, or that of the reference.
fn path(url: &CellUrl) -> Result<&str, TransportError> {
    match url.path() {
        "" | "/" => Ok("/f3"),
        path if path.parse::<http::uri::PathAndQuery>().is_ok_and(|parsed| parsed.path() == path) => Ok(path),
        _ => Err(address::unusable(url, "its path has characters that must be written as %XX")),
    }
}

/// What TLS is to carry (ALPN).
#[cfg(feature = "tls")]
const HTTP: &[u8] = b"http/1.1";

/// A TLS handshake that failed.
#[cfg(feature = "tls")]
fn tls_refused(peer: &str, error: &std::io::Error) -> TransportError {
    TransportError::handshake(peer, error)
}

#[cfg(not(feature = "tls"))]
fn no_tls(url: &CellUrl) -> TransportError {
    address::unusable(url, "it asks for TLS, which is not compiled in; build cellnet with the feature 'tls'")
}
