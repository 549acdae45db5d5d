//! Handshakes by credentials in files, over a stream in memory: who gets in, who does not, and what they are told.

#[path = "common/log.rs"]
mod log;

use std::{fs, path::Path, sync::Arc};

use cellnet_core::{
    testkit::pki::{
        Pki,
        rcgen::{self, ExtendedKeyUsagePurpose},
    },
    tls::{CredentialFiles, Tls, TlsMode},
    transport::ConnectionInfo,
};
use log::Log;
use rustls::{
    ClientConfig, HandshakeKind, SupportedProtocolVersion,
    client::{ResolvesClientCert, Resumption},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_rustls::TlsConnector;

/// What each side knows of the other after a handshake and one byte each way, or why there was none.
#[derive(Debug)]
struct Shaken {
    dialler: Result<ConnectionInfo, String>,
    listener: Result<ConnectionInfo, String>,
}

impl Shaken {
    /// The names that dialler and listener see.
    fn names(&self) -> (Option<&str>, Option<&str>) {
        let name = |side: &'_ Result<ConnectionInfo, String>| side.as_ref().unwrap().peer_cn.clone();
        let leak = |name: Option<String>| name.map(|name| &*name.leak());
        (leak(name(&self.dialler)), leak(name(&self.listener)))
    }

    /// What both sides say.
    fn reasons(&self) -> String {
        let reason = |side: &Result<ConnectionInfo, String>| side.as_ref().err().cloned().unwrap_or_default();
        format!("dialler: {}; listener: {}", reason(&self.dialler), reason(&self.listener))
    }
}

async fn shake(dialler: (&Tls, TlsMode, &str), listener: (&Tls, TlsMode)) -> Shaken {
    let client = dialler.0.client(dialler.2, dialler.1, &[]).unwrap();
    let server = listener.0.server(listener.1, &[]).unwrap();
    let (near, far) = duplex(64 * 1024);
    let dial = async {
        let mut stream = client.connect(near).await.map_err(|error| error.to_string())?;
        let mut info = ConnectionInfo::new("", "");
        client.describe(&mut info, stream.get_ref().1.peer_certificates());
        // Under TLS 1.3 the dialler learns with the first byte whether its certificate was taken.
        stream.write_all(b"x").await.map_err(|error| error.to_string())?;
        stream.read_u8().await.map_err(|error| error.to_string())?;
        Ok(info)
    };
    let listen = async {
        let mut stream = server.accept(far).await.map_err(|error| error.to_string())?;
        let mut info = ConnectionInfo::new("", "");
        server.describe(&mut info, stream.get_ref().1.peer_certificates());
        stream.write_all(b"x").await.map_err(|error| error.to_string())?;
        stream.read_u8().await.map_err(|error| error.to_string())?;
        Ok(info)
    };
    let (dialler, listener) = tokio::join!(dial, listen);
    Shaken { dialler, listener }
}

fn load(dir: &Path) -> Tls {
    Tls::load(CredentialFiles::in_dir(dir)).unwrap()
}

use TlsMode::{Mtls, Tls as OneSided};

#[tokio::test]
async fn in_mtls_both_sides_show_a_certificate_and_in_tls_the_listener_alone() {
    let pki = Pki::new();
    let (site, server) = (load(&pki.kit("site-1")), load(&pki.kit("server")));
    for host in ["localhost", "127.0.0.1", "::1"] {
        let mtls = shake((&site, Mtls, host), (&server, Mtls)).await;
        assert_eq!(mtls.names(), (Some("server"), Some("site-1")), "{host}");
        assert!([&mtls.dialler, &mtls.listener].iter().all(|side| side.as_ref().unwrap().tls == Mtls));
        let tls = shake((&site, OneSided, host), (&server, OneSided)).await;
        assert_eq!(tls.names(), (Some("server"), None), "{host}");
    }
    // A certificate that nobody asks for is not shown.
    assert_eq!(shake((&site, Mtls, "localhost"), (&server, OneSided)).await.names(), (Some("server"), None));
}

#[tokio::test]
async fn a_bad_certificate_is_refused_with_the_reason() {
    let (pki, other) = (Pki::new(), Pki::new());
    let good = load(&pki.kit("good"));
    let stranger = load(&other.kit("good"));
    let expired = load(&pki.expired_kit("good"));
    let nameless = load(&pki.kit_for("localhost", &[]));
    let elsewhere = load(&pki.kit_for("good", &["elsewhere.example"]));
    let usage = |usage: ExtendedKeyUsagePurpose| {
        load(&pki.kit_with("good", |params| params.extended_key_usages = vec![usage]))
    };
    let for_servers = usage(ExtendedKeyUsagePurpose::ServerAuth);
    let for_clients = usage(ExtendedKeyUsagePurpose::ClientAuth);
    let authority = load(&pki.kit_with("good", |params| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    }));
    for (what, dialler, listener, reason) in [
        (
            "listener of another authority",
            &good,
            &stranger,
            "dialler: invalid peer certificate: UnknownIssuer",
        ),
        ("dialler of another authority", &stranger, &good, "UnknownIssuer"),
        (
            "listener that has expired",
            &good,
            &expired,
            "dialler: invalid peer certificate: certificate expired",
        ),
        (
            "dialler that has expired",
            &expired,
            &good,
            "listener: invalid peer certificate: certificate expired",
        ),
        ("listener that names no host", &good, &nameless, "certificate not valid for name \"localhost\""),
        ("listener that names another host", &good, &elsewhere, "elsewhere.example"),
        ("dialler that may only listen", &for_servers, &good, "listener: invalid peer certificate"),
        ("listener that may only dial", &good, &for_clients, "dialler: invalid peer certificate"),
        ("listener that is an authority", &good, &authority, "CaUsedAsEndEntity"),
        ("dialler that is an authority", &authority, &good, "CaUsedAsEndEntity"),
    ] {
        let shaken = shake((dialler, Mtls, "localhost"), (listener, Mtls)).await;
        assert!(shaken.dialler.is_err() && shaken.listener.is_err(), "{what}: {shaken:?}");
        assert!(shaken.reasons().contains(reason), "{what}: {}", shaken.reasons());
    }
    let none = shake((&good, OneSided, "localhost"), (&good, Mtls)).await;
    assert!(none.reasons().contains("listener: peer sent no certificates"), "{}", none.reasons());
    assert!(none.reasons().contains("CertificateRequired"), "{}", none.reasons());
    // A dialler needs no name of a host.
    assert!(shake((&nameless, Mtls, "localhost"), (&good, Mtls)).await.listener.is_ok());
}

