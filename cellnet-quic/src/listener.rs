//! A bound address.

use std::{io, sync::Arc, time::Duration};

use async_trait::async_trait;
use cellnet_core::{
    CellUrl,
    stats::Budget,
    tls::TlsServer,
    transport::{Accepting, Bind, Connection, Listener, TransportError, address::canonical},
};
use futures_util::FutureExt;
use quinn::{Endpoint, Incoming, ServerConfig, ValidationTokenConfig, crypto::rustls::QuicServerConfig};
use tokio::time::timeout;

use crate::{
    ALPN, Quic,
    admission::{Admission, Place},
    dial::{info, no_quic, peer},
    fair::Fair,
    lanes,
    refusal::Refusal,
    socket,
};

/// Takes connections at one UDP address.
#[derive(Debug)]
pub(crate) struct QuicListener {
    endpoint: Endpoint,
    url: CellUrl,
    quic: Quic,
    budget: Arc<Budget>,
    tls: Arc<TlsServer>,
    admission: Admission,
    /// As of the credentials it was made from.
    config: (Arc<rustls::ServerConfig>, Arc<ServerConfig>),
}

impl QuicListener {
    pub(crate) async fn bind(quic: &Quic, bind: &Bind) -> Result<Self, TransportError> {
        let quic = quic.for_url(&bind.url)?;
        let tls = bind.credentials()?.server(bind.tls_mode(true)?, &[ALPN]);
        let tls = Arc::new(tls.map_err(|error| TransportError::tls(&bind.url, error))?);
        let crypto = tls.config();
        let config = server_config(&quic, &bind.url, &crypto, bind.silence)?;
        let socket = socket::listen(&bind.url, quic.receive_buffer).await?;
        let endpoint = Endpoint::new(quic.endpoint(), Some(config.clone()), socket, Arc::new(Fair));
        let bound = endpoint.and_then(|endpoint| Ok((endpoint.local_addr()?.port(), endpoint)));
        let (port, endpoint) =
            bound.map_err(|error| TransportError::io(format!("listen on {}", bind.url), error))?;
        Ok(Self {
            endpoint,
            url: bind.url.clone().with_port(port),
            admission: Admission::new(quic.unvalidated),
            quic,
            budget: bind.budget.clone(),
            tls,
            config: (crypto, Arc::new(config)),
        })
    }

    /// What the next handshake goes by.
    fn config(&mut self) -> Arc<ServerConfig> {
        let crypto = self.tls.config();
        if !Arc::ptr_eq(&crypto, &self.config.0) {
            match QuicServerConfig::try_from(crypto.clone()) {
                Ok(quic) => {
                    // All else stays, the key of retry packets too.
                    let mut config = ServerConfig::clone(&self.config.1);
                    config.crypto = Arc::new(quic);
                    self.config = (crypto, Arc::new(config));
                }
                Err(error) => {
                    tracing::warn!(url = %self.url, %error, "changed credentials cannot be used, the old ones stay");
                    self.config.0 = crypto;
                }
            }
        }
        self.config.1.clone()
    }
}

#[async_trait]
impl Listener for QuicListener {
    fn local_url(&self) -> &CellUrl {
        &self.url
    }

    async fn accept(&mut self) -> Result<Accepting, TransportError> {
        loop {
            let Some(incoming) = self.endpoint.accept().await else {
                let error = io::Error::from(io::ErrorKind::NotConnected);
                return Err(TransportError::io(format!("accept on {}", self.url), error));
            };
            let Some((incoming, place)) = self.admission.admit(incoming) else { continue };
            let opening = Opening {
                incoming,
                place,
                config: self.config(),
                endpoint: self.endpoint.clone(),
                quic: self.quic.clone(),
                budget: self.budget.clone(),
                tls: self.tls.clone(),
            };
            return Ok(Box::pin(opening.finish()));
        }
    }
}

impl Drop for QuicListener {
    fn drop(&mut self) {
        // Connections that are open keep the socket, but it takes no more.
        self.endpoint.set_server_config(None);
        while let Some(Some(incoming)) = self.endpoint.accept().now_or_never() {
            incoming.refuse();
        }
    }
}

/// A connection that came, and all that its set-up needs.
struct Opening {
    incoming: Incoming,
    place: Place,
    config: Arc<ServerConfig>,
    endpoint: Endpoint,
    quic: Quic,
    budget: Arc<Budget>,
    tls: Arc<TlsServer>,
}

impl Opening {
    async fn finish(self) -> Result<Connection, TransportError> {
        let peer = canonical(self.incoming.remote_address());
        let patience = self.quic.handshake_timeout;
        let late = || TransportError::Timeout(peer.to_string(), patience);
        let opened = timeout(patience, self.open()).await.map_err(|_| late())?;
        opened.map_err(|refusal| refusal.into_error("take a connection from", peer).unwrap_or_else(late))
    }

    async fn open(self) -> Result<Connection, Refusal> {
        let Self { incoming, place, config, endpoint, quic, budget, tls } = self;
        let connection = incoming.accept_with(config)?.await?;
        let streams = lanes::accept(&connection, quic.lanes).await?;
        drop(place);
        let mut info = info(&endpoint, &connection);
        tls.describe(&mut info, peer(&connection).as_deref());
        Ok(streams.into_connection(&quic, connection, info, &budget))
    }
}

fn server_config(
    quic: &Quic,
    url: &CellUrl,
    crypto: &Arc<rustls::ServerConfig>,
    silence: Duration,
) -> Result<ServerConfig, TransportError> {
    let crypto = QuicServerConfig::try_from(crypto.clone()).map_err(|error| no_quic(url, error))?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    let mut tokens = ValidationTokenConfig::default();
    tokens.sent(0);
    config
        .transport_config(quic.transport(silence, quic.lanes + 1))
        .validation_token_config(tokens)
        .migration(true)
        .max_incoming(quic.backlog)
        .incoming_buffer_size(INCOMING_BYTES)
        .incoming_buffer_size_total(INCOMING_BYTES * 64);
    Ok(config)
}

/// What a peer may send before its handshake begins: a long chain of certificates does not come so early.
const INCOMING_BYTES: u64 = 16 << 10;
