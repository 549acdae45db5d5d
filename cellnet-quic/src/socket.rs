//! UDP sockets: named, bound, with room for bursts.

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
pub(crate) async fn listen(url: &CellUrl) -> Result<UdpSocket, TransportError> {
    let (host, port) = endpoint(url, None)?;
    let addresses = match host {
        "" => vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()],
        host => resolve(host, port).await?,
    };
    let deadline = Instant::now() + DRAIN;
    let mut failure = None;
    for address in addresses {
        let bound = loop {
            match bind(address, host.is_empty()) {
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
pub(crate) fn towards(peer: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match peer {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    bind((any, 0).into(), false)
}

fn bind(address: SocketAddr, both_families: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!both_families)?;
    }
    // What the system refuses costs quality, not correctness.
    for raised in [socket.set_recv_buffer_size(KERNEL_BUFFER), socket.set_send_buffer_size(KERNEL_BUFFER)] {
        if let Err(error) = raised {
            tracing::debug!(%error, "the socket's buffers stay as they are");
        }
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Bursts of a window's half fit, where the system allows it.
const KERNEL_BUFFER: usize = 2 << 20;

/// How long a port in use is tried again, and how often. Connections drain for three probe time-outs: a quarter of a
/// second between hosts that are near, and no more than a second for most others.
const DRAIN: Duration = Duration::from_secs(1);
const DRAIN_CHECK: Duration = Duration::from_millis(20);
