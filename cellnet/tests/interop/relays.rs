//! Relays of one kind between cells of the other.

use cellnet_core::{
    cell::{Cell, HandlerError, Request, Stage},
    message::{Message, Payload, ReturnCode},
    wire::{Value, keys::cn},
};
use serde_json::json;

use crate::{
    behaviour::{behave, talk, they_are_told},
    payload::{object, to_json},
    process::Process,
    support::{
        ask, code, dialling, end, fqcn, linked, listening, no_foreign_origins, python_listening, relaying,
        url_of,
    },
};

/// A channel that does not stream.
const PLAIN: &str = "task";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_of_ours_between_cells_of_the_reference() {
    let (mut root, url) = python_listening("root_cell", &[]).await;
    let relay = relaying("relay-1", &url).await;
    let (child, parent) = ("relay-1.site-1", url_of(&relay));
    let args = ["--parent", &parent, "--fqcn", child, "--serve", PLAIN, "--serve", "echo"];
    let mut site = Process::python("client_cell", &args);
    site.ready().await;
    linked(&relay, child).await;
    let ours = dialling("relay-1.site-2", &parent).await;
    behave(&ours, PLAIN);
    talk(&ours, "server", PLAIN).await;

    relay.add_filter(Stage::Incoming, PLAIN, "forbidden", |_| {
        Err(Message::failure(ReturnCode::UNAUTHENTICATED, "not through here"))
    });
    for (asked, target) in [("server", child), (child, "server")] {
        for (topic, expected) in [("describe", "ok"), ("later", "ok"), ("unknown", "invalid_request")] {
            let order = json!({"target": target, "channel": PLAIN, "topic": topic, "payload": "hi"});
            let account = they_are_told(&relay, asked, PLAIN, order).await;
            assert_eq!(account["return_code"], expected, "{topic} from {asked}: {account}");
        }
        let order = json!({"target": target, "channel": PLAIN, "topic": "headers"});
        let account = they_are_told(&relay, asked, PLAIN, order).await;
        let hops: Vec<_> = route_of(&account["payload"]);
        assert_eq!(hops[..2], [asked, "relay-1"], "{account}");
        let order = json!({"target": target, "channel": PLAIN, "topic": "forbidden"});
        let account = they_are_told(&relay, asked, PLAIN, order).await;
        assert_eq!(account["return_code"], "unauthenticated", "{account}");
    }
    for target in ["relay-1.nobody", "nobody"] {
        let order = json!({"target": target, "channel": PLAIN, "topic": "echo"});
        let account = they_are_told(&relay, child, PLAIN, order).await;
        assert_eq!(account["return_code"], "comm_error", "{target}: {account}");
    }
    no_foreign_origins([&relay, &ours]);
    assert!(site.stop().await.success());
    assert!(root.stop().await.success());
}

fn route_of(headers: &serde_json::Value) -> Vec<&str> {
    let route = headers[cn::ROUTE].as_array().expect("a route");
    route.iter().map(|hop| hop[0].as_str().expect("a name")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_of_the_reference_between_cells_of_ours() {
    let server = listening("server").await;
    let (_relay, url) =
        python_listening("relay_cell", &["--root", &url_of(&server), "--drop", "task:dropped"]).await;
    linked(&server, "relay-1").await;
    let site = dialling("relay-1.site-1", &url).await;
    for (asking, answering) in [(&site, &server), (&server, &site)] {
        behave(answering, PLAIN);
        outcomes_cross(asking, answering).await;
        headers_cross(asking, answering).await;
    }
    let lost = ask(&server, "relay-1.nobody", PLAIN, "echo", Payload::None).await;
    assert_eq!(code(&lost), "comm_error");
    no_foreign_origins([&site, &server]);
    end(&site).await;
    end(&server).await;
}

async fn outcomes_cross(asking: &Cell, answering: &Cell) {
    let target = answering.name().as_str();
    for (topic, expected) in [
        ("echo", "ok"),
        ("recode", "ok"),
        ("later", "ok"),
        ("fail", "process_exception"),
        ("busy", "service_unavailable"),
        ("nobody registered this", "process_exception"),
    ] {
        let sent = object(topic.into());
        let reply = ask(asking, target, PLAIN, topic, sent.clone()).await;
        assert_eq!(code(&reply), expected, "{topic} of {target}");
        if expected == "ok" {
            assert_eq!(reply.payload, sent, "{topic} of {target}");
        }
    }
}

/// Headers that the relay does not know come through, and it notes that it was there.
async fn headers_cross(asking: &Cell, answering: &Cell) {
    answering.handle(PLAIN, "headers", |request: Request| async move {
        let headers = request.message.headers;
        let route = headers.get(cn::ROUTE);
        let route = route.as_ref().and_then(Value::as_array).unwrap_or_default();
        let names: Vec<_> = route
            .iter()
            .filter_map(|hop| hop.as_array()?.first()?.as_str().map(|name| name.into()))
            .collect::<Vec<cellnet_core::fobs::Object>>();
        let own = headers.get("x-own").unwrap_or(Value::Nil);
        Ok::<_, HandlerError>(Message::new(object(names.into())).with_header("x-own", own))
    });
    let own = Value::Map(vec![(Value::text("k"), Value::Array(vec![Value::Nil, Value::F64(0.5)]))]);
    let message = Message::empty().with_header("x-own", own.clone());
    let target = fqcn(answering.name().as_str());
    let reply = asking.request(&target, PLAIN, "headers", message).await.expect("an answer");
    assert_eq!(reply.headers.get("x-own"), Some(own));
    let me = asking.name().as_str();
    assert_eq!(to_json(&reply.payload), json!([me, "relay-1", target.as_str()]));
}