#[tokio::test]
async fn a_pinned_name_stands_for_the_host_and_excuses_nothing_else() {
    let (pki, other) = (Pki::new(), Pki::new());
    let site = load(&pki.kit("site-1"));
    let by_san = load(&pki.kit_for("server", &["flare.example"]));
    let by_cn = load(&pki.kit_for("my FL server", &[]));
    let stranger = load(&other.kit_for("flare.example", &["flare.example"]));
    let expired = load(&pki.expired_kit("flare.example"));
    let pinned = |name: &str| site.clone().with_server_name(name);
    for (name, listener, taken) in [
        ("flare.example", &by_san, true),
        ("server", &by_san, true),
        ("my FL server", &by_cn, true),
        ("flare.example", &by_cn, false),
        ("my FL server", &by_san, false),
        ("flare.example", &stranger, false),
        ("flare.example", &expired, false),
        ("", &by_cn, false),
    ] {
        let shaken = shake((&pinned(name), Mtls, "127.0.0.1"), (listener, Mtls)).await;
        assert_eq!(shaken.dialler.is_ok(), taken, "'{name}': {}", shaken.reasons());
    }
    // Nor is the host enough where a name is pinned.
    let host = shake((&pinned("flare.example"), Mtls, "localhost"), (&load(&pki.kit("server")), Mtls)).await;
    assert!(host.dialler.is_err());
}

#[tokio::test]
async fn a_waived_name_is_warned_of_and_excuses_nothing_else() {
    let (pki, other) = (Pki::new(), Pki::new());
    let site = load(&pki.kit("site-1")).with_any_server_name();
    let log = Log::begin();
    assert!(shake((&site, Mtls, "localhost"), (&load(&pki.kit("server")), Mtls)).await.dialler.is_ok());
    assert_eq!(log.count("WARN"), 0, "{}", log.text());
    let elsewhere = load(&pki.kit_for("server", &["elsewhere.example"]));
    assert!(shake((&site, Mtls, "localhost"), (&elsewhere, Mtls)).await.dialler.is_ok());
    assert_eq!(log.count("the certificate names another host"), 1, "{}", log.text());
    for bad in [load(&other.kit("server")), load(&pki.expired_kit("server"))] {
        assert!(shake((&site, Mtls, "localhost"), (&bad, Mtls)).await.dialler.is_err());
    }
}

