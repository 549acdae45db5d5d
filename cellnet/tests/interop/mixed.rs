//! Networks in which every leg is another transport.

use serde_json::json;

use crate::{
    behaviour::{behave, talk, they_are_told},
    kits::{participant, tls},
    leg::{HTTP, HTTPS, TCP},
    payload::payload,
    support::{any_port, ask, builder, connected, linked, no_foreign_origins, parse},
};

/// A channel that does not stream, and one that does.
const PLAIN: &str = "task";
const STREAM: &str = "echo";

/// The reference's root on WebSocket, our relay on QUIC, TCP and WebSocket below it, and sites of both kinds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_crosses_websocket_quic_and_tcp() {
    let (_root, url) = HTTPS.root(&[]).await;
    let relay = HTTPS.builder("relay-1").dial(HTTPS.url(&url)).listen(any_port());
    let relay = relay.listen(parse("quic://127.0.0.1:0")).listen(HTTP.any_port());
    let relay = connected(relay).await;
    let listening = |scheme| {
        let url = relay.listening().iter().find(|url| url.scheme().as_str() == scheme);
        url.expect("one of the three").to_string()
    };
    let ours = builder("relay-1.site-1").tls(tls(participant("site-1"))).dial(parse(&listening("quic")));
    let ours = connected(ours).await;
    let [tcp, http] =
        [("tcp", TCP, "relay-1.site-2"), ("http", HTTP, "relay-1.site-3")].map(|(scheme, leg, name)| {
            let url = listening(scheme);
            let args = ["--parent", &url, "--fqcn", name, "--serve", PLAIN, "--serve", STREAM];
            leg.python("client_cell", name, &args)
        });
    let sites = ["relay-1.site-2", "relay-1.site-3"];
    let (mut tcp, mut http) = (tcp, http);
    tokio::join!(tcp.ready(), http.ready());
    for channel in [PLAIN, STREAM] {
        behave(&ours, channel);
        talk(&ours, "server", channel).await;
        for site in sites {
            linked(&relay, site).await;
            talk(&ours, site, channel).await;
        }
        let pairs = [("server", sites[0]), (sites[0], sites[1]), (sites[1], "server")];
        for (asked, target) in pairs.into_iter().chain(pairs.map(|(one, other)| (other, one))) {
            let order = json!({"target": target, "channel": channel, "topic": "describe", "payload": "hi"});
            let account = they_are_told(&ours, asked, channel, order).await;
            assert_eq!(account["return_code"], "ok", "{asked} asks {target} on '{channel}': {account}");
        }
    }
    for peer in ["server", sites[0], sites[1]] {
        let sent = payload("bytes", 9 << 20, 1);
        let echo = ask(&ours, peer, STREAM, "echo", sent.clone()).await;
        assert!(echo.payload == sent, "9 MiB to {peer} and back");
    }
    no_foreign_origins([&relay, &ours]);
}
