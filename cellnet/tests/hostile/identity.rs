//! Certificates that do not do: refused at both ends, and both say why.

use std::path::Path;

use cellnet::{
    Cell,
    tls::{CredentialFiles, Tls, TlsMode},
};
use cellnet_core::testkit::pki::Pki;

use crate::{
    bystander::Bystander,
    eventually,
    victim::{Victim, load},
};

by_scheme! {
    [stcp wss quic]
    [
        evil_is_not_site_1
        a_client_of_another_authority_is_refused
        an_expired_client_is_refused
        a_client_without_a_certificate_is_refused
        a_server_of_another_authority_is_refused
        an_expired_server_is_refused
        a_server_with_the_certificate_of_another_host_is_refused
    ]
}

async fn evil_is_not_site_1(scheme: &str) {
    let victim = Victim::listening(scheme).await;
    let real = Bystander::start(&victim, "site-1").await;
    let evil = load(&CredentialFiles::in_dir(victim.pki().kit("evil")));
    let evil = victim.dialler("site-1").tls(evil).start().await.unwrap();
    victim.logs("a certificate for 'evil' does not allow the name 'site-1'").await;
    told_why(&evil, "closed").await;
    real.stays_unharmed().await;
}

async fn a_client_of_another_authority_is_refused(scheme: &str) {
    let other = Pki::new();
    refuses_client(scheme, "UnknownIssuer", "UnknownCA", |pki| {
        let mut files = CredentialFiles::in_dir(pki.kit("site-1"));
        show(&mut files, &other.kit("site-1"));
        load(&files)
    })
    .await;
}

async fn an_expired_client_is_refused(scheme: &str) {
    refuses_client(scheme, "expired", "CertificateExpired", |pki| {
        load(&CredentialFiles::in_dir(pki.expired_kit("site-1")))
    })
    .await;
}

async fn a_client_without_a_certificate_is_refused(scheme: &str) {
    refuses_client(scheme, "peer sent no certificates", "CertificateRequired", |pki| {
        load(&CredentialFiles::in_dir(pki.kit("site-1"))).with_mode(TlsMode::Tls)
    })
    .await;
}

async fn a_server_of_another_authority_is_refused(scheme: &str) {
    let other = Pki::new();
    refuses_server(scheme, Pki::new(), &other.kit("server"), "UnknownIssuer", "UnknownCA").await;
}

async fn an_expired_server_is_refused(scheme: &str) {
    let pki = Pki::new();
    let kit = pki.expired_kit("server");
    refuses_server(scheme, pki, &kit, "expired", "CertificateExpired").await;
}

async fn a_server_with_the_certificate_of_another_host_is_refused(scheme: &str) {
    let pki = Pki::new();
    let kit = pki.kit_for("server", &["server.example.org"]);
    refuses_server(scheme, pki, &kit, "not valid for name", "BadCertificate").await;
}

/// The server logs the reason and the client, which is not let in, is told, while a good one goes on.
async fn refuses_client(scheme: &str, reason: &str, alert: &str, credentials: impl FnOnce(&Pki) -> Tls) {
    let victim = Victim::listening(scheme).await;
    let good = Bystander::start(&victim, "site-2").await;
    let bad = victim.dialler("site-1").tls(credentials(victim.pki())).start().await.unwrap();
    victim.logs(reason).await;
    told_why(&bad, far_end(scheme, reason, alert)).await;
    good.stays_unharmed().await;
}

/// The client has a reason not to go on, and the server is told.
async fn refuses_server(scheme: &str, trusted: Pki, kit: &Path, reason: &str, alert: &str) {
    let victim = Victim::with(scheme, trusted, kit).await;
    let good = load(&CredentialFiles::in_dir(victim.pki().kit("site-1")));
    let good = victim.dialler("site-1").tls(good).start().await.unwrap();
    told_why(&good, reason).await;
    victim.logs(far_end(scheme, reason, alert)).await;
}

/// What the other end gets to know: the alert of TLS, and from QUIC the reason in words.
fn far_end<'a>(scheme: &str, reason: &'a str, alert: &'a str) -> &'a str {
    if scheme == "quic" { reason } else { alert }
}

/// A cell says why it has no link.
async fn told_why(cell: &Cell, why: &str) {
    let said = || cell.dial_errors().iter().any(|error| error.to_string().contains(why));
    let all = || format!("{:?}", cell.dial_errors());
    eventually(&format!("'{why}' for want of a link"), said, all).await;
    assert!(cell.neighbours().is_empty());
}

/// Shows what belongs to somebody else.
fn show(files: &mut CredentialFiles, other: &Path) {
    let other = CredentialFiles::in_dir(other);
    (files.client_cert, files.client_key) = (other.client_cert, other.client_key);
}