#[tokio::test]
async fn a_custom_authority_vouches_for_listeners_in_the_mode_tls_and_for_nobody_else() {
    let (pki, custom) = (Pki::new(), Pki::new());
    let dir = pki.kit("site-1");
    fs::copy(custom.kit("x").join("rootCA.pem"), dir.join("customRootCA.pem")).unwrap();
    let site = load(&dir);
    let (ours, theirs) = (load(&pki.kit("server")), load(&custom.kit("server")));
    for (mode, listener, taken) in
        [(OneSided, &theirs, true), (OneSided, &ours, false), (Mtls, &ours, true), (Mtls, &theirs, false)]
    {
        let shaken = shake((&site, mode, "localhost"), (listener, mode)).await;
        assert_eq!(shaken.dialler.is_ok(), taken, "{mode}: {}", shaken.reasons());
    }
    // As a listener it asks the usual authority in every case.
    assert!(shake((&theirs, Mtls, "localhost"), (&site, Mtls)).await.listener.is_err());
}

/// A folder with certificate and key of these names from the data for both sides.
fn data_kit(pki: &Pki, cert: &str, key: &str) -> std::path::PathBuf {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls");
    let dir = pki.kit("replaced");
    fs::copy(data.join("rootCA.pem"), dir.join("rootCA.pem")).unwrap();
    for side in ["server", "client"] {
        fs::copy(data.join(cert), dir.join(side).with_extension("crt")).unwrap();
        fs::copy(data.join(key), dir.join(side).with_extension("key")).unwrap();
    }
    dir
}

#[tokio::test]
async fn every_kind_of_key_serves_both_sides() {
    let pki = Pki::new();
    let kinds =
        ["rsa.pkcs1", "rsa.pkcs8", "p256.sec1", "p256.pkcs8", "p384.sec1", "p384.pkcs8", "ed25519.pkcs8"];
    for kind in kinds {
        let cert = format!("{}.crt", kind.split('.').next().unwrap());
        let tls = load(&data_kit(&pki, &cert, &format!("{kind}.key")));
        let shaken = shake((&tls, Mtls, "localhost"), (&tls, Mtls)).await;
        assert!(shaken.dialler.is_ok() && shaken.listener.is_ok(), "{kind}: {}", shaken.reasons());
        assert_eq!(shaken.names(), (Some("site-1"), Some("site-1")), "{kind}");
    }
}

#[tokio::test]
async fn certificates_of_version_1_are_refused() {
    let pki = Pki::new();
    let dir = data_kit(&pki, "v1.crt", "p256.pkcs8.key");
    let error = Tls::load(CredentialFiles::in_dir(&dir)).unwrap_err().to_string();
    assert!(error.contains("server.crt") && error.contains("UnsupportedCertVersion"), "{error}");
    // A peer that looks less closely at its own.
    let tls = load(&data_kit(&pki, "p256.crt", "p256.pkcs8.key"));
    let provider = rustls::crypto::ring::default_provider();
    let key = PrivateKeyDer::from_pem_file(dir.join("client.key")).unwrap();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let chain = vec![CertificateDer::from_pem_file(dir.join("client.crt")).unwrap()];
    let own = SingleCertAndKey::from(CertifiedKey::new(chain, key));
    let config = anybody(provider, &[&rustls::version::TLS13], Arc::new(own));
    let (near, far) = duplex(64 * 1024);
    let name = ServerName::try_from("localhost").unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let server = tls.server(Mtls, &[]).unwrap();
    let (_dialled, accepted) = tokio::join!(connector.connect(name, near), server.accept(far));
    let error = accepted.unwrap_err().to_string();
    assert!(error.contains("UnsupportedCertVersion"), "{error}");
}

