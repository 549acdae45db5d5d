//! Connections to listeners.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use cellnet_core::{
    CellUrl,
    tls::{TlsClient, TlsError},
    transport::{
        Connection, ConnectionInfo, Target, TransportError,
        address::{canonical, named, remote_endpoint, resolve},
    },
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use quinn::{ClientConfig, Endpoint, crypto::rustls::QuicClientConfig};
use rustls::pki_types::CertificateDer;
use tokio::time::{sleep, timeout};

use crate::{ALPN, Quic, fair::Fair, lanes, refusal::Refusal, socket};

/// Tries the addresses of the host side by side, each with a head start over the next, on a socket of its own, which
/// goes when the connection is gone: UDP does not say that nobody is there.
pub(crate) async fn connect(quic: &Quic, target: &Target) -> Result<Connection, TransportError> {
    let url = &target.url;
    let quic = quic.for_url(url)?;
    let (host, port) = remote_endpoint(url, None)?;
    let tls = target.credentials()?.client(host, target.tls_mode(true)?, &[ALPN]);
    let tls = tls.map_err(|error| TransportError::tls(url, error))?;
    let config = client_config(&quic, url, &tls, target.silence)?;
    let patience = quic.connect_timeout;
    let late = || TransportError::Timeout(url.to_string(), patience);
    let tried = async {
        let addresses = resolve(host, port).await?;
        let mut open: FuturesUnordered<_> = addresses
            .iter()
            .zip(0..)
            .map(|(&address, place)| {
                let (quic, config, tls) = (&quic, config.clone(), &tls);
                async move {
                    sleep(HEAD_START * place).await;
                    let opened = self::open(quic, config, address, host, tls, target).await;
                    opened.map_err(|refusal| {
                        refusal.into_error(&format!("connect to {} at", named(host, address)), address)
                    })
                }
            })
            .collect();
        // Somebody who is there and says no is more than nobody.
        let mut failure: Option<TransportError> = None;
        while let Some(opened) = open.next().await {
            match opened {
                Ok(connection) => return Ok(connection),
                Err(error) => failure = failure.filter(TransportError::is_unauthorised).or(error),
            }
        }
        Err(failure.unwrap_or_else(late))
    };
    timeout(patience, tried).await.unwrap_or_else(|_| Err(late()))
}

/// As RFC 8305 advises.
const HEAD_START: Duration = Duration::from_millis(250);

async fn open(
    quic: &Quic,
    config: ClientConfig,
    address: SocketAddr,
    host: &str,
    tls: &TlsClient,
    target: &Target,
) -> Result<Connection, Refusal> {
    let socket = socket::towards(address, quic.receive_buffer)?;
    let endpoint = Endpoint::new(quic.endpoint(), None, socket, Arc::new(Fair))?;
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
