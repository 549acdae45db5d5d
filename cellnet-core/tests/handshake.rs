//! What a listening cell does with odd and hostile bytes, written raw over `mem://`.

#[path = "common/raw.rs"]
mod raw;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cellnet_core::{
    cell::{Cell, CellEvent, HandlerError, Request},
    fobs,
    message::{Message, Payload},
    testkit::sim::{Sim, echo, fqcn},
    transport::Batch,
    wire::{Frame, FrameKind, Limits, PREFIX_LEN, Prefix, Value, hello::Hello, keys::cn},
};
use raw::Raw;
use serde_json::Value as Json;
use tokio::time::Instant;

async fn server(sim: &Sim) -> Cell {
    let server = sim.cell("server", &[]).await;
    server.handle("task", "*", echo);
    server
}

fn odd_inputs() -> Vec<(String, Vec<u8>)> {
    let data: Json = serde_json::from_str(include_str!("data/wire.json")).unwrap();
    let cases = data["odd"].as_array().unwrap().iter();
    cases
        .map(|case| (case["name"].as_str().unwrap().to_owned(), unhex(case["hex"].as_str().unwrap())))
        .collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// The observed inputs of the reference. Where it says READY to a name that it then ignores, the connection is closed
/// here instead, and a name that is none is refused.
#[tokio::test(start_paused = true)]
async fn odd_input_ends_as_in_the_reference_or_better() {
    for (name, bytes) in odd_inputs() {
        let sim = Sim::new();
        let _server = server(&sim).await;
        let mut raw = Raw::connect(&sim).await;
        let before_hello = name.starts_with("odd_hello")
            || matches!(&*name, "odd_ready_instead_of_hello" | "odd_ping_before_hello");
        if !before_hello {
            raw.hello("raw").await;
        }
        raw.write(&bytes).await;
        match &*name {
            "odd_length_0"
            | "odd_length_1"
            | "odd_length_15"
            | "odd_length_over_max"
            | "odd_second_hello" => {
                assert_eq!(raw.next_kind().await, None, "{name}");
            }
            "odd_hello_no_name"
            | "odd_hello_empty_name"
            | "odd_hello_my_name"
            | "odd_hello_garbage"
            | "odd_hello_bad_fqcn" => {
                assert_eq!(raw.next_kind().await, None, "{name}");
            }
            "odd_hello_bin_name" | "odd_hello_minimal" | "odd_hello_with_headers" => {
                let claimed = match &*name {
                    "odd_hello_bin_name" => "abc",
                    "odd_hello_minimal" => "min-1",
                    _ => "min-2",
                };
                assert_eq!(raw.next_kind().await, Some(FrameKind::Ready), "{name}");
                assert!(raw.is_alive(claimed).await, "{name}");
            }
            "odd_ready_instead_of_hello" => assert!(raw.is_alive("rdy-1").await, "{name}"),
            "odd_ping_before_hello" => assert_eq!(raw.next_kind().await, None, "{name}"),
            "odd_ping_nil" => {
                assert_eq!(raw.next_kind().await, Some(FrameKind::Pong));
                assert!(raw.is_alive("raw").await);
            }
            _ => assert!(raw.is_alive("raw").await, "{name}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_says_nothing_is_closed_at_the_deadline() {
    let sim = Sim::new();
    let server = server(&sim).await;
    let start = Instant::now();
    let mut raw = Raw::connect(&sim).await;
    assert_eq!(raw.next_kind().await, None);
    assert_eq!(start.elapsed(), sim.config.link.accept_deadline);
    assert_eq!(server.counters().failed_handshakes.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_claim_of_two_gigabytes_before_hello_is_closed_at_once() {
    let sim = Sim::new();
    let _server = server(&sim).await;
    let start = Instant::now();
    let mut raw = Raw::connect(&sim).await;
    raw.write(&[0x7f, 0xdf, 0xff, 0xff, 0xff, 0xff, 4, 0, 0, 0, 0, 0, 0, 1, 0, 1]).await;
    assert_eq!(raw.next_kind().await, None);
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn the_oldest_of_too_many_handshakes_goes_first() {
    let sim = Sim::new().configured(|config| config.link.max_handshakes = 2);
    let _server = server(&sim).await;
    let start = Instant::now();
    let mut oldest = Raw::connect(&sim).await;
    tokio::task::yield_now().await;
    let _second = Raw::connect(&sim).await;
    tokio::task::yield_now().await;
    let mut third = Raw::connect(&sim).await;
    assert_eq!(oldest.next_kind().await, None);
    assert_eq!(start.elapsed(), Duration::ZERO);
    third.hello("third").await;
}

#[tokio::test(start_paused = true)]
async fn a_frame_above_the_limit_is_answered_and_the_link_lives() {
    let sim = Sim::new().configured(|config| config.link.max_frame = 100_000);
    let server = server(&sim).await;
    let mut raw = Raw::connect(&sim).await;
    raw.hello("raw").await;
    raw.request("raw", &[0; 200_000], |_| {}).await;
    assert_eq!(raw.reply().await.as_deref(), Some("msg_too_big"));
    assert!(raw.is_alive("raw").await);
    assert_eq!(server.counters().oversize.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn nested_and_crowded_headers_are_dropped_and_the_link_lives() {
    let sim = Sim::new();
    let server = server(&sim).await;
    let mut raw = Raw::connect(&sim).await;
    raw.hello("raw").await;
    let header_len = 4 + 10_000;
    let prefix = Prefix {
        length: 16 + header_len,
        header_len: header_len as u16,
        kind: 1,
        app_id: 1,
        ..Prefix::default()
    };
    let mut deep = BytesMut::new();
    prefix.encode(&mut deep);
    deep.extend_from_slice(b"\x81\xa1k");
    deep.extend_from_slice(&[0x91; 10_000]);
    deep.extend_from_slice(&[0xc0]);
    raw.write(&deep).await;
    raw.request("raw", b"", |headers| (0..6000).for_each(|key| headers.set(format!("{key}"), Value::Nil)))
        .await;
    assert!(raw.is_alive("raw").await);
    assert_eq!(server.counters().dropped.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn requests_without_a_valid_origin_or_destination_are_dropped() {
    let sim = Sim::new();
    let server = server(&sim).await;
    let mut raw = Raw::connect(&sim).await;
    raw.hello("raw").await;
    raw.request("bad name", b"", |_| {}).await;
    raw.request("raw", b"", |headers| _ = headers.remove(cn::DESTINATION)).await;
    raw.request("raw", b"", |headers| _ = headers.remove(cn::MSG_TYPE)).await;
    assert!(raw.is_alive("raw").await);
    assert_eq!(server.counters().dropped.get(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_route_that_is_none_counts_as_empty() {
    let sim = Sim::new();
    let _server = server(&sim).await;
    let mut raw = Raw::connect(&sim).await;
    raw.hello("raw").await;
    for route in [Value::Nil, Value::Int(7), Value::Array(vec![Value::text("x")])] {
        raw.request("raw", b"", |headers| headers.set(cn::ROUTE, route)).await;
        assert_eq!(raw.reply().await.as_deref(), Some("ok"));
    }
}

/// Messages that the reference collected and sent as one, as they were captured.
#[tokio::test(start_paused = true)]
async fn bulk_messages_reach_their_handlers_one_by_one() {
    let sim = Sim::new();
    let server = server(&sim).await;
    let (seen, mut requests) = tokio::sync::mpsc::channel(16);
    server.handle("*", "*", move |request: Request| {
        let seen = seen.clone();
        async move {
            let object = match &request.message.payload {
                Payload::Fobs(bytes) => fobs::decode(bytes, Limits::PAYLOAD).unwrap().into_object().unwrap(),
                other => panic!("{other:?}"),
            };
            seen.send((request.channel.to_string(), request.topic.to_string(), object)).await.unwrap();
            Ok::<_, HandlerError>(Message::empty())
        }
    });
    let data: Json = serde_json::from_str(include_str!("data/wire.json")).unwrap();
    let frames = data["frames"].as_array().unwrap();
    let bulk = frames
        .iter()
        .find(|frame| frame["name"] == "cell/fwd_to_client_04_req_cellnet.channel_bulk")
        .unwrap();
    let mut raw = Raw::connect(&sim).await;
    raw.hello("site-2").await;
    raw.write(&unhex(bulk["hex"].as_str().unwrap())).await;
    for number in [0x45, 0x2e] {
        let (channel, topic, object) = requests.recv().await.unwrap();
        assert_eq!((&*channel, &*topic), ("_net_manager", "bulk_item"));
        assert_eq!(object.as_i64(), Some(number));
    }
    assert!(raw.is_alive("site-2").await);
}

/// A stranger that answers no PING is given up after its own, longer silence.
#[tokio::test(start_paused = true)]
async fn strangers_may_be_silent_for_longer() {
    let sim = Sim::new();
    let server = server(&sim).await;
    let mut events = server.events();
    let mut raw = Raw::connect(&sim).await;
    raw.hello("raw").await;
    assert!(
        matches!(events.next().await, Some(CellEvent::Connected { peer, cellnet: false, .. }) if peer == fqcn("raw"))
    );
    let start = Instant::now();
    assert!(matches!(events.next().await, Some(CellEvent::Disconnected { .. })));
    assert_eq!(start.elapsed(), sim.config.link.stranger_silence);
}

/// Towards a stranger, data waits for the PONG that shows READY has taken effect.
#[tokio::test(start_paused = true)]
async fn a_dialled_stranger_is_pinged_until_it_answers() {
    use cellnet_core::transport::{Bind, Transport};
    let sim = Sim::new();
    let bind = Bind::new("mem://old".parse().unwrap(), cellnet_core::stats::Budget::new(1 << 20));
    let mut listener = sim.net.host("old").listen(&bind).await.unwrap();
    let dialled = tokio::spawn({
        let sim = sim.clone();
        async move { sim.cell("site", &["old"]).await }
    });
    let mut connection = listener.accept().await.unwrap().await.unwrap();
    let lane = &mut connection.control;
    let mut batch = Batch::new();
    let mut kinds = Vec::new();
    while kinds.len() < 4 {
        lane.rx.recv(&mut batch).await.unwrap();
        for frame in batch.drain(..) {
            kinds.push(frame.prefix().unwrap().frame_kind().unwrap());
        }
        if kinds.len() == 1 {
            let ready = Hello { name: "old".into(), cellnet: None, timestamp: 0.0 }.encode();
            send(lane, FrameKind::Ready, ready).await;
        }
    }
    assert_eq!(kinds, [FrameKind::Hello, FrameKind::Ping, FrameKind::Ping, FrameKind::Ping]);
    assert!(!dialled.is_finished());
    send(lane, FrameKind::Pong, Bytes::from_static(&[0xc0])).await;
    assert_eq!(dialled.await.unwrap().neighbours(), [fqcn("old")]);
}

async fn send(lane: &mut cellnet_core::transport::Lane, kind: FrameKind, payload: Bytes) {
    let length = (PREFIX_LEN + payload.len()) as u32;
    let mut head = BytesMut::new();
    Prefix { length, kind: kind.code(), ..Prefix::default() }.encode(&mut head);
    lane.tx.feed(&mut Batch::from([Frame::new(head.freeze(), payload)]));
    lane.tx.flush().await.unwrap();
}
