//! Peers that freeze, and roots that die and come back.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use cellnet_core::{
    cell::{Cell, Stage},
    message::Message,
    wire::keys::{cn, sm},
};
use cellnet_pipe::{HandlerConfig, Mode, PipeEvent, PipeMessage};
use serde_json::json;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};

use crate::{
    payload::{decoded, payload},
    process::Process,
    side::{Attach, Case, Ours},
    support::{
        any_port, ask, builder, code, fqcn, in_time, linked, lost, no_foreign_origins, python_listening,
        url_of,
    },
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
    let progress = progress_of(&server, "site-1");
    // Plain messages make progress as their replies come, a stream with each acknowledgement.
    for (channel, count, size) in [(PLAIN, 64, 1 << 20), ("echo", 1, 64 << 20)] {
        let mut events = server.events();
        let seen = *progress.borrow();
        let mut bulk = JoinSet::new();
        for _ in 0..count {
            let part = Message::new(payload("bytes", size, 1));
            let asked =
                server.request(&fqcn("site-1"), channel, "echo", part).timeout(Duration::from_secs(60));
            bulk.spawn(asked.into_future());
        }
        in_time("progress of the bulk", progress.clone().wait_for(|now| *now > seen))
            .await
            .expect("it lives");
        frozen.freeze().await;
        let frozen_at = Instant::now();
        let gone = tokio::spawn(async move {
            lost(&mut events, "site-1").await;
            frozen_at.elapsed()
        });
        let bulk = tokio::spawn(bulk.join_all());
        let mut answers = 0;
        while !bulk.is_finished() || !gone.is_finished() {
            assert_eq!(code(&ask(&server, "site-2", PLAIN, "echo", "still here").await), "ok");
            answers += 1;
        }
        let outcomes = bulk.await.expect("no panic");
        assert!(outcomes.iter().any(Result::is_err), "on '{channel}' all was answered before it froze");
        assert!(answers > 5, "on '{channel}' only {answers} answers");
        let took = gone.await.expect("no panic");
        assert!(took < DEADLINE + MARGIN, "on '{channel}' it was gone after {took:?} only");
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
    no_foreign_origins([&server]);
}

/// Pairs of pipes talk through a root that is killed and started again while they do. Nobody helps them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipes_outlive_their_root_and_deliver_nothing_twice() {
    let (root, url) = python_listening("root_cell", &[]).await;
    let attach = Attach::root(&url);
    let asking = persistent(Mode::Active, &attach, "ours").await;
    let answering = persistent(Mode::Passive, &attach, "ours").await;
    let asking_theirs = persistent(Mode::Passive, &attach, "echo").await;
    let answering_theirs = persistent(Mode::Passive, &attach, "send").await;
    let resends = ["--handler", "--timeout", "5", "--resend-interval", "0.5", "--max-resends", "60"];
    let python = |token, more: &[&str]| {
        let case = Case { ours: Mode::Passive, we_ask: true, handled: true };
        attach.python(case, token, &[&resends, more].concat())
    };
    let count = (3 * SOME).to_string();
    let mut echo = python("echo", &["--role", "echo"]);
    let mut sender =
        python("send", &["--role", "send", "--payload", "dict", "--count", &count, "--linger", "60"]);
    echo.ready().await;
    sender.ready().await;

    let (back, is_back) = watch::channel(false);
    let dead = Arc::new(Notify::new());
    kill_in_the_middle(&answering, root, &dead);
    let fate = async {
        in_time("the middle of the talk", dead.notified()).await;
        let (again, same) = python_listening("root_cell", &["--url", &url]).await;
        assert_eq!(same, url);
        back.send_replace(true);
        again
    };
    let (_root, asked, answered, _, answered_theirs) = tokio::join!(
        fate,
        ask_all(&asking, is_back.clone(), true),
        answer_all(&answering),
        ask_all(&asking_theirs, is_back, false),
        answer_all(&answering_theirs),
    );
    assert_eq!(answered, asked);
    assert_eq!(answered_theirs, 3 * SOME);
    let status = sender.stop().await;
    let result = sender.expect("RESULT").await;
    assert_eq!((&result["ok"], &result["bad"]), (&json!(3 * SOME), &json!(0)), "{result}");
    assert!(status.success());
    assert_eq!(echo.expect("STATUS").await["topic"], "_END_");
}

