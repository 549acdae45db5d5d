//! What is in the headers of what pipes send, and what a message says of its sender.

use std::collections::BTreeSet;

use cellnet_core::{
    message::Message,
    transport::mem::MemNet,
    wire::{
        Value,
        keys::{cn, sm},
    },
};
use cellnet_pipe::{Credentials, Mode, Pipe, PipeMessage};
use tokio::time::Instant;

use crate::support::*;

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
