//! Heads travel in their short form where both neighbours offer that, and in full everywhere else.

#[path = "common/raw.rs"]
mod raw;

use bytes::Bytes;
use cellnet_core::{
    cell::{Cell, HandlerError, Request},
    message::Message,
    testkit::sim::{Sim, blob, echo, fqcn},
    wire::{
        COMPACT_HEADS, FrameKind, Headers, PREFIX_LEN,
        hello::{Cellnet, Hello},
    },
};
use raw::Raw;

/// The byte that no plain head begins with: a head in full that is to be kept follows.
const KEEP: u8 = 0xc1;

async fn server(sim: &Sim) -> Cell {
    let server = sim.cell("server", &[]).await;
    server.handle("task", "*", echo);
    server
}

/// The heads of the replies to equal requests, without their prefix.
async fn heads(raw: &mut Raw, requests: usize) -> Vec<Bytes> {
    let mut heads = Vec::new();
    for _ in 0..requests {
        raw.request("site", b"x", |_| {}).await;
        let frame = raw.next().await.unwrap();
        assert_eq!(frame.prefix().unwrap().frame_kind(), Some(FrameKind::Data));
        heads.push(frame.head().slice(PREFIX_LEN..));
    }
    heads
}

#[tokio::test(start_paused = true)]
async fn a_neighbour_that_offers_short_heads_gets_them() {
    let sim = Sim::new();
    let _server = server(&sim).await;
    let mut raw = Raw::connect(&sim).await;
    raw.hello_as("site", Some(&[COMPACT_HEADS, "something else"])).await;
    let heads = heads(&mut raw, 4).await;
    let full = Headers::decode(&heads[0]).unwrap();
    assert_eq!((heads[1][0], heads[1][1]), (KEEP, 0));
    assert_eq!(Headers::decode(&heads[1].slice(2..)).unwrap().len(), full.len());
    assert!(heads[2..].iter().all(|head| head[0] == 0 && head.len() < 40), "{heads:?}");
}

#[tokio::test(start_paused = true)]
async fn everybody_else_gets_plain_ones() {
    for (compact, features) in [
        (true, None),
        (true, Some(&[][..])),
        (true, Some(&["compact-heads/2"][..])),
        (false, Some(&[COMPACT_HEADS][..])),
    ] {
        let sim = Sim::new().configured(|config| config.link.compact_heads = compact);
        let _server = server(&sim).await;
        let mut raw = Raw::connect(&sim).await;
        raw.hello_as("site", features).await;
        for head in heads(&mut raw, 4).await {
            assert!(Headers::decode(&head).is_ok(), "{features:?}");
        }
    }
}

/// Nobody answers a READY, so who opens with one never hears that this cell reads short heads.
#[tokio::test(start_paused = true)]
async fn who_was_offered_nothing_neither_gets_short_heads_nor_may_send_them() {
    let sim = Sim::new();
    let server = server(&sim).await;
    let mut raw = Raw::connect(&sim).await;
    raw.open(FrameKind::Ready, "site", Some(&[COMPACT_HEADS])).await;
    for head in heads(&mut raw, 4).await {
        assert!(Headers::decode(&head).is_ok(), "{head:?}");
    }
    raw.head(&[0]).await;
    assert!(raw.is_alive("site").await);
    assert_eq!(server.counters().dropped.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_offered_is_said_in_ready() {
    for compact in [true, false] {
        let sim = Sim::new().configured(|config| config.link.compact_heads = compact);
        let server = server(&sim).await;
        let site = sim.cell("site", &["server"]).await;
        let offers = |cell: &Cell, peer: &Cell| cell.features(peer.name()).unwrap();
        for offered in [offers(&server, &site), offers(&site, &server)] {
            assert_eq!(offered.iter().any(|feature| *feature == COMPACT_HEADS), compact);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_head_without_its_entry_ends_the_link_and_no_other() {
    let sim = Sim::new();
    let server = server(&sim).await;
    let site = sim.cell("friend", &["server"]).await;
    for head in [&[9][..], &[KEEP, 5, 0x80], &[KEEP]] {
        let mut raw = Raw::connect(&sim).await;
        raw.hello_as("site", Some(&[COMPACT_HEADS])).await;
        raw.head(head).await;
        while let Some(frame) = raw.next().await {
            assert_ne!(frame.prefix().unwrap().frame_kind(), Some(FrameKind::Data));
        }
    }
    let reply = site.request(server.name(), "task", "echo", blob(10)).await.unwrap();
    assert!(reply.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_short_head_from_a_stranger_is_dropped() {
    let sim = Sim::new();
    let server = server(&sim).await;
    let mut raw = Raw::connect(&sim).await;
    raw.hello("site").await;
    raw.head(&[0]).await;
    assert!(raw.is_alive("site").await);
    assert_eq!(server.counters().dropped.get(), 1);
}

/// Every leg agrees for itself, and whoever is between two kinds translates.
#[tokio::test(start_paused = true)]
async fn messages_cross_relays_of_both_kinds_unchanged() {
    for kinds in [[true, true, false], [false, true, true], [true, false, true], [true, true, true]] {
        let net = Sim::new().net;
        let on = |compact: bool| {
            Sim { net: net.clone(), ..Sim::new() }.configured(|config| config.link.compact_heads = compact)
        };
        let [server, relay, site] = kinds;
        let server = on(server).cell("server", &[]).await;
        let _relay = on(relay).cell("relay", &["server"]).await;
        let site = on(site).cell("relay.site", &["relay"]).await;
        server.handle("task", "*", |request: Request| async move {
            let mut reply = Message::new(request.message.payload);
            reply.headers.set("mark", request.message.headers.get("mark").unwrap());
            Ok::<_, HandlerError>(reply)
        });
        server.handle("model", "*", echo);
        for round in 0..6_u64 {
            let message = blob(100 + round as usize).with_header("mark", round % 2);
            let reply = site.request(&fqcn("server"), "task", "echo", message.clone()).await.unwrap();
            assert!(reply.is_ok(), "{kinds:?}: {:?}", reply.error());
            assert_eq!(reply.payload, message.payload);
            assert_eq!(reply.headers.uint("mark"), Some(round % 2));
            let large = blob(3 << 20);
            let reply = site.request(&fqcn("server"), "model", "echo", large.clone()).await.unwrap();
            assert_eq!(reply.payload, large.payload);
        }
    }
}

/// The name under which the feature is known to others must not change by accident.
#[test]
fn the_name_of_the_feature_is_part_of_the_protocol() {
    assert_eq!(COMPACT_HEADS, "compact-heads/1");
    let cellnet = Cellnet { features: vec![COMPACT_HEADS.into()], ..Cellnet::new([0; 16]) };
    let hello = Hello { name: "a".into(), cellnet: Some(cellnet), timestamp: 0.0 };
    assert!(hello.encode().windows(15).any(|bytes| bytes == b"compact-heads/1"));
}