#[test]
fn files_that_cannot_be_used_are_named_with_the_reason() {
    let pki = Pki::new();
    let replaced = |name: &str, content: &[u8]| {
        let dir = pki.kit("site-1");
        fs::write(dir.join(name), content).unwrap();
        dir
    };
    let data = |name: &str| {
        fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls").join(name)).unwrap()
    };
    let other_key = fs::read(pki.kit("x").join("client.key")).unwrap();
    let no_ca = pki.kit("site-1");
    fs::remove_file(no_ca.join("rootCA.pem")).unwrap();
    let folder = pki.kit("site-1");
    fs::remove_file(folder.join("server.key")).unwrap();
    fs::create_dir(folder.join("server.key")).unwrap();
    for (dir, file, why) in [
        (no_ca, "rootCA.pem", "cannot read"),
        (replaced("rootCA.pem", b""), "rootCA.pem", "it holds no certificate in PEM"),
        (replaced("rootCA.pem", b"-----BEGIN CERTIFICATE-----\nAAAA"), "rootCA.pem", "cannot be used"),
        (replaced("customRootCA.pem", b"x"), "customRootCA.pem", "it holds no certificate in PEM"),
        (replaced("server.crt", &other_key), "server.crt", "it holds no certificate in PEM"),
        (replaced("client.key", &other_key), "client.key", "it is not the key of"),
        (replaced("client.key", b"secret"), "client.key", "it holds no private key in PEM"),
        (replaced("client.key", &data("p256.encrypted.key")), "client.key", "it is encrypted"),
        (replaced("client.key", &vec![b'x'; 5 << 20]), "client.key", "it is no file of at most"),
        (folder, "server.key", "it is no file"),
    ] {
        let error = Tls::load(CredentialFiles::in_dir(&dir)).unwrap_err().to_string();
        assert!(error.contains(file) && error.contains(why), "{file}, {why}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn a_side_of_a_mode_names_the_file_that_it_misses() {
    let pki = Pki::new();
    for (file, mode) in
        [("client.crt", Mtls), ("client.key", Mtls), ("server.crt", OneSided), ("server.key", Mtls)]
    {
        let dir = pki.kit("site-1");
        fs::remove_file(dir.join(file)).unwrap();
        let tls = load(&dir);
        let (client, server) = (tls.client("localhost", mode, &[]), tls.server(mode, &[]));
        let dials = file.starts_with("client");
        let error = if dials { client.err() } else { server.err() }.unwrap().to_string();
        assert!(error.starts_with(&format!("{mode} needs the file")) && error.contains(file), "{error}");
        assert!(if dials { tls.server(mode, &[]).is_ok() } else { tls.client("h", mode, &[]).is_ok() });
    }
    let error = load(&pki.kit("x")).client("no host", Mtls, &[]).unwrap_err();
    assert_eq!(error.to_string(), "'no host' is neither a host name nor an address");
}

#[cfg(unix)]
#[test]
fn a_key_that_others_may_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let pki = Pki::new();
    let dir = pki.kit("site-1");
    let log = Log::begin();
    load(&dir);
    assert_eq!(log.count("WARN"), 0, "{}", log.text());
    fs::set_permissions(dir.join("client.key"), fs::Permissions::from_mode(0o640)).unwrap();
    load(&dir);
    assert!(log.count("WARN") == 1 && log.text().contains("client.key"), "{}", log.text());
}

#[tokio::test]
async fn new_files_count_from_the_next_handshake_and_open_connections_stay() {
    let pki = Pki::new();
    let dir = pki.kit("old");
    let (tls, peer) = (load(&dir), load(&pki.kit("peer")));
    let server = tls.server(Mtls, &[]).unwrap();
    let client = peer.client("localhost", Mtls, &[]).unwrap();
    let (near, far) = duplex(64 * 1024);
    let (open, accepted) = tokio::join!(client.connect(near), server.accept(far));
    let (mut open, mut accepted) = (open.unwrap(), accepted.unwrap());

    pki.renew(&dir, "new");
    let (near, far) = duplex(64 * 1024);
    let (dialled, taken) = tokio::join!(client.connect(near), server.accept(far));
    taken.unwrap();
    let mut info = ConnectionInfo::new("", "");
    client.describe(&mut info, dialled.unwrap().get_ref().1.peer_certificates());
    assert_eq!(info.peer_cn.as_deref(), Some("new"));
    // The dialling side of the same credentials has changed with it.
    let shaken = shake((&tls, Mtls, "localhost"), (&peer, Mtls)).await;
    assert_eq!(shaken.names(), (Some("peer"), Some("new")));

    open.write_all(b"y").await.unwrap();
    assert_eq!(accepted.read_u8().await.unwrap(), b'y');
}

#[tokio::test]
async fn a_listener_that_no_longer_trusts_an_authority_refuses_its_certificates() {
    let (before, after) = (Pki::new(), Pki::new());
    let dir = before.kit("server");
    let tls = load(&dir);
    let old = load(&before.kit("site-1"));
    assert!(shake((&old, Mtls, "localhost"), (&tls, Mtls)).await.listener.is_ok());
    after.renew(&dir, "server");
    assert!(shake((&old, Mtls, "localhost"), (&tls, Mtls)).await.listener.is_err());
    assert!(shake((&load(&after.kit("site-1")), Mtls, "localhost"), (&tls, Mtls)).await.listener.is_ok());
}

#[tokio::test]
async fn half_of_a_change_leaves_the_old_files_in_use_and_is_logged_once() {
    let pki = Pki::new();
    let dir = pki.kit("old");
    let (tls, peer) = (load(&dir), load(&pki.kit("peer")));
    let next = pki.kit("new");
    let log = Log::begin();
    let seen = async || shake((&peer, Mtls, "localhost"), (&tls, Mtls)).await.names().0.unwrap().to_owned();
    let put = |name: &str| fs::copy(next.join(name), dir.join(name)).unwrap();

    put("server.crt");
    for _ in 0..3 {
        assert_eq!(seen().await, "old");
    }
    assert_eq!(log.count("WARN"), 1, "{}", log.text());
    assert!(log.text().contains("server.key' cannot be used: it is not the key of"), "{}", log.text());
    let error = tls.reload().unwrap_err().to_string();
    assert!(error.contains("server.key"), "{error}");

    let half = fs::read_to_string(next.join("server.key")).unwrap();
    fs::write(dir.join("server.key"), &half[..half.len() / 2]).unwrap();
    assert_eq!(seen().await, "old");
    fs::remove_file(dir.join("server.key")).unwrap();
    assert_eq!(seen().await, "old");
    assert!(log.text().contains("server.key' was there and is gone"), "{}", log.text());
    put("server.key");
    assert_eq!(seen().await, "new");
}

#[test]
fn a_reload_says_what_it_found() {
    let pki = Pki::new();
    let dir = pki.kit("site-1");
    let tls = load(&dir);
    assert_eq!(tls.reload().unwrap().to_string(), "nothing has changed");
    pki.renew(&dir, "site-2");
    let reloaded = tls.reload().unwrap();
    // The authority is the same.
    assert_eq!(reloaded.changed.len(), 4, "{reloaded:?}");
    assert_eq!(reloaded.client.as_ref().unwrap().common_name.as_deref(), Some("site-2"));
    let text = reloaded.to_string();
    assert!(text.contains("server.key") && text.contains("listeners show 'site-2' until"), "{text}");
    assert_eq!(tls.client_certificate(), reloaded.client);
    assert!(tls.reload().unwrap().changed.is_empty());
}

#[test]
fn a_thousand_handshakes_and_changes_at_once_never_see_half_a_change() {
    let pki = Pki::new();
    let dir = pki.kit("first");
    let tls = load(&dir);
    let server = tls.server(Mtls, &[]).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..250 {
                    // Each of these has been built of a certificate and the key that fits.
                    server.config();
                    tls.client("localhost", Mtls, &[]).unwrap();
                }
            });
        }
        for _ in 0..20 {
            pki.renew(&dir, "last");
        }
    });
    let before = server.config();
    assert!(Arc::ptr_eq(&before, &server.config()), "nothing has changed, nothing is built");
    assert_eq!(tls.server_certificate().unwrap().common_name.as_deref(), Some("last"));
}

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

/// A dialler that takes every certificate.
fn anybody(
    provider: CryptoProvider,
    versions: &[&'static SupportedProtocolVersion],
    own: Arc<dyn ResolvesClientCert>,
) -> ClientConfig {
    let provider = Arc::new(provider);
    ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_client_cert_resolver(own)
}

#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

mod anybody {
    use rustls::{
        DigitallySignedStruct, Error, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        pki_types::{CertificateDer, ServerName, UnixTime},
    };

    use super::Anybody;

    impl ServerCertVerifier for Anybody {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }
}
