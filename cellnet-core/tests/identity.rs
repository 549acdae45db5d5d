//! Who may have which name by its certificate.

#[path = "common/badge.rs"]
mod badge;
#[path = "common/log.rs"]
mod log;

use std::time::Duration;

use badge::{Net, url};
use cellnet_core::{
    cell::Cell,
    identity::{Claim, CommonNamePolicy, IdentityPolicy},
    message::Message,
    testkit::sim::{echo, fqcn},
    tls::TlsMode,
};
use log::Log;

impl Net {
    async fn listening(&self, name: &str, host: &str) -> Cell {
        self.builder(name, host).listen(url(host)).start().await.unwrap()
    }

    /// A cell that dials a host; there may be no link.
    async fn dialling(&self, name: &str, host: &str, to: &str) -> Cell {
        self.builder(name, host).dial(url(to)).start().await.unwrap()
    }
}

/// Whether there is a link, once it is clear.
async fn is_let_in(cell: &Cell) -> bool {
    tokio::select! {
        () = cell.connected() => true,
        () = async {
            while cell.dial_errors().is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        } => false,
    }
}

/// For what must come.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn evil_is_not_let_in_as_site_1_and_disturbs_nobody() {
    let net = Net::new(TlsMode::Mtls, &[("hub", "server"), ("good", "site-1"), ("bad", "evil")]);
    let log = Log::begin();
    let server = net.listening("server", "hub").await;
    server.handle("task", "*", echo);
    // Whether the name is free or taken makes no difference.
    let early = net.dialling("site-1", "bad", "hub").await;
    assert!(!is_let_in(&early).await);
    assert!(server.neighbours().is_empty());
    early.cancel();
    let site = net.dialling("site-1", "good", "hub").await;
    assert!(is_let_in(&site).await);
    let evil = net.dialling("site-1", "bad", "hub").await;
    assert!(!is_let_in(&evil).await);
    assert_eq!(log.count("a certificate for 'evil' does not allow the name 'site-1'"), 2, "{}", log.text());
    assert_eq!(server.counters().failed_handshakes.get(), 2);
    assert_eq!(server.neighbours(), [fqcn("site-1")]);
    let reply = site.request(server.name(), "task", "t", Message::new("x")).await.unwrap();
    assert!(reply.is_ok() && site.dial_errors().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_proved_name_is_not_put_out_by_another_certificate_while_its_holder_is_mute() {
    let net = Net::new(TlsMode::Mtls, &[("hub", "server"), ("good", "site-1"), ("bad", "evil")]);
    let log = Log::begin();
    let server = net.builder("server", "hub").identity(CommonNamePolicy::new().lenient()).listen(url("hub"));
    let server = server.start().await.unwrap();
    server.handle("task", "*", echo);
    let site = net.dialling("site-1", "good", "hub").await;
    assert!(is_let_in(&site).await);
    // For longer than the holder of a name has to answer.
    net.sim.net.freeze("good");
    let evil = net.dialling("site-1", "bad", "hub").await;
    assert!(!is_let_in(&evil).await);
    tokio::time::sleep(net.sim.config.link.probe * 3).await;
    net.sim.net.thaw("good");
    assert!(log.count("the name 'site-1' is taken by another live process") > 0, "{}", log.text());
    let reply = site.request(server.name(), "task", "t", Message::new("x")).await.unwrap();
    assert!(reply.is_ok() && site.dial_errors().is_empty(), "{:?}", site.dial_errors());
}

#[tokio::test(start_paused = true)]
async fn neighbours_are_limited_in_number() {
    let net = Net::new(TlsMode::Clear, &[]);
    let log = Log::begin();
    let server =
        net.builder("server", "hub").configure(|config| config.link.max_links = 1).listen(url("hub"));
    let server = server.start().await.unwrap();
    let first = net.dialling("site-1", "first", "hub").await;
    assert!(is_let_in(&first).await);
    let second = net.dialling("site-2", "second", "hub").await;
    assert!(!is_let_in(&second).await);
    assert_eq!(server.neighbours(), [fqcn("site-1")]);
    assert!(log.count("this cell has 1 neighbours already") > 0, "{}", log.text());
}

#[tokio::test(start_paused = true)]
async fn a_certificate_lets_in_its_own_name_and_those_below_and_its_pipes() {
    for (name, cn, allowed) in [
        ("site-1", Some("site-1"), true),
        ("site-1.job-7", Some("site-1"), true),
        ("server.site-1", Some("site-1"), true),
        ("site-1_7_active", Some("site-1"), true),
        ("site-1_7_passive", Some("site-1"), true),
        ("site-1_7", Some("site-1"), false),
        ("site-10", Some("site-1"), false),
        ("relay-9.site-1", Some("site-1"), false),
        ("site-1", None, false),
        ("_cli_1", Some("site-1"), false),
        ("_admin_1", Some("site-1"), false),
        ("_admin_1", Some("_admin_1"), false),
        ("_admin_1", Some("boss@example.org"), true),
    ] {
        let mut names = vec![("hub", "server")];
        names.extend(cn.map(|cn| ("it", cn)));
        let net = Net::new(TlsMode::Mtls, &names);
        let policy = CommonNamePolicy::new().with_admins(["boss@example.org"]);
        let server = net.builder("server", "hub").identity(policy).listen(url("hub")).start().await.unwrap();
        let peer = net.dialling(name, "it", "hub").await;
        assert_eq!(is_let_in(&peer).await, allowed, "'{name}' by {cn:?}");
        assert_eq!(server.counters().failed_handshakes.get() == 0, allowed, "'{name}' by {cn:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_behind_a_relay_needs_that_relay() {
    let names = [("hub", "server"), ("r", "relay-1"), ("s", "site-1")];
    let net = Net::new(TlsMode::Mtls, &names);
    let server = net.listening("server", "hub").await;
    let alone = net.dialling("relay-1.site-1", "s", "hub").await;
    assert!(!is_let_in(&alone).await);
    alone.cancel();
    let relay = net.builder("relay-1", "r").listen(url("r")).dial(url("hub")).start().await.unwrap();
    assert!(is_let_in(&relay).await);
    for to in ["hub", "r"] {
        let site = net.dialling("relay-1.site-1", "s", to).await;
        assert!(is_let_in(&site).await, "{to}");
        site.shutdown(PATIENCE).await;
    }
    assert_eq!(server.counters().failed_handshakes.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_server_may_have_any_certificate_for_its_host_where_it_is_dialled_and_nowhere_else() {
    let names = [("hub", "fl.example.org"), ("s", "site-1"), ("r", "relay-1"), ("bad", "evil")];
    let net = Net::new(TlsMode::Mtls, &names);
    let _server = net.listening("server", "hub").await;
    assert!(is_let_in(&net.dialling("site-1", "s", "hub").await).await);
    // Who listens must own any other name.
    let _false_relay = net.listening("relay-1", "bad").await;
    let log = Log::begin();
    assert!(!is_let_in(&net.dialling("relay-1.site-1", "s", "bad").await).await);
    assert!(
        log.text().contains("a certificate for 'evil' does not allow the name 'relay-1'"),
        "{}",
        log.text()
    );
    let _relay = net.listening("relay-1", "r").await;
    assert!(is_let_in(&net.dialling("relay-1.site-1", "s", "r").await).await);
    // Who connects is not taken for the server.
    for host in ["bad", "hub"] {
        assert!(!is_let_in(&net.dialling("server", host, "r").await).await, "{host}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_lenient_rule_lets_everybody_in_and_warns() {
    let net = Net::new(TlsMode::Mtls, &[("hub", "server"), ("bad", "evil")]);
    let log = Log::begin();
    let policy = CommonNamePolicy::new().lenient();
    let _server = net.builder("server", "hub").identity(policy).listen(url("hub")).start().await.unwrap();
    assert!(is_let_in(&net.dialling("site-1", "bad", "hub").await).await);
    let warning = "a certificate for 'evil' does not allow the name 'site-1'; allowed all the same";
    assert!(log.text().contains(warning), "{}", log.text());
}

#[tokio::test(start_paused = true)]
async fn without_a_certificate_any_name_is_taken_but_none_above_a_cell_with_credentials() {
    use cellnet_core::testkit::pki::Pki;
    for mode in [TlsMode::Tls, TlsMode::Clear] {
        let net = Net::new(mode, &[("r", "relay-1")]);
        let tls = Pki::new().tls("relay-1", TlsMode::Tls);
        let relay = net.builder("relay-1.relay-2", "r").tls(tls).listen(url("r"));
        let relay = relay.start().await.unwrap();
        for (name, allowed) in
            [("site-1", true), ("relay-1.relay-2.site-2", true), ("server", false), ("relay-1", false)]
        {
            let peer = net.dialling(name, "it", "r").await;
            assert_eq!(is_let_in(&peer).await, allowed, "{mode} {name}");
            assert_eq!(relay.neighbours().len(), usize::from(allowed), "{mode} {name}");
            peer.shutdown(PATIENCE).await;
        }
    }
    let clear = Net::new(TlsMode::Clear, &[]);
    let _relay = clear.listening("relay-1", "r").await;
    assert!(is_let_in(&clear.dialling("server", "it", "r").await).await);
}

/// Lets in whom it was told to.
#[derive(Debug)]
struct Only(&'static str);

impl IdentityPolicy for Only {
    fn check(&self, claim: &Claim<'_>) -> Result<(), String> {
        if claim.cn == self.0 { Ok(()) } else { Err(format!("only '{}' may come", self.0)) }
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_of_ones_own_decides_alone() {
    let net = Net::new(TlsMode::Mtls, &[("hub", "server"), ("a", "friend"), ("b", "site-2")]);
    let log = Log::begin();
    let _server =
        net.builder("server", "hub").identity(Only("friend")).listen(url("hub")).start().await.unwrap();
    assert!(is_let_in(&net.dialling("site-1", "a", "hub").await).await);
    assert!(!is_let_in(&net.dialling("site-2", "b", "hub").await).await);
    assert!(log.text().contains("only 'friend' may come"), "{}", log.text());
}
