//! Pipes with one side of each kind.

use std::{collections::HashSet, time::Duration};

use cellnet_pipe::{HandlerConfig, Mode, Pipe, PipeEvent};
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    payload::{KINDS, to_json},
    side::{Attach, Case, Known, Ours, SIZE},
    support::{PATIENCE, linked, listening, no_foreign_origins, python_listening, relaying, url_of},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipes_through_a_root_of_ours() {
    let root = listening("server").await;
    converse_in_every_way(&Attach::root(&url_of(&root))).await;
    no_foreign_origins([&root]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipes_through_a_root_of_the_reference() {
    let (_root, url) = python_listening("root_cell", &[]).await;
    converse_in_every_way(&Attach::root(&url)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipes_attached_to_cells_of_ours_by_connection_properties() {
    let (_root, url) = python_listening("root_cell", &[]).await;
    let cp = relaying("site-1", &url).await;
    let relay = relaying("relay-1", &url).await;
    let known = Known { root: url, cp: url_of(&cp), relay: Some(url_of(&relay)) };
    let talks = [
        (Attach::known(&known, ""), Case { ours: Mode::Active, we_ask: true, handled: true }),
        (Attach::known(&known, ""), Case { ours: Mode::Passive, we_ask: false, handled: false }),
        (Attach::known(&known, &url_of(&relay)), Case { ours: Mode::Passive, we_ask: true, handled: true }),
    ];
    converse_all(talks).await;
    no_foreign_origins([&cp, &relay]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipes_attached_to_a_cp_of_the_reference_by_connection_properties() {
    let root = listening("server").await;
    let args = ["--root", &url_of(&root), "--fqcn", "site-1"];
    let (_cp, cp) = python_listening("relay_cell", &args).await;
    linked(&root, "site-1").await;
    let known = Known { root: url_of(&root), cp, relay: None };
    let talks = [
        (Attach::known(&known, ""), Case { ours: Mode::Active, we_ask: false, handled: true }),
        (Attach::known(&known, ""), Case { ours: Mode::Passive, we_ask: true, handled: false }),
        (Attach::known(&known, &known.root), Case { ours: Mode::Passive, we_ask: true, handled: true }),
    ];
    converse_all(talks).await;
    no_foreign_origins([&root]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_vanishes_is_reported_on_either_side() {
    let root = listening("server").await;
    let attach = Attach::root(&url_of(&root));
    let soon = ["--role", "echo", "--handler", "--heartbeat-interval", "0.5", "--heartbeat-timeout", "3"];
    let mut config = HandlerConfig::default();
    config.heartbeat_interval = Duration::from_millis(500);
    config.heartbeat_timeout = Some(Duration::from_secs(3));
    let case = |ours| Case { ours, we_ask: true, handled: true };
    let (killed, left) = (case(Mode::Active), case(Mode::Passive));

    let mut theirs = attach.python(killed, "killed", &soon);
    theirs.ready().await;
    let ours = Ours::open_with(killed, &attach, "killed", config.clone(), PATIENCE).await;
    ours.asks(0, "str").await;
    theirs.kill();
    let gone = ours.event().await;
    assert!(matches!(&gone, PipeEvent::PeerGone(why) if why.contains("missing heartbeat")), "{gone:?}");
    ours.close().await;

    let mut theirs = attach.python(left, "left", &soon);
    theirs.ready().await;
    let ours = Ours::open_with(left, &attach, "left", config, PATIENCE).await;
    ours.asks(0, "str").await;
    ours.close().await;
    assert_eq!(theirs.expect("STATUS").await["topic"], "_PEER_GONE_");
}

async fn converse_in_every_way(attach: &Attach) {
    let both = [false, true];
    let cases = [Mode::Active, Mode::Passive].into_iter().flat_map(|ours| {
        both.into_iter()
            .flat_map(move |we_ask| both.into_iter().map(move |handled| Case { ours, we_ask, handled }))
    });
    converse_all(cases.map(|case| (attach.clone(), case))).await;
}

/// All at once.
pub(crate) async fn converse_all(talks: impl IntoIterator<Item = (Attach, Case)>) {
    let mut all = JoinSet::new();
    for (number, (attach, case)) in talks.into_iter().enumerate() {
        all.spawn(converse(attach, case, number));
    }
    all.join_all().await;
}

/// Messages of every kind and their answers; then whoever asked ends, which the other side is told.
async fn converse(attach: Attach, case: Case, number: usize) {
    let token = format!("tok-{number}");
    // Spreads both endings over all pairs of the other choices.
    let ending = if number.count_ones().is_multiple_of(2) { "end" } else { "abort" };
    let ours = Ours::open(case, &attach, &token).await;
    if case.we_ask {
        let mut theirs = attach.python(case, &token, &["--role", "echo", "--linger", "60"]);
        let ready = theirs.ready().await;
        assert_eq!(
            (&ready["fqcn"], &ready["peer"]),
            (&json!(ours.pipe.peer().as_str()), &json!(ours.pipe.fqcn().as_str()))
        );
        for (number, kind) in KINDS.into_iter().enumerate() {
            ours.asks(number, kind).await;
        }
        ours.says(ending).await;
        let status = theirs.expect("STATUS").await;
        assert_eq!(
            (&status["topic"], &status["data"]),
            (&json!(topic_of(ending)), &json!("bye")),
            "{case:?}"
        );
        assert!(theirs.stop().await.success(), "{case:?}");
    } else {
        let kind = KINDS[number % KINDS.len()];
        let (count, size) = (COUNT.to_string(), SIZE.to_string());
        let args = ["--role", "send", "--count", &count, "--size", &size, "--payload", kind];
        let args = [&args[..], &["--end", ending, "--linger", "60"]].concat();
        let mut theirs = attach.python(case, &token, &args);
        let mut ids = HashSet::new();
        for number in 0..COUNT {
            assert!(ids.insert(ours.answers(number, kind).await), "{case:?}: a message came twice");
        }
        let last = ours.event().await;
        let data = match (&last, ending) {
            (PipeEvent::End(message), "end") | (PipeEvent::Abort(message), "abort") => &message.data,
            other => panic!("{case:?}: wanted {ending}, got {other:?}"),
        };
        assert_eq!(to_json(data), json!("bye"));
        assert!(theirs.stop().await.success(), "{case:?}");
        let result = theirs.expect("RESULT").await;
        assert_eq!((&result["ok"], &result["bad"]), (&json!(COUNT), &json!(0)), "{case:?}: {result}");
    }
    assert!(ours.pipe.last_peer_active().is_some());
    ours.close().await;
}

const COUNT: usize = 4;

fn topic_of(ending: &str) -> &'static str {
    if ending == "end" { "_END_" } else { "_ABORT_" }
}
