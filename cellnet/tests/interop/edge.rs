//! The reference's http client takes no message above 4 MiB, and nothing may break where one is wanted.

use std::time::Duration;

use cellnet_core::{
    cell::{Cell, CellEvent, Events, HandlerError, Request, RequestError},
    message::Message,
};
use serde_json::{Value as Json, json};

use crate::{
    behaviour::{behave, they_are_told},
    leg::{HTTP, TCP},
    payload::{decoded, describe, from_json, payload, to_json},
    support::{ask, builder, code, connected, fqcn, linked, no_foreign_origins, url_of},
};

/// A channel that does not stream, and one that does.
const PLAIN: &str = "task";
const STREAM: &str = "echo";

const MIB: usize = 1 << 20;
/// What the reference takes with its usual headers, and what is too much.
const BELOW: usize = 4_186_112;
const ABOVE: usize = 4_198_400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_the_reference_is_sent_nothing_that_would_break_its_connection() {
    let server = HTTP.listening("server").await;
    behave(&server, STREAM);
    sized(&server);
    let args = ["--root", &url_of(&server), "--serve", PLAIN, "--serve", STREAM];
    let mut site = HTTP.python("client_cell", "site-1", &args);
    site.ready().await;
    linked(&server, "site-1").await;
    let mut events = server.events();
    for (size, expected) in [(ABOVE, "msg_too_big"), (BELOW, "ok")] {
        let order = json!({"channel": PLAIN, "topic": "sized", "payload": size});
        assert_eq!(code_told(&server, "site-1", order).await, expected, "a reply of {size} bytes");

        let sent = payload("bytes", size, 1);
        let asked = server.request(&fqcn("site-1"), PLAIN, "describe", Message::new(sent.clone())).await;
        match (expected, asked) {
            ("ok", Ok(reply)) => assert_eq!(to_json(&reply.payload), describe(&sent)),
            ("msg_too_big", Err(RequestError::TooBig { .. })) => {}
            (_, other) => panic!("a request of {size} bytes: {other:?}"),
        }

        let order = json!({"channel": STREAM, "topic": "describe", "payload": "x".repeat(size)});
        let account = they_are_told(&server, "site-1", STREAM, order).await;
        assert_eq!((&account["return_code"], &account["payload"]["size"]), (&json!("ok"), &json!(size)));
        let echo = ask(&server, "site-1", STREAM, "echo", sent.clone()).await;
        assert!(echo.payload == sent, "{size} streamed bytes");
    }
    nothing_was_lost(&server, &mut events).await;
}

/// Where it cannot split a message, a relay answers for the site.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_of_ours_answers_for_a_client_of_the_reference_that_cannot_take_a_message() {
    let (_root, url) = TCP.root(&[]).await;
    let relay = builder("relay-1").listen(HTTP.any_port()).dial(TCP.url(&url));
    let relay = connected(relay).await;
    let child = "relay-1.site-1";
    let args = ["--parent", &url_of(&relay), "--fqcn", child, "--serve", PLAIN, "--serve", STREAM];
    let mut site = HTTP.python("client_cell", child, &args);
    site.ready().await;
    linked(&relay, child).await;
    let mut events = relay.events();
    let other = TCP.dialling("site-2", &url).await;
    for (size, expected) in [(ABOVE, "msg_too_big"), (BELOW, "ok")] {
        let reply = ask(&other, child, PLAIN, "describe", payload("bytes", size, 1)).await;
        assert_eq!(code(&reply), expected, "a request of {size} bytes of ours through the root");
        let order =
            json!({"target": child, "channel": PLAIN, "topic": "describe", "payload": "x".repeat(size)});
        let account = they_are_told(&other, "server", PLAIN, order).await;
        assert_eq!(account["return_code"], expected, "a request of {size} bytes of the root: {account}");
        let sent = payload("bytes", size, 1);
        let echo = ask(&other, child, STREAM, "echo", sent.clone()).await;
        assert!(echo.payload == sent, "{size} streamed bytes");
    }
    no_foreign_origins([&other]);
    nothing_was_lost(&relay, &mut events).await;
}

/// Its server takes more, and so do we.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_ours_and_a_server_of_the_reference_have_no_such_limit() {
    let (_root, url) = HTTP.root(&[]).await;
    let site = HTTP.dialling("site-1", &url).await;
    sized(&site);
    let mut events = site.events();
    for size in [ABOVE, 40 * MIB] {
        let sent = payload("bytes", size, 1);
        let echo = ask(&site, "server", PLAIN, "echo", sent.clone()).await;
        assert!(echo.payload == sent, "{size} bytes");
    }
    let order = json!({"channel": PLAIN, "topic": "sized", "payload": 9 * MIB});
    assert_eq!(code_told(&site, "server", order).await, "ok");
    nothing_was_lost(&site, &mut events).await;
}

/// Answers with so many bytes of text as the request asks for.
fn sized(cell: &Cell) {
    cell.handle(PLAIN, "sized", |request: Request| async move {
        let size = to_json(&request.message.payload).as_u64().expect("a number");
        let size = usize::try_from(size).expect("a size");
        Ok::<_, HandlerError>(Message::new(payload("bytes", size, 1)))
    });
}

/// The outcome of a call that `peer` is told to make.
async fn code_told(cell: &Cell, peer: &str, order: Json) -> String {
    let account = decoded(&ask(cell, peer, PLAIN, "call_me", from_json(&order)).await.payload);
    account.get("return_code").and_then(|code| code.as_str()).unwrap_or("no code").to_owned()
}

/// Every link has lived all the time.
async fn nothing_was_lost(cell: &Cell, events: &mut Events) {
    while let Ok(event) = tokio::time::timeout(Duration::ZERO, events.next()).await {
        assert!(matches!(event, Some(CellEvent::Connected { .. })), "{event:?}");
    }
    no_foreign_origins([cell]);
}
