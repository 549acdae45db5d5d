//! Messages that travel as blobs.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use cellnet_core::{
    cell::{Cell, RequestError},
    message::Message,
};
use serde_json::json;

use crate::{
    behaviour::{behave, talk, they_are_told},
    payload::{describe, payload, to_json},
    process::Process,
    support::{
        PATIENCE, ask, code, dialling, end, fqcn, in_time, linked, listening, no_foreign_origins,
        python_listening, relaying, url_of,
    },
};

/// A channel that streams.
const STREAM: &str = "echo";
const MIB: usize = 1 << 20;
const BIG: usize = 64 * MIB;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blobs_between_a_server_of_ours_and_a_client_of_the_reference() {
    let server = listening("server").await;
    behave(&server, STREAM);
    let args = ["--root", &url_of(&server), "--serve", STREAM];
    let mut site = Process::python("client_cell", &args);
    site.ready().await;
    linked(&server, "site-1").await;
    talk(&server, "site-1", STREAM).await;
    every_size(&server, "site-1").await;
    big_ones(&server, "site-1", &url_of(&server)).await;
    handlers_that_fail_are_no_silence(&server, "site-1").await;
    no_foreign_origins([&server]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blobs_between_a_server_of_the_reference_and_a_client_of_ours() {
    let (_root, url) = python_listening("root_cell", &[]).await;
    let site = dialling("site-1", &url).await;
    behave(&site, STREAM);
    talk(&site, "server", STREAM).await;
    every_size(&site, "server").await;
    big_ones(&site, "server", &url).await;
    no_foreign_origins([&site]);
}

/// Around the size of a chunk and of the window.
async fn every_size(cell: &Cell, peer: &str) {
    for (number, size) in [0, 1, MIB - 1, MIB, MIB + 1, 5 * MIB, 17 * MIB + 1].into_iter().enumerate() {
        let sent = payload("bytes", size, number);
        let seen = ask(cell, peer, STREAM, "describe", sent.clone()).await;
        assert_eq!(to_json(&seen.payload), describe(&sent), "{size} bytes as the reference sees them");
        let echo = ask(cell, peer, STREAM, "echo", sent.clone()).await;
        assert!(echo.payload == sent, "{size} bytes came back as {}", describe(&echo.payload));
    }
}

/// 64 MiB from us and back, and from the reference and back. The progress of the first is seen.
async fn big_ones(cell: &Cell, peer: &str, url: &str) {
    let sent = payload("bytes", BIG, 7);
    let seen = ask(cell, peer, STREAM, "describe", sent.clone()).await;
    assert_eq!(to_json(&seen.payload), describe(&sent));
    let moved = Arc::new(AtomicU64::new(0));
    let told = moved.clone();
    let echo =
        cell.request(&fqcn(peer), STREAM, "echo", Message::new(sent.clone())).on_progress(move |now| {
            told.fetch_max(now.received, SeqCst);
        });
    let echo = echo.timeout(PATIENCE).await.expect("an echo");
    assert!(echo.payload == sent, "came back as {}", describe(&echo.payload));
    assert_eq!(moved.load(SeqCst), BIG as u64);

    let target = if cell.name().is_server() { "server" } else { cell.name().as_str() };
    let size = BIG.to_string();
    let args = ["--root", url, "--fqcn", "site-2", "--target", target, "--count", "1", "--size", &size];
    let mut theirs = Process::python("client_cell", &args);
    let result = theirs.expect("RESULT").await;
    assert_eq!((&result["ok"], &result["bad"]), (&json!(1), &json!(0)), "{result}");
}

/// The reference reports a failed handler only as an error of the request's stream, which had ended.
async fn handlers_that_fail_are_no_silence(cell: &Cell, peer: &str) {
    for (channel, topic) in
        [(STREAM, "fail"), (STREAM, "svc"), (STREAM, "none"), ("nobody registered this", "echo")]
    {
        let failed = cell.request(&fqcn(peer), channel, topic, Message::empty()).timeout(PATIENCE);
        let failed = in_time("the error", failed.into_future()).await;
        assert!(matches!(failed, Err(RequestError::Stream(_))), "{channel} {topic}: {failed:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blobs_cross_a_relay_of_ours() {
    let (_root, url) = python_listening("root_cell", &[]).await;
    let relay = relaying("relay-1", &url).await;
    let (child, parent) = ("relay-1.site-1", url_of(&relay));
    let args = ["--parent", &parent, "--fqcn", child, "--serve", STREAM];
    let mut site = Process::python("client_cell", &args);
    site.ready().await;
    linked(&relay, child).await;
    for (asked, target) in [("server", child), (child, "server")] {
        let text = "x".repeat(5 * MIB);
        let order = json!({"target": target, "channel": STREAM, "topic": "describe", "payload": text});
        let account = they_are_told(&relay, asked, STREAM, order).await;
        assert_eq!(account["return_code"], "ok", "from {asked}: {account}");
        assert_eq!(account["payload"]["size"], 5 * MIB, "from {asked}: {account}");
    }
    let size = BIG.to_string();
    let args = ["--parent", &parent, "--fqcn", "relay-1.site-2", "--count", "1", "--size", &size];
    let result = Process::python("client_cell", &args).expect("RESULT").await;
    assert_eq!((&result["ok"], &result["bad"]), (&json!(1), &json!(0)), "{result}");
    no_foreign_origins([&relay]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blobs_cross_a_relay_of_the_reference() {
    let server = listening("server").await;
    let (_relay, url) = python_listening("relay_cell", &["--root", &url_of(&server)]).await;
    linked(&server, "relay-1").await;
    let site = dialling("relay-1.site-1", &url).await;
    for (asking, answering) in [(&site, &server), (&server, &site)] {
        behave(answering, STREAM);
        for (kind, size) in [("none", 0), ("str", 1000), ("dict", 3 * MIB), ("bytes", BIG)] {
            let sent = payload(kind, size, 1);
            let reply = ask(asking, answering.name().as_str(), STREAM, "recode", sent.clone()).await;
            assert_eq!(code(&reply), "ok");
            assert_eq!(describe(&reply.payload), describe(&sent), "{kind} from {}", asking.name());
        }
    }
    no_foreign_origins([&site, &server]);
    end(&site).await;
    end(&server).await;
}
