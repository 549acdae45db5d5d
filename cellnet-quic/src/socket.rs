//! UDP sockets: named and bound.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use cellnet_core::{
    CellUrl,
    transport::{
        TransportError,
        address::{endpoint, named, resolve},
    },
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::{Instant, sleep};

/// Binds the first address of a URL's host that can be bound. Host `0` is both families, or IPv4 if the system has no
/// IPv6. A dropped future leaves nothing bound.
pub(crate) async fn listen(url: &CellUrl, receive_buffer: usize) -> Result<UdpSocket, TransportError> {
    let (host, port) = endpoint(url, None)?;
    let addresses = match host {
        "" => vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()],
        host => resolve(host, port).await?,
    };
    let deadline = Instant::now() + DRAIN;
    let mut failure = None;
    for address in addresses {
        let bound = loop {
            match bind(address, host.is_empty(), receive_buffer) {
                // Connections of a listener that ended hold its port until they are drained.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                    sleep(DRAIN_CHECK).await;
                }
                bound => break bound,
            }
        };
        match bound {
            Ok(socket) => return Ok(socket),
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

/// A socket of the peer's family, at any port.
pub(crate) fn towards(peer: SocketAddr, receive_buffer: usize) -> io::Result<UdpSocket> {
    let any: IpAddr = match peer {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    bind((any, 0).into(), false, receive_buffer)
}

fn bind(address: SocketAddr, both_families: bool, receive_buffer: usize) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!both_families)?;
    }
    // What the system refuses costs quality, not correctness.
    if let Err(error) = socket.set_recv_buffer_size(receive_buffer) {
        tracing::debug!(%error, "the socket's buffer stays as it is");
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// How long a port in use is tried again, and how often. Connections drain for three probe time-outs: a quarter of a
/// second between hosts that are near, and no more than a second for most others.
const DRAIN: Duration = Duration::from_secs(1);
const DRAIN_CHECK: Duration = Duration::from_millis(20);
