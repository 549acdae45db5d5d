//! Pipes through cells, on a network in memory.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use cellnet_core::{
    CellUrl, Fqcn,
    cell::{ANY, Cell, CellEvent, Passing, Stage},
    message::{Message, Payload, ReturnCode},
    transport::mem::MemNet,
    wire::{Value, keys::cn, keys::sm},
};
use cellnet_pipe::{
    CellPipe, CellPipeBuilder, Credentials, Delivery, HandlerConfig, InboxLimits, Mode, OpenError, Pipe,
    PipeError, PipeEvent, PipeHandler, PipeHost, PipeMessage, Place, Side, TreePolicy,
};
use tokio::time::{Instant, timeout};

const SECOND: Duration = Duration::from_secs(1);

fn url(text: &str) -> CellUrl {
    text.parse().unwrap()
}

fn name(text: &str) -> Fqcn {
    text.parse().unwrap()
}

async fn start_cell(net: &MemNet, who: &str, listen: Option<&str>, dial: Option<&str>) -> Cell {
    let mut cell = Cell::builder(name(who)).resolver(TreePolicy).transport(net.clone());
    if let Some(listen) = listen {
        cell = cell.listen(url(listen));
    }
    if let Some(dial) = dial {
        cell = cell.dial(url(dial));
    }
    let cell = cell.start().await.unwrap();
    cell.connected().await;
    cell
}

async fn start_root(net: &MemNet) -> Cell {
    start_cell(net, "server", Some("mem://hub"), None).await
}

fn side(net: &MemNet, mode: Mode) -> CellPipeBuilder {
    side_at(net, mode, Place::root(url("mem://hub")))
}

fn side_at(net: &MemNet, mode: Mode, place: Place) -> CellPipeBuilder {
    let net = net.clone();
    CellPipe::builder(mode, "site-1", "job-7", place).cell(move |cell| cell.transport(net.clone()))
}

async fn opened(builder: CellPipeBuilder, name: &str) -> Arc<CellPipe> {
    let pipe = builder.build().unwrap();
    pipe.open(name).await.unwrap();
    pipe.cell().unwrap().connected().await;
    Arc::new(pipe)
}

/// Both sides, open and connected to the root.
async fn pair(net: &MemNet) -> (Arc<CellPipe>, Arc<CellPipe>) {
    (opened(side(net, Mode::Active), "task").await, opened(side(net, Mode::Passive), "task").await)
}

fn message(id: &str) -> PipeMessage {
    PipeMessage::new_request("train".parse().unwrap(), "abc").with_id(id)
}

async fn received(pipe: &CellPipe) -> PipeMessage {
    timeout(60 * SECOND, pipe.receive(None)).await.expect("a message in time").unwrap().unwrap()
}

/// The headers of everything that passes a cell.
fn record(cell: &Cell) -> Arc<Mutex<Vec<cellnet_core::wire::Headers>>> {
    let seen: Arc<Mutex<Vec<_>>> = Arc::default();
    let to = seen.clone();
    cell.add_filter(Stage::Incoming, ANY, ANY, move |passing: &mut Passing<'_>| {
        to.lock().unwrap().push(passing.headers.clone());
        Ok(())
    });
    seen
}

