//! Files that change while they are in use.

use std::{fs, sync::Arc};

use cellnet_core::{testkit::pki::Pki, tls::TlsMode, transport::ConnectionInfo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use crate::{
    log::Log,
    support::{load, shake},
};

use TlsMode::Mtls;

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