/// Enough messages to be in the middle of a talk.
const SOME: usize = 5;

/// Kills the root when a message has come through it and the acknowledgement has not gone back, so that the message
/// will be sent again.
fn kill_in_the_middle(answering: &Ours, root: Process, dead: &Arc<Notify>) {
    let cell = answering.pipe.cell().expect("an open pipe");
    let (root, seen, dead) = (Mutex::new(root), AtomicUsize::new(0), dead.clone());
    cell.add_filter(Stage::IncomingRequest, "cell_pipe.task", "train", move |_| {
        if seen.fetch_add(1, SeqCst) == SOME {
            root.lock().expect("no panics").kill();
            dead.notify_one();
        }
        Ok(())
    });
}

/// A side that gives up no message.
async fn persistent(mode: Mode, attach: &Attach, token: &str) -> Ours {
    let mut config = HandlerConfig::default();
    config.heartbeat_timeout = None;
    config.resend_interval = Some(Duration::from_millis(500));
    config.max_resends = None;
    let case = Case { ours: mode, we_ask: true, handled: true };
    Ours::open_with(case, attach, token, config, Duration::from_secs(3)).await
}

/// Asks until the root is back and some more, then says END; gives how often. A peer of the reference may answer twice,
/// because it does not know a message that was sent again.
async fn ask_all(ours: &Ours, is_back: watch::Receiver<bool>, once: bool) -> usize {
    let (mut asked, mut left) = (0, SOME);
    while left > 0 {
        left -= usize::from(*is_back.borrow());
        let data = payload("dict", 100_000, asked);
        let request = PipeMessage::new_request("train".parse().expect("a topic"), data.clone());
        ours.send(&request).await;
        let reply = loop {
            let reply = ours.message().await;
            if once || reply.req_id.as_ref() == Some(&request.msg_id) {
                break reply;
            }
        };
        assert_eq!((reply.req_id, decoded(&reply.data)), (Some(request.msg_id), decoded(&data)));
        asked += 1;
    }
    ours.says("end").await;
    asked
}

/// Answers until END; gives how often. No message may come twice.
async fn answer_all(ours: &Ours) -> usize {
    let mut ids = HashSet::new();
    loop {
        match ours.event().await {
            PipeEvent::Message(request) => {
                ours.send(&PipeMessage::new_reply(&request, request.data.clone())).await;
                assert!(ids.insert(request.msg_id), "a message came twice");
            }
            PipeEvent::End(_) => return ids.len(),
            other => panic!("wanted a message, got {other:?}"),
        }
    }
}

/// Counts what arrives from a neighbour in answer to something: replies, and acknowledgements of streams.
fn progress_of(cell: &Cell, neighbour: &'static str) -> watch::Receiver<usize> {
    let (count, progress) = watch::channel(0);
    cell.add_filter(Stage::Incoming, "*", "*", move |passing| {
        let text = |key| passing.headers.text(key).map(|text| text.to_string()).unwrap_or_default();
        let answers = text(cn::MSG_TYPE) == "reply" || text(cn::TOPIC) == sm::ACK_TOPIC;
        if answers && text(cn::ORIGIN) == neighbour {
            count.send_modify(|count| *count += 1);
        }
        Ok(())
    });
    progress
}

/// When a silent peer is gone, and a margin for a slow machine.
const DEADLINE: Duration = Duration::from_secs(3);
const MARGIN: Duration = Duration::from_secs(4);

/// A server with short deadlines.
async fn watchful_server() -> Cell {
    let started = builder("server").listen(any_port()).configure(|config| {
        config.link.heartbeat = Duration::from_millis(500);
        config.link.stranger_silence = DEADLINE;
        config.link.stall = DEADLINE;
    });
    started.start().await.expect("a port of loopback")
}

fn serving_client(server: &Cell, name: &str) -> Process {
    let args = ["--root", &url_of(server), "--fqcn", name, "--serve", PLAIN, "--serve", "echo"];
    Process::python("client_cell", &args)
}
