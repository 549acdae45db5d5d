//! Connections to listeners.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use cellnet_core::{
    CellUrl,
    tls::{TlsClient, TlsError},
    transport::{Connection, ConnectionInfo, Target, TransportError},
};
use quinn::{ClientConfig, Endpoint, TokioRuntime, crypto::rustls::QuicClientConfig};
use rustls::pki_types::CertificateDer;
use tokio::time::{Instant, timeout};

use crate::{
    ALPN, Quic, lanes,
    refusal::Refusal,
    socket::{self, canonical, named, unusable},
};

/// Tries every address of the host in turn, on a socket of its own each, which goes when the connection is gone.
pub(crate) async fn connect(quic: &Quic, target: &Target) -> Result<Connection, TransportError> {
    let url = &target.url;
    let quic = quic.for_url(url)?;
    let (host, port) = socket::endpoint(url)?;
    if host.is_empty() {
        return Err(unusable(url, "'0' stands for all interfaces and can only be listened on"));
    }
    let tls = target.credentials()?.client(host, target.tls_mode(true)?, &[ALPN]);
    let tls = tls.map_err(|error| TransportError::tls(url, error))?;
    let config = client_config(&quic, url, &tls, target.silence)?;
    let patience = quic.connect_timeout;
    let late = || TransportError::Timeout(url.to_string(), patience);
    let deadline = Instant::now() + patience;
    let addresses = timeout(patience, socket::resolve(host, port)).await.map_err(|_| late())??;
    let mut failure = late();
    for (i, &address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / (addresses.len() - i) as u32;
        failure = match timeout(share, open(&quic, config.clone(), address, host, &tls, target)).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(refusal)) => refusal
                .into_error(&format!("connect to {} at", named(host, address)), address)
                .unwrap_or_else(late),
            Err(_) => late(),
        };
    }
    Err(failure)
}

async fn open(
    quic: &Quic,
    config: ClientConfig,
    address: SocketAddr,
    host: &str,
    tls: &TlsClient,
    target: &Target,
) -> Result<Connection, Refusal> {
    let socket = socket::towards(address)?;
    let endpoint = Endpoint::new(quic.endpoint(), None, socket, Arc::new(TokioRuntime))?;
    let connection = endpoint.connect_with(config, address, host)?.await?;
    let streams = lanes::open(&connection, quic.lanes).await?;
    let mut info = info(&endpoint, &connection);
    tls.describe(&mut info, peer(&connection).as_deref());
    Ok(streams.into_connection(quic, connection, info, &target.budget))
}

fn client_config(
    quic: &Quic,
    url: &CellUrl,
    tls: &TlsClient,
    silence: Duration,
) -> Result<ClientConfig, TransportError> {
    let crypto = QuicClientConfig::try_from(tls.config().clone()).map_err(|error| no_quic(url, error))?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(quic.transport(silence, 0));
    Ok(config)
}

/// Cryptography that cannot do QUIC.
pub(crate) fn no_quic(url: &CellUrl, error: impl ToString) -> TransportError {
    TransportError::tls(url, TlsError::Config(rustls::Error::General(error.to_string())))
}

/// Who and where. QUIC has a keep-alive of its own.
pub(crate) fn info(endpoint: &Endpoint, connection: &quinn::Connection) -> ConnectionInfo {
    let local = match (endpoint.local_addr(), connection.local_ip()) {
        (Ok(socket), Some(ip)) => canonical(SocketAddr::new(ip, socket.port())).to_string(),
        (Ok(socket), None) => canonical(socket).to_string(),
        (Err(_), _) => "a socket that is gone".into(),
    };
    let mut info = ConnectionInfo::new(local, canonical(connection.remote_address()).to_string());
    info.needs_heartbeat = false;
    info
}

/// What the peer showed.
pub(crate) fn peer(connection: &quinn::Connection) -> Option<Vec<CertificateDer<'static>>> {
    connection.peer_identity()?.downcast().ok().map(|chain| *chain)
}
