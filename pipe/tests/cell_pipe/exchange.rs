//! What goes from one side of a pipe to the other.

use std::time::Duration;

use cellnet_core::{
    message::{Message, Payload, ReturnCode},
    transport::mem::MemNet,
};
use cellnet_pipe::{
    CellPipe, HandlerConfig, InboxLimits, Mode, Pipe, PipeEvent, PipeHandler, PipeMessage, Place, Side,
};
use tokio::time::Instant;

use crate::support::*;

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
