//! Peers that freeze, and roots that die and come back.

use std::time::Duration;

use cellnet_core::{cell::Cell, message::Message};

use crate::{
    payload::payload,
    process::Process,
    support::{any_port, ask, builder, code, fqcn, in_time, linked, lost, url_of},
};

/// A channel that does not stream.
const PLAIN: &str = "task";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_peer_is_gone_by_its_deadline_and_harms_nobody() {
    let server = watchful_server().await;
    let mut frozen = serving_client(&server, "site-1");
    let mut other = serving_client(&server, "site-2");
    for (process, name) in [(&mut frozen, "site-1"), (&mut other, "site-2")] {
        process.ready().await;
        linked(&server, name).await;
    }
    for channel in [PLAIN] {
        let mut events = server.events();
        frozen.freeze().await;
        let bulk = Message::new(payload("bytes", 64 << 20, 1));
        let bulk = server.request(&fqcn("site-1"), channel, "echo", bulk).timeout(Duration::from_secs(60));
        let bulk = tokio::spawn(bulk.into_future());
        let mut answers = 0;
        while !bulk.is_finished() {
            assert_eq!(code(&ask(&server, "site-2", PLAIN, "echo", "still here").await), "ok");
            answers += 1;
        }
        let outcome = bulk.await.expect("no panic");
        assert!(outcome.is_err(), "on '{channel}': {outcome:?}");
        assert!(answers > 5, "on '{channel}' only {answers} answers");
        lost(&mut events, "site-1").await;
        frozen.thaw();
        linked(&server, "site-1").await;
        let back = in_time("an answer of one who is back", async {
            loop {
                let asked = server.request(&fqcn("site-1"), PLAIN, "echo", Message::new("back"));
                if let Ok(reply) = asked.timeout(Duration::from_secs(5)).await {
                    return reply;
                }
            }
        });
        assert_eq!(code(&back.await), "ok");
    }
}

/// A server with short deadlines.
async fn watchful_server() -> Cell {
    let started = builder("server").listen(any_port()).configure(|config| {
        config.link.heartbeat = Duration::from_millis(500);
        config.link.stranger_silence = Duration::from_secs(3);
        config.link.stall = Duration::from_secs(3);
    });
    started.start().await.expect("a port of loopback")
}

fn serving_client(server: &Cell, name: &str) -> Process {
    let args = ["--root", &url_of(server), "--fqcn", name, "--serve", PLAIN, "--serve", "echo"];
    Process::python("client_cell", &args)
}
