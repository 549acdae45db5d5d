//! The same conversations over every transport that both kinds speak, as server, client, relay and pipe.

use cellnet_core::{cell::Cell, message::Payload};
use cellnet_pipe::Mode;
use serde_json::json;

use crate::{
    behaviour::{behave, talk, they_are_told},
    leg::{HTTP, HTTP_MTLS, HTTPS, HTTPS_TLS, Leg, STCP, STCP_TLS},
    payload::payload,
    pipes::converse_all,
    side::{Attach, Case},
    support::{ask, end, linked, lost, no_foreign_origins, url_of},
};

/// A channel that does not stream, and one that does.
const PLAIN: &str = "task";
const STREAM: &str = "echo";
const MIB: usize = 1 << 20;

macro_rules! over {
    ($($name:ident: $leg:ident => $($test:ident)*;)*) => {$(
        mod $name {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test(super::$leg).await;
                }
            )*
        }
    )*};
}

over! {
    http: HTTP => a_server_of_ours a_root_of_the_reference a_relay_of_ours a_relay_of_the_reference
        pipes_through_either_root clients_come_back;
    http_with_a_kit: HTTP_MTLS => a_server_of_ours a_root_of_the_reference;
    https_mtls: HTTPS => a_server_of_ours a_root_of_the_reference a_relay_of_ours a_relay_of_the_reference
        pipes_through_either_root clients_come_back;
    https_tls: HTTPS_TLS => a_server_of_ours a_root_of_the_reference;
    stcp_mtls: STCP => a_server_of_ours a_root_of_the_reference a_relay_of_ours a_relay_of_the_reference;
    stcp_tls: STCP_TLS => a_server_of_ours a_root_of_the_reference a_relay_of_ours a_relay_of_the_reference;
}

/// With a client of the reference.
async fn a_server_of_ours(leg: Leg) {
    let server = leg.listening("server").await;
    let args = ["--root", &url_of(&server), "--serve", PLAIN, "--serve", STREAM];
    let mut site = leg.python("client_cell", "site-1", &args);
    site.ready().await;
    linked(&server, "site-1").await;
    everything_between(&server, "site-1").await;
    no_foreign_origins([&server]);
    assert!(site.stop().await.success());
}

/// With a client of ours.
async fn a_root_of_the_reference(leg: Leg) {
    let (mut root, url) = leg.root(&[]).await;
    let site = leg.dialling("site-1", &url).await;
    everything_between(&site, "server").await;
    no_foreign_origins([&site]);
    end(&site).await;
    assert!(root.stop().await.success());
}

/// Between a root and a site of the reference, with a site of ours next to that.
async fn a_relay_of_ours(leg: Leg) {
    let (_root, url) = leg.root(&[]).await;
    let relay = leg.relaying("relay-1", &url).await;
    let (child, parent) = ("relay-1.site-1", url_of(&relay));
    let args = ["--parent", &parent, "--fqcn", child, "--serve", PLAIN, "--serve", STREAM];
    let mut site = leg.python("client_cell", child, &args);
    site.ready().await;
    linked(&relay, child).await;
    let ours = leg.dialling("relay-1.site-2", &parent).await;
    everything_between(&ours, "server").await;
    big_ones(&ours, child).await;
    for (asked, target) in [("server", child), (child, "server")] {
        for channel in [PLAIN, STREAM] {
            let order = json!({"target": target, "channel": channel, "topic": "describe", "payload": "hi"});
            let account = they_are_told(&ours, asked, channel, order).await;
            assert_eq!((&account["return_code"], &account["payload"]["size"]), (&json!("ok"), &json!(2)));
        }
    }
    no_foreign_origins([&relay, &ours]);
}

/// Between a server and a site of ours.
async fn a_relay_of_the_reference(leg: Leg) {
    let server = leg.listening("server").await;
    let (_relay, url) = leg.relay(&["--root", &url_of(&server)]).await;
    linked(&server, "relay-1").await;
    let site = leg.dialling("relay-1.site-1", &url).await;
    for (asking, answering) in [(&site, &server), (&server, &site)] {
        for channel in [PLAIN, STREAM] {
            behave(answering, channel);
            let sent = payload("dict", 1000, 1);
            let reply = ask(asking, answering.name().as_str(), channel, "recode", sent.clone()).await;
            assert!(reply.payload == sent, "'{channel}' from {}", asking.name());
        }
        big_ones(asking, answering.name().as_str()).await;
    }
    no_foreign_origins([&server, &site]);
    end(&site).await;
    end(&server).await;
}

/// Both modes of either kind, each asking once, with and without a handler.
async fn pipes_through_either_root(leg: Leg) {
    let server = leg.listening("server").await;
    let (_root, url) = leg.root(&[]).await;
    let (ours, theirs) = (Attach::by(leg, &url_of(&server)), Attach::by(leg, &url));
    let case = |ours, we_ask, handled| Case { ours, we_ask, handled };
    converse_all([
        (ours.clone(), case(Mode::Active, true, true)),
        (ours, case(Mode::Passive, false, false)),
        (theirs.clone(), case(Mode::Passive, true, true)),
        (theirs, case(Mode::Active, false, false)),
    ])
    .await;
    no_foreign_origins([&server]);
}

/// To a server that ended and one that was killed, each started again where it was.
async fn clients_come_back(leg: Leg) {
    let server = leg.listening("server").await;
    let url = url_of(&server);
    let mut theirs = leg.python("client_cell", "site-1", &["--root", &url, "--serve", PLAIN]);
    theirs.ready().await;
    end(&server).await;
    let server = leg.builder("server").listen(leg.url(&url)).start().await.expect("the port is free again");
    linked(&server, "site-1").await;
    assert!(ask(&server, "site-1", PLAIN, "echo", "back").await.payload == Payload::from("back"));

    let (mut root, url) = leg.root(&["--events"]).await;
    let ours = leg.dialling("site-1", &url).await;
    behave(&ours, PLAIN);
    let mut events = ours.events();
    root.kill();
    lost(&mut events, "server").await;
    let (_root, same) = leg.root(&["--url", &url]).await;
    assert_eq!(same, url);
    linked(&ours, "server").await;
    assert!(ask(&ours, "server", PLAIN, "echo", "back").await.payload == Payload::from("back"));
    no_foreign_origins([&server, &ours]);
}

/// Plain and streamed, small and big, asked by each side of the other.
async fn everything_between(cell: &Cell, peer: &str) {
    for channel in [PLAIN, STREAM] {
        behave(cell, channel);
        talk(cell, peer, channel).await;
    }
    big_ones(cell, peer).await;
    let text = "x".repeat(5 * MIB);
    let order = json!({"channel": STREAM, "topic": "describe", "payload": text});
    let account = they_are_told(cell, peer, STREAM, order).await;
    assert_eq!((&account["return_code"], &account["payload"]["size"]), (&json!("ok"), &json!(5 * MIB)));
}

/// Blobs there and back, several at once.
async fn big_ones(cell: &Cell, peer: &str) {
    let echo = async |size| {
        let sent = payload("bytes", size, size);
        let echo = ask(cell, peer, STREAM, "echo", sent.clone()).await;
        assert!(echo.payload == sent, "{size} bytes to {peer} came back different");
    };
    tokio::join!(echo(MIB + 1), echo(5 * MIB));
}
