//! Bound addresses.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use cellnet_core::{
    CellUrl,
    stats::Budget,
    transport::{Accepting, Bind, Listener, TransportError},
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{connection, named, options, resolve};

#[derive(Debug)]
pub(crate) struct TcpListener {
    socket: tokio::net::TcpListener,
    url: CellUrl,
    silence: Duration,
    budget: Arc<Budget>,
}

impl TcpListener {
    /// Binds the first address of the host that can be bound.
    pub(crate) async fn bind(bind: &Bind, host: &str, port: u16) -> Result<Self, TransportError> {
        let addresses = match host {
            "" => vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()],
            host => resolve(host, port).await?,
        };
        let mut failure = None;
        for address in addresses {
            match listen(address, host.is_empty()) {
                Ok((socket, port)) => {
                    let url = bind.url.clone().with_port(port);
                    return Ok(Self { socket, url, silence: bind.silence, budget: bind.budget.clone() });
                }
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
}

#[async_trait]
impl Listener for TcpListener {
    fn local_url(&self) -> &CellUrl {
        &self.url
    }

    async fn accept(&mut self) -> Result<Accepting, TransportError> {
        let accepted = self.socket.accept().await;
        let (stream, _) =
            accepted.map_err(|error| TransportError::io(format!("accept on {}", self.url), error))?;
        let (silence, budget) = (self.silence, self.budget.clone());
        Ok(Box::pin(async move {
            options::set(&stream, silence);
            connection(stream, budget)
        }))
    }
}

/// Binds and listens; says on which port.
fn listen(address: SocketAddr, both_families: bool) -> io::Result<(tokio::net::TcpListener, u16)> {
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
    let listener = tokio::net::TcpListener::from_std(socket.into())?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

#[cfg(test)]
mod tests {
    use cellnet_core::transport::{Target, Transport};

    use super::*;
    use crate::Tcp;

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
