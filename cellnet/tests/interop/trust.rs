//! Who gets past TLS with cells of the reference, and who does not.

use std::path::PathBuf;

use cellnet_core::{cell::Cell, testkit::pki::Pki, tls::Tls};

use crate::{
    behaviour::behave,
    kits::{SERVER, foreign_kit, kit, kit_of, load, tls},
    leg::{HTTPS, HTTPS_TLS, Leg, STCP, STCP_TLS, ready},
    payload::payload,
    process::Process,
    support::{ask, builder, connected, in_time, linked, url_of},
};

/// A channel that does not stream.
const PLAIN: &str = "task";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tcp_nobody_without_a_certificate_gets_past_mtls() {
    without_a_certificate(STCP, STCP_TLS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http_nobody_without_a_certificate_gets_past_mtls() {
    without_a_certificate(HTTPS, HTTPS_TLS).await;
}

async fn without_a_certificate(mtls: Leg, tls: Leg) {
    let keeper = Pki::new();
    let bare = kit_of(&[("rootCA.pem", kit("site-1").join("rootCA.pem"))], &keeper);

    let server = mtls.listening("server").await;
    let url = url_of(&server);
    let _theirs = mtls.python_with("client_cell", &bare, &["--root", &url, "--fqcn", "site-1"]);
    refusals(&server, 1).await;
    let mut good =
        mtls.python("client_cell", "site-2", &["--root", &url, "--fqcn", "site-2", "--serve", PLAIN]);
    good.ready().await;
    linked(&server, "site-2").await;
    assert_eq!(server.neighbours(), ["site-2".parse().expect("a name")]);

    let (_root, url) = mtls.root(&[]).await;
    let ours = builder("site-1").tls(load(&bare)).dial(tls.url(&url)).start().await.expect("a cell");
    let why = dial_error(&ours).await;
    assert!(ours.neighbours().is_empty(), "{why}");
    let ours = builder("site-1").tls(load(&bare)).dial(mtls.url(&url)).start().await.expect("a cell");
    let why = dial_error(&ours).await;
    assert!(why.contains("client.crt"), "{why}");
    works(&mtls.dialling("site-2", &url).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_the_mode_tls_a_custom_authority_vouches_for_listeners() {
    let keeper = Pki::new();
    let (listener, own) = (foreign_kit(SERVER), kit("site-1").join("rootCA.pem"));
    let plain = kit_of(&[("rootCA.pem", own.clone())], &keeper);
    let custom = [("rootCA.pem", own), ("customRootCA.pem", listener.join("rootCA.pem"))];
    let custom = kit_of(&custom, &keeper);

    let (_root, url) = root(STCP_TLS, &listener, "stcp://127.0.0.1:0").await;
    let dial = |kit: &PathBuf| builder("site-1").tls(load(kit)).dial(STCP_TLS.url(&url));
    let stranger = dial(&plain).start().await.expect("a cell");
    let why = dial_error(&stranger).await;
    assert!(why.contains("UnknownIssuer"), "{why}");
    works(&connected(dial(&custom)).await).await;

    let server = builder("server").tls(load(&listener)).listen(STCP_TLS.any_port());
    let server = server.start().await.expect("a port of loopback");
    let client = |kit: &PathBuf, name: &str| {
        STCP_TLS.python_with(
            "client_cell",
            kit,
            &["--root", &url_of(&server), "--fqcn", name, "--serve", PLAIN],
        )
    };
    let _stranger = client(&plain, "site-1");
    refusals(&server, 1).await;
    let mut good = client(&custom, "site-2");
    good.ready().await;
    linked(&server, "site-2").await;
    assert_eq!(server.neighbours(), ["site-2".parse().expect("a name")]);
}

/// The server's certificate in the kit is for `localhost` and `127.0.0.1`, whatever its common name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_host_of_the_url_must_be_in_the_certificate_unless_another_name_is_pinned() {
    let (_root, url) = root(STCP, &kit(SERVER), "stcp://127.0.0.2:0").await;
    let dial = |tls: Tls| builder("site-1").tls(tls).dial(STCP.url(&url));
    for wrong in [tls("site-1"), tls("site-1").with_server_name("another.example.org")] {
        let refused = dial(wrong).start().await.expect("a cell");
        let why = dial_error(&refused).await;
        assert!(why.contains("not valid for name") || why.contains("NotValidForName"), "{why}");
    }
    for right in [tls("site-1").with_server_name(SERVER), tls("site-1").with_any_server_name()] {
        works(&connected(dial(right)).await).await;
    }
}

/// The root of the reference, with any kit.
async fn root(leg: Leg, kit: &std::path::Path, url: &str) -> (Process, String) {
    ready(leg.python_with("root_cell", kit, &["--url", url])).await
}

/// Both sides can ask.
async fn works(site: &Cell) {
    behave(site, PLAIN);
    let sent = payload("dict", 1000, 1);
    assert!(ask(site, "server", PLAIN, "echo", sent.clone()).await.payload == sent);
}

/// Waits until the listeners of a cell have refused so many.
pub(crate) async fn refusals(cell: &Cell, count: u64) {
    in_time("a refusal", async {
        while cell.counters().failed_handshakes.get() < count {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// Waits until a cell that dials one URL knows why there is no link.
pub(crate) async fn dial_error(cell: &Cell) -> String {
    in_time("an error", async {
        loop {
            if let Some(error) = cell.dial_errors().pop() {
                return error.to_string();
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await
}