#[tokio::test(start_paused = true)]
async fn both_sides_send_and_the_acknowledgement_says_it_arrived() {
    let net = MemNet::new();
    let _root = start_root(&net).await;
    let (active, passive) = pair(&net).await;
    for (from, to) in [(&active, &passive), (&passive, &active)] {
        for data in
            [Payload::None, Payload::from("abc"), cellnet_pipe::text_payload("a"), vec![7; 3 << 20].into()]
        {
            let ask = PipeMessage::new_request("train".parse().unwrap(), data.clone());
            assert!(from.send(&ask, None).await.unwrap().is_taken());
            let found = to.receive(Some(Duration::ZERO)).await.unwrap().expect("it waits here already");
            assert_eq!((&found.msg_id, &found.topic, &found.data), (&ask.msg_id, &ask.topic, &data));
            let answer = PipeMessage::new_reply(&found, data.clone());
            assert!(to.send(&answer, None).await.unwrap().is_taken());
            let found = received(from).await;
            assert_eq!((found.req_id.as_ref(), &found.data), (Some(&ask.msg_id), &data));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_and_its_answer_wait_for_no_timer() {
    let net = MemNet::new();
    let _root = start_root(&net).await;
    let (active, passive) = pair(&net).await;
    let sender = PipeHandler::new(active, HandlerConfig::default()).unwrap();
    let reader = PipeHandler::new(passive, HandlerConfig::default()).unwrap();
    sender.start();
    reader.start();
    // The clock moves only when everybody waits for it.
    let began = Instant::now();
    for _ in 0..100 {
        let ask = PipeMessage::new_request("train".parse().unwrap(), vec![7; 100_000]);
        assert!(sender.send_to_peer(&ask, Some(SECOND), None).await.unwrap().is_taken());
        let Some(PipeEvent::Message(found)) = reader.next().await else { panic!("no message") };
        let answer = PipeMessage::new_reply(&found, found.data.clone());
        assert!(reader.send_to_peer(&answer, Some(SECOND), None).await.unwrap().is_taken());
        assert!(matches!(sender.next().await, Some(PipeEvent::Message(_))));
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn pipes_attach_to_a_client_parent() {
    let net = MemNet::new();
    let _root = start_root(&net).await;
    let _cp = start_cell(&net, "site-1", Some("mem://cp"), Some("mem://hub")).await;
    let at_cp = || "site-1@mem://cp".parse().unwrap();
    let active = opened(side_at(&net, Mode::Active, at_cp()), "task").await;
    let passive = opened(side_at(&net, Mode::Passive, at_cp()), "task").await;
    assert_eq!(active.fqcn().as_str(), "site-1.site-1_job-7_active");
    assert_eq!(active.peer(), passive.fqcn());
    assert!(active.send(&message("a"), None).await.unwrap().is_taken());
    assert_eq!(received(&passive).await.msg_id, "a");
}

#[tokio::test(start_paused = true)]
async fn pipes_of_one_name_share_a_cell_that_ends_with_the_last() {
    let net = MemNet::new();
    let root = start_root(&net).await;
    let host = PipeHost::new();
    let passive = opened(side(&net, Mode::Passive), "task").await;
    let task = opened(side(&net, Mode::Active).host(&host), "task").await;
    let metric = opened(side(&net, Mode::Active).host(&host), "metric").await;
    assert_eq!(root.neighbours().len(), 2);

    assert!(task.send(&message("a"), None).await.unwrap().is_taken());
    assert_eq!(received(&passive).await.msg_id, "a");
    let nobody = metric.send(&message("b"), None).await.unwrap();
    assert!(matches!(nobody, Delivery::Refused { .. }), "{nobody:?}");

    task.close().await;
    assert!(matches!(task.send(&message("c"), None).await, Err(PipeError::NotOpen)));
    assert_eq!(root.neighbours().len(), 2);
    metric.close().await;
    assert_eq!(root.neighbours(), [passive.fqcn().clone()]);

    let again = opened(side(&net, Mode::Active).host(&host), "task").await;
    assert!(again.send(&message("d"), None).await.unwrap().is_taken());
    assert_eq!(received(&passive).await.msg_id, "d");
}

#[tokio::test(start_paused = true)]
async fn a_pipe_that_opens_while_its_cell_ends_gets_a_new_one() {
    let net = MemNet::new();
    let _root = start_root(&net).await;
    let host = PipeHost::new();
    let passive = opened(side(&net, Mode::Passive), "task").await;
    let first = opened(side(&net, Mode::Active).host(&host), "task").await;
    let second = side(&net, Mode::Active).host(&host).build().unwrap();
    let ((), open) = tokio::join!(first.close(), second.open("task"));
    open.unwrap();
    second.cell().unwrap().connected().await;
    assert!(second.send(&message("a"), None).await.unwrap().is_taken());
    assert_eq!(received(&passive).await.msg_id, "a");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_pipe_frees_its_name_and_its_cell() {
    let net = MemNet::new();
    let _root = start_root(&net).await;
    let host = PipeHost::new();
    let first = opened(side(&net, Mode::Active).host(&host), "task").await;
    let second = opened(side(&net, Mode::Active).host(&host), "metric").await;
    drop(first);
    let third = opened(side(&net, Mode::Active).host(&host), "task").await;
    drop((second, third));
    let passive = opened(side(&net, Mode::Passive), "task").await;
    let fourth = opened(side(&net, Mode::Active).host(&host), "task").await;
    assert!(fourth.send(&message("a"), Some(10 * SECOND)).await.unwrap().is_taken());
    assert_eq!(received(&passive).await.msg_id, "a");
}

#[tokio::test(start_paused = true)]
async fn the_cell_of_a_dropped_pipe_ends_although_somebody_holds_it() {
    let net = MemNet::new();
    let root = start_root(&net).await;
    let host = PipeHost::new();
    let passive = opened(side(&net, Mode::Passive), "task").await;
    let first = opened(side(&net, Mode::Active).host(&host), "task").await;
    let held = first.cell().unwrap();
    let mut events = root.events();
    drop(first);
    let second = opened(side(&net, Mode::Active).host(&host), "task").await;
    assert!(second.send(&message("a"), Some(10 * SECOND)).await.unwrap().is_taken());
    assert_eq!(received(&passive).await.msg_id, "a");
    // The old cell was gone before the new one came, and stays away.
    let mut changes = Vec::new();
    while changes.len() < 2 {
        match timeout(60 * SECOND, events.next()).await.unwrap().unwrap() {
            CellEvent::Connected { .. } => changes.push("connected"),
            CellEvent::Disconnected { .. } => changes.push("disconnected"),
            _ => {}
        }
    }
    assert_eq!(changes, ["disconnected", "connected"]);
    assert!(held.neighbours().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_is_received_after_the_close() {
    let net = MemNet::new();
    let _root = start_root(&net).await;
    let (active, passive) = pair(&net).await;
    assert!(active.send(&message("a"), None).await.unwrap().is_taken());
    passive.close().await;
    assert_eq!(received(&passive).await.msg_id, "a");
    assert_eq!(passive.receive(None).await, Err(PipeError::NotOpen));
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_taken_and_settings_that_differ_are_refused() {
    let net = MemNet::new();
    let _root = start_root(&net).await;
    let host = PipeHost::new();
    let task = opened(side(&net, Mode::Active).host(&host), "task").await;
    let open = async |builder: CellPipeBuilder, name| builder.build().unwrap().open(name).await;
    let same = open(side(&net, Mode::Active).host(&host), "task").await;
    assert!(matches!(same, Err(OpenError::NameTaken { .. })), "{same:?}");
    let credentials = Credentials { token: "t".into(), signature: "s".into() };
    let other = open(side(&net, Mode::Active).host(&host).credentials(credentials), "metric").await;
    assert!(matches!(other, Err(OpenError::Conflict(_))), "{other:?}");
    for name in ["", "*", "a b", "a:b"] {
        assert!(matches!(open(side(&net, Mode::Passive), name).await, Err(OpenError::Name(_))));
    }
    assert!(matches!(task.open("task").await, Err(OpenError::Already)));
    assert!(task.cell().unwrap().route(&name("server")).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_resent_message_is_delivered_once() {
    let net = MemNet::new();
    let _root = start_root(&net).await;
    let (active, passive) = pair(&net).await;
    for _ in 0..3 {
        assert!(active.send(&message("a"), None).await.unwrap().is_taken());
    }
    assert!(active.send(&message("b"), None).await.unwrap().is_taken());
    assert_eq!(received(&passive).await.msg_id, "a");
    assert!(active.send(&message("a"), None).await.unwrap().is_taken());
    assert_eq!(received(&passive).await.msg_id, "b");
    assert_eq!(passive.receive(Some(SECOND)).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_full_pipe_is_unavailable_until_somebody_receives() {
    let net = MemNet::new();
    let _root = start_root(&net).await;
    let active = opened(side(&net, Mode::Active), "task").await;
    let limits = InboxLimits { messages: 1, bytes: 1 << 20 };
    let passive = opened(side(&net, Mode::Passive).inbox(limits), "task").await;
    assert!(active.send(&message("a"), None).await.unwrap().is_taken());
    let full = active.send(&message("b"), None).await.unwrap();
    assert_eq!(full.code(), ReturnCode::SERVICE_UNAVAILABLE);
    assert_eq!(received(&passive).await.msg_id, "a");
    assert!(active.send(&message("b"), None).await.unwrap().is_taken());
    assert_eq!(received(&passive).await.msg_id, "b");
}

#[tokio::test(start_paused = true)]
async fn a_stranger_is_told_that_the_pipe_is_not_for_it() {
    let net = MemNet::new();
    let _root = start_root(&net).await;
    let (_active, passive) = pair(&net).await;
    let stranger = start_cell(&net, "site-2", None, Some("mem://hub")).await;
    let wire =
        Message::new("abc").with_header("cell_pipe.msg_type", "REQ").with_header("cell_pipe.msg_id", "a");
    let reply = stranger.request(passive.fqcn(), "cell_pipe.task", "train", wire).await.unwrap();
    assert_eq!(reply.code(), Some(ReturnCode::INVALID_REQUEST));
    assert!(reply.error().unwrap().contains("site-2"), "{:?}", reply.error());
    assert_eq!(passive.receive(Some(SECOND)).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_pipe_message_is_refused_with_a_reason() {
    let net = MemNet::new();
    let _root = start_root(&net).await;
    let (active, passive) = pair(&net).await;
    let cell = active.cell().unwrap();
    let reply = cell.request(passive.fqcn(), "cell_pipe.task", "train", Message::new("abc")).await.unwrap();
    assert_eq!(reply.code(), Some(ReturnCode::INVALID_REQUEST));
    assert!(reply.error().unwrap().contains("cell_pipe.msg_type"));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_not_there_is_reported_at_once() {
    let net = MemNet::new();
    let _root = start_root(&net).await;
    let active = opened(side(&net, Mode::Active), "task").await;
    let began = Instant::now();
    let outcome = active.send(&message("a"), Some(60 * SECOND)).await.unwrap();
    assert!(!outcome.is_taken());
    assert!(began.elapsed() < SECOND, "{outcome:?} after {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn everything_that_a_pipe_sends_carries_its_credentials() {
    let net = MemNet::new();
    let root = start_root(&net).await;
    let seen = record(&root);
    let credentials = Credentials { token: "t-1".into(), signature: "s-1".into() };
    let active = opened(side(&net, Mode::Active).credentials(credentials), "task").await;
    let passive = opened(side(&net, Mode::Passive), "task").await;
    active.send(&PipeMessage::heartbeat(), None).await.unwrap();
    // Large enough for ACKs.
    let large = PipeMessage::new_request("train".parse().unwrap(), vec![1; 20 << 20]);
    assert!(active.send(&large, None).await.unwrap().is_taken());
    assert!(passive.send(&PipeMessage::new_reply(&large, vec![2; 20 << 20]), None).await.unwrap().is_taken());
    active.close().await;
    passive.close().await;

    let mut topics = BTreeSet::new();
    for headers in &*seen.lock().unwrap() {
        let text = |key| headers.text(key).map(|text| text.to_string()).unwrap_or_default();
        let expected = if text(cn::ORIGIN).ends_with("_active") { ["t-1", "s-1"] } else { ["NA", "NA"] };
        let shown = [text("client_name"), text("__token__"), text("__token_signature__")];
        assert_eq!(shown, ["site-1", expected[0], expected[1]], "{headers:?}");
        topics.insert(text(cn::TOPIC));
    }
    assert!(topics.contains(sm::DATA_TOPIC) && topics.contains(sm::ACK_TOPIC) && topics.contains(cn::BYE));
}

#[tokio::test(start_paused = true)]
async fn messages_are_stamped_as_the_reference_expects() {
    let net = MemNet::new();
    let root = start_root(&net).await;
    let seen = record(&root);
    let active = opened(side(&net, Mode::Active).pass_through_on_send(true), "task").await;
    let passive = opened(side(&net, Mode::Passive), "task").await;
    let ask = message("a");
    active.send(&ask, None).await.unwrap();
    passive.send(&PipeMessage::new_reply(&ask, "abc").with_id("b"), Some(10 * SECOND)).await.unwrap();
    for _ in 0..2 {
        active.send(&PipeMessage::heartbeat(), None).await.unwrap();
    }
    active.send(&PipeMessage::end("".into()), None).await.unwrap();

    let seen = seen.lock().unwrap();
    let find = |id: &str| {
        let has = |headers: &&cellnet_core::wire::Headers| {
            headers.text("cell_pipe.msg_id").is_some_and(|it| *it == *id)
        };
        seen.iter().find(has).unwrap()
    };
    let (request, reply) = (find("a"), find("b"));
    let text = |headers: &cellnet_core::wire::Headers, key| headers.text(key).map(|text| text.to_string());
    assert_eq!(text(request, cn::MSG_ROOT_ID).unwrap(), "a");
    assert_eq!(request.get(cn::MSG_ROOT_TTL), None);
    assert_eq!(request.get(cn::PASS_THROUGH), Some(Value::Bool(true)));
    assert_eq!(text(request, sm::CHANNEL).unwrap(), "cell_pipe.task");
    assert_eq!(text(reply, cn::MSG_ROOT_ID).unwrap(), "b");
    assert_eq!(reply.get(cn::MSG_ROOT_TTL), Some(Value::F64(10.0)));
    assert_eq!(text(reply, "cell_pipe.req_id").unwrap(), "a");
    assert_eq!(reply.get(cn::PASS_THROUGH), None);

    let beats: Vec<_> = seen.iter().filter(|headers| headers.get("cell_pipe.hb_seq").is_some()).collect();
    let numbers: Vec<_> =
        beats.iter().map(|beat| beat.get("cell_pipe.hb_seq").unwrap().as_i64().unwrap()).collect();
    assert_eq!(numbers, [1, 2]);
    for beat in beats {
        assert_eq!((beat.get(cn::MSG_ROOT_ID), beat.get(sm::REQ_ID)), (None, None));
        assert!(beat.flag(sm::OPTIONAL));
    }
    let end = seen.iter().find(|headers| headers.text(sm::TOPIC).is_some_and(|topic| topic == "_END_"));
    assert!(end.unwrap().flag(sm::OPTIONAL));
}

#[tokio::test(start_paused = true)]
async fn any_request_or_reply_of_the_peer_is_a_sign_of_life() {
    let net = MemNet::new();
    let _root = start_root(&net).await;
    let (active, passive) = pair(&net).await;
    assert_eq!((active.last_peer_active(), passive.last_peer_active()), (None, None));
    tokio::time::advance(SECOND).await;
    active.send(&message("a"), None).await.unwrap();
    let (sent, taken) = (active.last_peer_active().unwrap(), passive.last_peer_active().unwrap());
    assert!(taken <= sent && sent <= Instant::now());
    tokio::time::advance(9 * SECOND).await;
    // On a channel that is not the pipe's.
    let other = active.cell().unwrap();
    other.request(passive.fqcn(), "task", "any", Message::empty()).await.unwrap();
    assert!(passive.last_peer_active().unwrap() >= taken + 9 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_root_that_is_killed_and_restarted_costs_nothing_and_doubles_nothing() {
    let net = MemNet::new();
    let mut root = start_root(&net).await;
    let (active, passive) = pair(&net).await;
    let cells = [active.cell().unwrap(), passive.cell().unwrap()];
    let config = || {
        let mut config = HandlerConfig::default();
        config.max_resends = None;
        config
    };
    let sender = PipeHandler::new(active, config()).unwrap();
    let reader = PipeHandler::new(passive, config()).unwrap();
    sender.start();
    reader.start();
    let sends = async {
        for id in 0..200 {
            let sent = sender.send_to_peer(&message(&id.to_string()), Some(2 * SECOND), None).await.unwrap();
            assert!(sent.is_taken());
            tokio::time::sleep(SECOND / 10).await;
        }
        sender.notify_end(Payload::None).await;
    };
    let kills = async {
        for _ in 0..2 {
            tokio::time::sleep(5 * SECOND).await;
            drop(std::mem::replace(&mut root, Cell::builder(name("server")).start().await.unwrap()));
            tokio::time::sleep(3 * SECOND).await;
            assert!(cells.iter().all(|cell| cell.neighbours().is_empty()));
            root = start_root(&net).await;
        }
    };
    let reads = async {
        for id in 0..200 {
            let Some(PipeEvent::Message(message)) = reader.next().await else { panic!("no message {id}") };
            assert_eq!(message.msg_id, id.to_string());
        }
        assert!(matches!(reader.next().await, Some(PipeEvent::End(_))));
    };
    tokio::join!(sends, kills, reads);
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_acknowledgement_is_late_is_sent_again_and_delivered_once() {
    let net = MemNet::new();
    let hub = Cell::builder(name("server")).resolver(TreePolicy).transport(net.host("hub"));
    let root = hub.listen(url("mem://hub")).start().await.unwrap();
    let seen = record(&root);
    let far = net.host("far");
    let builder = CellPipe::builder(Mode::Active, "site-1", "job-7", Place::root(url("mem://hub")));
    let active = opened(builder.cell(move |cell| cell.transport(far.clone())), "task").await;
    let passive = opened(side(&net, Mode::Passive), "task").await;
    let sender = PipeHandler::new(active, HandlerConfig::default()).unwrap();

    net.set_latency("hub", "far", 3 * SECOND);
    let first = message("a");
    let (outcome, ()) = tokio::join!(sender.send_to_peer(&first, Some(SECOND), None), async {
        tokio::time::sleep(5 * SECOND).await;
        net.set_latency("hub", "far", Duration::ZERO);
    });
    assert!(outcome.unwrap().is_taken());
    let count = |it: &cellnet_core::wire::Headers| it.text("cell_pipe.msg_id").is_some_and(|id| id == "a");
    assert!(seen.lock().unwrap().iter().filter(|headers| count(headers)).count() > 1);
    sender.send_to_peer(&message("b"), None, None).await.unwrap();
    assert_eq!(received(&passive).await.msg_id, "a");
    assert_eq!(received(&passive).await.msg_id, "b");
}

#[tokio::test(start_paused = true)]
async fn a_peer_whose_process_freezes_is_gone_and_the_other_side_goes_on() {
    let net = MemNet::new();
    let _root = start_root(&net).await;
    let frozen = net.host("frozen");
    let builder = CellPipe::builder(Mode::Active, "site-1", "job-7", Place::root(url("mem://hub")));
    let active = opened(builder.cell(move |cell| cell.transport(frozen.clone())), "task").await;
    let passive = opened(side(&net, Mode::Passive), "task").await;
    let trainer = PipeHandler::new(active, HandlerConfig::default()).unwrap();
    let job = PipeHandler::new(passive.clone(), HandlerConfig::default()).unwrap();
    trainer.start();
    job.start();
    tokio::time::sleep(100 * SECOND).await;
    net.freeze("frozen");
    let last = passive.last_peer_active().unwrap();
    assert!(matches!(job.next().await, Some(PipeEvent::PeerGone(_))));
    // What was on its way when the peer froze may still arrive.
    assert!(last.elapsed() >= 30 * SECOND && last.elapsed() < 31 * SECOND, "{:?}", last.elapsed());
    assert!(passive.cell().unwrap().route(&name("server")).is_some());
}

#[tokio::test(start_paused = true)]
async fn an_export_opens_the_other_side() {
    let net = MemNet::new();
    let pipe = side(&net, Mode::Active).workspace_dir("/ws").build().unwrap();
    let own = serde_json::to_value(pipe.export(Side::Own).unwrap()).unwrap();
    assert_eq!(
        own,
        serde_json::json!({
            "class": "nvflare.fuel.utils.pipe.cell_pipe.CellPipe",
            "args": {
                "mode": "ACTIVE", "site_name": "site-1", "token": "job-7", "root_url": "mem://hub",
                "secure_mode": false, "workspace_dir": "/ws",
            },
        })
    );
    let peer = pipe.export(Side::Peer).unwrap().args;
    assert_eq!(peer.mode, "PASSIVE");
    let place = Place::root(url(&peer.root_url));
    let other =
        CellPipe::builder(peer.mode.parse().unwrap(), peer.site_name, peer.token, place).build().unwrap();
    assert_eq!((other.fqcn(), other.peer()), (pipe.peer(), pipe.fqcn()));
}
