//! Who gets in, who does not, and what they are told.

use std::{fs, path::Path, sync::Arc};

use cellnet_core::{
    testkit::pki::{
        Pki,
        rcgen::{self, ExtendedKeyUsagePurpose},
    },
    tls::{CredentialFiles, Tls, TlsMode},
};
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::io::duplex;
use tokio_rustls::TlsConnector;

use crate::{
    anybody::anybody,
    log::Log,
    support::{load, shake},
};

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
