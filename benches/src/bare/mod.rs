//! The same frames by the bare libraries, each written as its documentation would have it, with the same batches.

mod message;
mod stream;

use std::{net::SocketAddr, sync::Arc};

use cellnet_core::{
    testkit::pki::Pki,
    tls::{TlsClient, TlsMode, TlsServer},
};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use tokio::net::{TcpListener, TcpStream};

use crate::way::{Ends, Way};
use message::{MessageSink, MessageSource};
use stream::{StreamSink, StreamSource};

/// Connects over loopback by the library that serves a scheme.
///
/// # Panics
///
/// If no library does.
pub fn open(ends: &Ends, scheme: &str, pki: &Pki) -> Way {
    match scheme {
        "tcp" => {
            let (near, far) = tcp(ends);
            Way::new(StreamSource::new(near), StreamSink::new(far))
        }
        "stcp" => {
            let ((near, far), (client, server)) = (tcp(ends), tls(pki, &[]));
            let (near, far) = ends.join(client.connect(near), async move { server.accept(far).await });
            Way::new(StreamSource::new(near), StreamSink::new(far))
        }
        "ws" => {
            let (near, far) = tcp(ends);
            let (near, far) = ends.join(message::connect(near), message::accept(far));
            Way::new(MessageSource::new(near), MessageSink::new(far))
        }
        "wss" => {
            let ((near, far), (client, server)) = (tcp(ends), tls(pki, &[]));
            let (near, far) = ends.join(client.connect(near), async move { server.accept(far).await });
            let (near, far) = ends.join(message::connect(near), message::accept(far));
            Way::new(MessageSource::new(near), MessageSink::new(far))
        }
        "quic" => quic(ends, pki),
        scheme => panic!("no library for {scheme}"),
    }
}

/// Two ends of a TCP connection.
fn tcp(ends: &Ends) -> (TcpStream, TcpStream) {
    let listener = ends.far.block_on(TcpListener::bind(LOOPBACK)).expect("loopback can be listened on");
    let address = listener.local_addr().expect("it is bound");
    let (near, (far, _)) = ends.join(TcpStream::connect(address), async move { listener.accept().await });
    for stream in [&near, &far] {
        stream.set_nodelay(true).expect("TCP has that option");
    }
    (near, far)
}

fn tls(pki: &Pki, protocols: &[&[u8]]) -> (TlsClient, TlsServer) {
    let tls = pki.tls("bench", TlsMode::Tls);
    let client = tls.client("127.0.0.1", TlsMode::Tls, protocols).expect("the kit has credentials");
    (client, tls.server(TlsMode::Tls, protocols).expect("the kit has credentials"))
}

/// A stream of a QUIC connection, everything as quinn has it by default.
fn quic(ends: &Ends, pki: &Pki) -> Way {
    let (client, server) = tls(pki, &[b"bench"]);
    let server = QuicServerConfig::try_from(server.config()).expect("TLS 1.3 is there");
    let client = QuicClientConfig::try_from(client.config().clone()).expect("TLS 1.3 is there");
    let config = quinn::ServerConfig::with_crypto(Arc::new(server));
    let far = ends.far.block_on(async { quinn::Endpoint::server(config, LOOPBACK) });
    let near = ends.near.block_on(async { quinn::Endpoint::client(LOOPBACK) });
    let (far, near) = (far.expect("loopback can be bound"), near.expect("loopback can be bound"));
    let address = far.local_addr().expect("it is bound");
    let config = quinn::ClientConfig::new(Arc::new(client));
    let dialling = {
        let near = near.clone();
        async move { near.connect_with(config, address, "127.0.0.1").expect("the name is valid").await }
    };
    let accept = {
        let far = far.clone();
        async move { far.accept().await.expect("it is open").await }
    };
    let (dialled, accepted) = ends.join(dialling, accept);
    let open = async { Ok::<_, quinn::ConnectionError>(stream::opened(&dialled).await) };
    let take = {
        let accepted = accepted.clone();
        async move { Ok::<_, quinn::ConnectionError>(stream::taken(&accepted).await) }
    };
    let (tx, rx) = ends.join(open, take);
    Way::new(StreamSource::kept(tx, (near, dialled)), StreamSink::kept(rx, (far, accepted)))
}

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

impl Ends {
    /// Two halves of a set-up that wait for one another.
    fn join<N, F, E: std::fmt::Debug, G: std::fmt::Debug + Send + 'static>(
        &self,
        near: impl Future<Output = Result<N, E>>,
        far: impl Future<Output = Result<F, G>> + Send + 'static,
    ) -> (N, F)
    where
        F: Send + 'static,
    {
        let far = self.far.spawn(far);
        let near = self.near.block_on(near).expect("the far end is there");
        let far = self.far.block_on(far).expect("the set-up does not panic");
        (near, far.expect("the near end is there"))
    }
}
