//! TCP sockets as every transport on TCP wants them: named, bounded in time, with the options set.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use cellnet_core::{
    CellUrl,
    transport::{
        ConnectionInfo, TransportError,
        address::{canonical, named, resolve},
    },
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::{Instant, timeout},
};

use crate::options;

/// Connects to a host and a port within `patience`, which covers the look-up of the name and all its addresses; each gets
/// an equal share of what is left. `url` stands in errors. A dropped future leaves nothing behind.
pub async fn connect(
    url: &CellUrl,
    (host, port): (&str, u16),
    patience: Duration,
    silence: Duration,
) -> Result<TcpStream, TransportError> {
    let late = || TransportError::Timeout(url.to_string(), patience);
    let deadline = Instant::now() + patience;
    let addresses = timeout(patience, resolve(host, port)).await.map_err(|_| late())??;
    let mut failure = late();
    for (i, &address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / (addresses.len() - i) as u32;
        failure = match timeout(share, open(address, silence)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => TransportError::io(format!("connect to {}", named(host, address)), error),
            Err(_) => late(),
        };
    }
    Err(failure)
}

/// The addresses of both ends of a connected socket, for people.
pub fn info(stream: &TcpStream) -> Result<ConnectionInfo, TransportError> {
    let name = |address: io::Result<SocketAddr>| match address {
        Ok(address) => Ok(canonical(address).to_string()),
        Err(error) => Err(TransportError::io("ask for the address of a connection", error)),
    };
    Ok(ConnectionInfo::new(name(stream.local_addr())?, name(stream.peer_addr())?))
}

/// A bound TCP address.
#[derive(Debug)]
pub struct Listening {
    socket: TcpListener,
    url: CellUrl,
    silence: Duration,
}

impl Listening {
    /// Binds the first address of the host that can be bound. `silence` as in
    /// [`Bind`](cellnet_core::transport::Bind::silence). A dropped future leaves nothing bound.
    pub async fn bind(
        url: &CellUrl,
        (host, port): (&str, u16),
        silence: Duration,
    ) -> Result<Self, TransportError> {
        let addresses = match host {
            "" => vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()],
            host => resolve(host, port).await?,
        };
        let mut failure = None;
        for address in addresses {
            match listen(address, host.is_empty()) {
                Ok((socket, port)) => return Ok(Self { socket, url: url.clone().with_port(port), silence }),
                // The first answer is the one that matters, unless a later address is taken.
                Err(error) => {
                    let in_use = error.kind() == io::ErrorKind::AddrInUse;
                    let error = TransportError::io(format!("listen on {}", named(host, address)), error);
                    if in_use {
                        return Err(error);
                    }
                    failure.get_or_insert(error);
                }
            }
        }
        Err(failure.expect("a host has at least one address"))
    }

    /// The URL with the real port.
    pub fn url(&self) -> &CellUrl {
        &self.url
    }

    /// The next connection. A dropped future loses none.
    pub async fn accept(&mut self) -> Result<TcpStream, TransportError> {
        let accepted = self.socket.accept().await;
        let (stream, _) =
            accepted.map_err(|error| TransportError::io(format!("accept on {}", self.url), error))?;
        options::set(&stream, self.silence);
        Ok(stream)
    }
}

async fn open(address: SocketAddr, silence: Duration) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    options::set(&socket, silence);
    socket.connect(address).await
}

/// Binds and listens; says on which port.
fn listen(address: SocketAddr, both_families: bool) -> io::Result<(TcpListener, u16)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!both_families)?;
    }
    // A listener may start again while connections of the one before linger. Elsewhere it would share the port.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from_std(socket.into())?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
