//! Cells of both kinds that are neighbours.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use cellnet_core::{
    cell::{Cell, RequestError, Stage},
    message::{Message, Payload, ReturnCode},
    wire::keys::cn,
};
use serde_json::json;

use crate::{
    behaviour::{behave, talk, they_are_told},
    payload::{from_json, object, to_json},
    process::Process,
    support::{
        PATIENCE, ask, code, dialling, end, fqcn, in_time, linked, listening, lost, no_foreign_origins,
        python_listening, url_of,
    },
};

/// A channel that does not stream.
const PLAIN: &str = "task";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_ours_and_clients_of_the_reference() {
    let server = listening("server").await;
    behave(&server, PLAIN);
    let sites = ["site-1", "site-2"];
    let mut processes = sites.map(|name| serving_client(&url_of(&server), name, &[]));
    for (process, name) in processes.iter_mut().zip(sites) {
        process.ready().await;
        linked(&server, name).await;
    }
    talk(&server, "site-1", PLAIN).await;
    plain_outcomes(&server, "site-1").await;
    one_site_asks_another_through(&server).await;
    many_are_asked_at_once(&server).await;
    no_foreign_origins([&server]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_the_reference_and_a_client_of_ours() {
    let (mut root, url) = python_listening("root_cell", &["--events"]).await;
    let site = dialling("site-1", &url).await;
    behave(&site, PLAIN);
    root.event(|event| event["what"] == "connected" && event["fqcn"] == "site-1").await;
    talk(&site, "server", PLAIN).await;
    plain_outcomes(&site, "server").await;
    our_sites_meet_at(&url, &site).await;
    no_foreign_origins([&site]);
    goodbyes_are_no_losses(&mut root, &url, site).await;
}

/// What only plain requests can have.
async fn plain_outcomes(cell: &Cell, peer: &str) {
    for (channel, topic, expected) in [
        (PLAIN, "fail", "process_exception"),
        (PLAIN, "svc", "service_unavailable"),
        (PLAIN, "badtype", "process_exception"),
        ("admin", "nobody registered this", "process_exception"),
    ] {
        assert_eq!(code(&ask(cell, peer, channel, topic, Payload::None).await), expected, "{topic}");
    }
    let text = object("deferred".into());
    let later = ask(cell, peer, PLAIN, "later", text.clone()).await;
    assert_eq!((code(&later).as_str(), &later.payload), ("ok", &text));

    let message = Message::empty().with_header("x-own", "kept");
    let headers = cell.request(&fqcn(peer), PLAIN, "headers", message).await.expect("an answer");
    let headers = to_json(&headers.payload);
    for (key, expected) in [
        ("x-own", json!("kept")),
        (cn::ORIGIN, json!(cell.name().as_str())),
        (cn::DESTINATION, json!(peer)),
        (cn::CHANNEL, json!(PLAIN)),
        (cn::TOPIC, json!("headers")),
        (cn::MSG_TYPE, json!("req")),
        (cn::REPLY_EXPECTED, json!(true)),
    ] {
        assert_eq!(headers[key], expected, "{key} in {headers}");
    }

    let before = to_json(&ask(cell, peer, PLAIN, "count", Payload::None).await.payload);
    cell.fire_and_forget(&fqcn(peer), PLAIN, "echo", Message::empty()).await.expect("a neighbour takes it");
    let after = to_json(&ask(cell, peer, PLAIN, "count", Payload::None).await.payload);
    assert_eq!(after.as_u64(), before.as_u64().map(|count| count + 2), "what was told was heard");
}

async fn one_site_asks_another_through(server: &Cell) {
    let order = json!({"target": "site-2", "channel": PLAIN, "topic": "describe", "payload": "hi"});
    let account = they_are_told(server, "site-1", PLAIN, order).await;
    assert_eq!((&account["return_code"], &account["payload"]["size"]), (&json!("ok"), &json!(2)));
    let nobody = json!({"target": "site-3", "channel": PLAIN, "topic": "echo"});
    let account = they_are_told(server, "site-1", PLAIN, nobody).await;
    assert_eq!(account["return_code"], "comm_error", "{account}");
}

async fn many_are_asked_at_once(server: &Cell) {
    let names = ["site-1", "site-2", "site-3"].map(fqcn);
    let message = Message::new(object("all".into()));
    let outcomes = server.broadcast(&names, PLAIN, "echo", message.clone(), PATIENCE).await;
    for (name, outcome) in &outcomes[..2] {
        assert_eq!(outcome.as_ref().expect("an answer").payload, message.payload, "{name}");
    }
    assert!(matches!(&outcomes[2].1, Err(RequestError::Unreachable(name)) if *name == names[2]));
    let different: Vec<_> =
        names[..2].iter().map(|name| (name.clone(), Message::new(object(name.as_str().into())))).collect();
    for (name, outcome) in server.multi_request(different, PLAIN, "echo", PATIENCE).await {
        assert_eq!(outcome.expect("an answer").payload, object(name.as_str().into()));
    }
}

async fn our_sites_meet_at(url: &str, site: &Cell) {
    let other = dialling("site-2", url).await;
    behave(&other, PLAIN);
    let reply = ask(site, "site-2", PLAIN, "recode", object("through a root".into())).await;
    assert_eq!(reply.payload, object("through a root".into()));
    let reply = ask(site, "site-3", PLAIN, "echo", Payload::None).await;
    assert_eq!(code(&reply), "comm_error");
    end(&other).await;
}

/// The reference tells its application of a neighbour that broke away, and not of one that said bye.
async fn goodbyes_are_no_losses(root: &mut Process, url: &str, polite: Cell) {
    end(&polite).await;
    let rude = dialling("site-9", url).await;
    drop(rude);
    let gone = root.event(|event| event["what"] == "disconnected").await;
    assert_eq!(gone["fqcn"], "site-9");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_the_reference_says_bye_or_vanishes() {
    let server = listening("server").await;
    let byes = Arc::new(Mutex::new(Vec::new()));
    let seen = byes.clone();
    server.intercept(move |passing| {
        if passing.headers.text(cn::TOPIC).is_some_and(|topic| topic == cn::BYE) {
            seen.lock().expect("no panics").push(passing.headers.shared_text(cn::ORIGIN));
        }
        Ok(())
    });
    let mut events = server.events();
    let names = ["site-1", "site-2"];
    let [mut polite, mut rude] = names.map(|name| serving_client(&url_of(&server), name, &[]));
    for (process, name) in [&mut polite, &mut rude].into_iter().zip(names) {
        process.ready().await;
        linked(&server, name).await;
    }
    assert!(polite.stop().await.success());
    lost(&mut events, "site-1").await;
    let waiting = server.request(&fqcn("site-2"), PLAIN, "sleep", Message::new(from_json(&json!(60))));
    let waiting = tokio::spawn(waiting.timeout(PATIENCE).into_future());
    rude.event(|event| event["topic"] == "sleep").await;
    rude.kill();
    lost(&mut events, "site-2").await;
    let outcome = in_time("a failure", waiting).await.expect("no panic");
    assert!(matches!(outcome, Err(RequestError::LinkLost { .. })), "{outcome:?}");
    assert_eq!(*byes.lock().expect("no panics"), [Some("site-1".into())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_of_the_reference_refuse_and_drop() {
    let args = ["--refuse", "task:refused=invalid_session", "--drop", "task:dropped"];
    let (mut root, url) = python_listening("root_cell", &args).await;
    let site = dialling("site-1", &url).await;
    let refused = ask(&site, "server", PLAIN, "refused", Payload::None).await;
    assert_eq!(code(&refused), "invalid_session");
    assert!(refused.error().is_some_and(|error| error.contains("refused by a filter")), "{refused:?}");
    let short = Duration::from_millis(500);
    let dropped = site.request(&fqcn("server"), PLAIN, "dropped", Message::empty()).timeout(short).await;
    assert!(matches!(dropped, Err(RequestError::Timeout(_))), "{dropped:?}");
    root.event(|event| event["what"] == "dropped").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_filters_refuse_the_reference() {
    let server = listening("server").await;
    behave(&server, PLAIN);
    for (stage, topic, code) in [
        (Stage::Incoming, "arrives", "at_the_door"),
        (Stage::IncomingRequest, "asks", "before_the_handler"),
        (Stage::OutgoingReply, "echo", "on_the_way_out"),
        (Stage::IncomingReply, "describe", "the_answer"),
        (Stage::OutgoingRequest, "headers", "filter_error"),
    ] {
        let refusal = Message::failure(ReturnCode::from(code), "refused here");
        server.add_filter(stage, PLAIN, topic, move |_| Err(refusal.clone()));
    }
    server.intercept(|passing| {
        let caught = passing.headers.text(cn::TOPIC).is_some_and(|topic| topic == "caught");
        if caught { Err(Message::failure(ReturnCode::ABORT_RUN, "caught here")) } else { Ok(()) }
    });
    let mut site = serving_client(&url_of(&server), "site-1", &[]);
    site.ready().await;
    linked(&server, "site-1").await;
    for (topic, expected) in [
        ("arrives", "at_the_door"),
        ("asks", "before_the_handler"),
        ("echo", "on_the_way_out"),
        ("caught", "abort_run"),
        ("recode", "ok"),
    ] {
        let account =
            they_are_told(&server, "site-1", PLAIN, json!({"channel": PLAIN, "topic": topic})).await;
        assert_eq!(account["return_code"], expected, "{topic}: {account}");
    }
    for topic in ["describe", "headers"] {
        let refused = server.request(&fqcn("site-1"), PLAIN, topic, Message::empty()).await;
        assert!(
            matches!(&refused, Err(RequestError::Filtered(text)) if text == "refused here"),
            "{refused:?}"
        );
    }
}

/// A client of the reference that answers on both channels of these tests.
fn serving_client(url: &str, name: &str, more: &[&str]) -> Process {
    let args = ["--root", url, "--fqcn", name, "--serve", PLAIN, "--serve", "echo", "--events"];
    Process::python("client_cell", &[&args, more].concat())
}
