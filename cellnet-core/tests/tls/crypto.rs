//! What a handshake agrees on.

use std::sync::Arc;

use cellnet_core::{
    testkit::pki::Pki,
    tls::{CredentialFiles, Tls, TlsMode},
};
use rustls::{HandshakeKind, client::Resumption, pki_types::ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_rustls::TlsConnector;

use crate::{anybody::anybody, support::load};

use TlsMode::Mtls;

#[tokio::test]
async fn no_session_is_resumed_even_if_the_dialler_would() {
    let pki = Pki::new();
    let tls = load(&pki.kit("server"));
    let server = tls.server(Mtls, &[]).unwrap();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let ours = tls.client("localhost", Mtls, &[]).unwrap();
        let provider = (**ours.config().crypto_provider()).clone();
        let mut config = anybody(provider, &[version], ours.config().client_auth_cert_resolver.clone());
        config.resumption = Resumption::in_memory_sessions(8);
        let connector = TlsConnector::from(Arc::new(config));
        for _ in 0..2 {
            let (near, far) = duplex(64 * 1024);
            let name = ServerName::try_from("localhost").unwrap();
            let (dialled, accepted) = tokio::join!(connector.connect(name, near), server.accept(far));
            let (mut dialled, mut accepted) = (dialled.unwrap(), accepted.unwrap());
            accepted.write_all(b"x").await.unwrap();
            dialled.read_u8().await.unwrap();
            let kind = dialled.get_ref().1.handshake_kind();
            assert_eq!(kind, Some(HandshakeKind::Full), "{version:?}");
        }
    }
}

#[tokio::test]
async fn the_cryptography_is_the_one_that_was_passed() {
    let pki = Pki::new();
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites = vec![rustls::crypto::ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256];
    let files = CredentialFiles::in_dir(pki.kit("site-1"));
    let tls = Tls::with_provider(files, Arc::new(provider)).unwrap();
    assert_eq!(suite(&tls, &load(&pki.kit("server"))).await, "TLS13_CHACHA20_POLY1305_SHA256");
    assert!(rustls::crypto::CryptoProvider::get_default().is_none(), "nothing global was set");
}

#[cfg(feature = "aws-lc-rs")]
#[tokio::test]
async fn aws_lc_rs_can_be_passed_where_ring_is_the_default() {
    let pki = Pki::new();
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites = vec![rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    let files = CredentialFiles::in_dir(pki.kit("site-1"));
    let tls = Tls::with_provider(files, Arc::new(provider)).unwrap();
    assert_eq!(suite(&tls, &load(&pki.kit("server"))).await, "TLS13_AES_128_GCM_SHA256");
}

/// What a dialler and a listener agree on.
async fn suite(dialler: &Tls, listener: &Tls) -> String {
    let client = dialler.client("localhost", Mtls, &[]).unwrap();
    let server = listener.server(Mtls, &[]).unwrap();
    let (near, far) = duplex(64 * 1024);
    let (dialled, accepted) = tokio::join!(client.connect(near), server.accept(far));
    accepted.unwrap();
    format!("{:?}", dialled.unwrap().get_ref().1.negotiated_cipher_suite().unwrap().suite())
}
