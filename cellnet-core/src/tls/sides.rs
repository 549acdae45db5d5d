//! The two sides of a handshake.

use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    ClientConfig, ServerConfig,
    client::{Resumption, WebPkiServerVerifier},
    pki_types::{CertificateDer, ServerName},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::{Tls, TlsError, TlsMode, certificate::common_name, credentials::Loaded, verify::ServerVerifier};
use crate::transport::ConnectionInfo;

/// What a dialler brings to a handshake.
#[derive(Clone)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    mode: TlsMode,
}

impl TlsClient {
    pub(super) fn new(tls: &Tls, host: &str, mode: TlsMode, protocols: &[&[u8]]) -> Result<Self, TlsError> {
        let loaded = tls.loaded();
        let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Host(host.to_owned()))?;
        let roots = match &loaded.custom_roots {
            Some(custom) if mode == TlsMode::Tls => custom,
            _ => &loaded.roots,
        };
        let provider = tls.provider().clone();
        let chain = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone()).build();
        let chain = chain.map_err(|error| TlsError::Config(rustls::Error::General(error.to_string())))?;
        let verifier = ServerVerifier { chain, check: tls.check().clone() };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Config)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = if mode == TlsMode::Mtls {
            let files = tls.files();
            let own = own(&loaded.client, mode, &files.client_cert, &files.client_key)?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own)))
        } else {
            builder.with_no_client_auth()
        };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        // Every handshake verifies by the credentials of its day.
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), name, mode })
    }

    /// For drivers that run the handshake themselves.
    pub fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    /// Runs the handshake over a byte stream. A dropped future drops the stream.
    pub async fn connect<S>(&self, stream: S) -> io::Result<client::TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        TlsConnector::from(self.config.clone()).connect(self.name.clone(), stream).await
    }

    /// Notes in `info` how the connection is protected and whose certificate the peer showed.
    pub fn describe(&self, info: &mut ConnectionInfo, peer: Option<&[CertificateDer<'_>]>) {
        describe(info, self.mode, peer);
    }
}

/// What a listener brings to handshakes.
pub struct TlsServer {
    tls: Tls,
    mode: TlsMode,
    protocols: Vec<Vec<u8>>,
    current: Mutex<(u64, Arc<ServerConfig>)>,
}

impl TlsServer {
    pub(super) fn new(tls: &Tls, mode: TlsMode, protocols: &[&[u8]]) -> Result<Self, TlsError> {
        let loaded = tls.loaded();
        let protocols: Vec<_> = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let config = server_config(tls, &loaded, mode, &protocols)?;
        Ok(Self { tls: tls.clone(), mode, protocols, current: Mutex::new((loaded.generation, config)) })
    }

    /// What the next handshake goes by: made anew when the credentials have changed.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.tls.refresh();
        let loaded = self.tls.loaded();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread may be ahead of this one.
        if current.0 < loaded.generation {
            match server_config(&self.tls, &loaded, self.mode, &self.protocols) {
                Ok(config) => *current = (loaded.generation, config),
                Err(error) => {
                    let error = crate::link::chain(&error);
                    tracing::warn!(
                        error,
                        "changed credentials cannot be used, the listener keeps the old ones"
                    );
                    current.0 = loaded.generation;
                }
            }
        }
        current.1.clone()
    }

    /// Runs the handshake over a byte stream. A dropped future drops the stream.
    pub async fn accept<S>(&self, stream: S) -> io::Result<server::TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        TlsAcceptor::from(self.config()).accept(stream).await
    }

    /// Notes in `info` how the connection is protected and whose certificate the peer showed.
    pub fn describe(&self, info: &mut ConnectionInfo, peer: Option<&[CertificateDer<'_>]>) {
        describe(info, self.mode, peer);
    }
}

fn describe(info: &mut ConnectionInfo, mode: TlsMode, peer: Option<&[CertificateDer<'_>]>) {
    info.tls = mode;
    info.peer_cn = peer.and_then(<[_]>::first).and_then(common_name);
}

fn server_config(
    tls: &Tls,
    loaded: &Loaded,
    mode: TlsMode,
    protocols: &[Vec<u8>],
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = tls.provider().clone();
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Config)?;
    let builder = if mode == TlsMode::Mtls {
        let verifier = WebPkiClientVerifier::builder_with_provider(loaded.roots.clone(), provider).build();
        let verifier =
            verifier.map_err(|error| TlsError::Config(rustls::Error::General(error.to_string())))?;
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let files = tls.files();
    let own = own(&loaded.server, mode, &files.server_cert, &files.server_key)?;
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
    config.alpn_protocols = protocols.to_vec();
    // Every handshake verifies by the credentials of its day.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// What this side shows, or which file is missing for it.
fn own(
    certified: &Option<Arc<CertifiedKey>>,
    mode: TlsMode,
    cert: &std::path::Path,
    key: &std::path::Path,
) -> Result<CertifiedKey, TlsError> {
    match certified {
        Some(certified) => Ok(CertifiedKey::clone(certified)),
        None => {
            let path = if cert.exists() { key } else { cert };
            Err(TlsError::Missing { mode, path: path.into() })
        }
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClient")
            .field("name", &self.name)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsServer").field("tls", &self.tls).field("mode", &self.mode).finish_non_exhaustive()
    }
}
