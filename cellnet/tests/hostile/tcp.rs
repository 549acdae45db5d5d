//! Peers over TCP in the clear that have no manners.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use cellnet_core::{
    Fqcn,
    cell::{HandlerError, Request},
    message::Message,
    wire::{Headers, Value, keys::sm},
};
use tokio::sync::Semaphore;

use crate::{
    FLOODED, MIB, TURN,
    raw::{self, Raw, request},
    toll::peak,
    victim::Victim,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_claims_of_two_gigabytes_cost_nothing_and_are_closed() {
    let _turn = TURN.lock().await;
    let victim = Victim::listening("tcp").await;
    victim.serves_others("before").await;
    let before = victim.peak();
    let mut hostile = Vec::new();
    for _ in 0..100 {
        let mut raw = Raw::connect(victim.url()).await;
        raw.write(&[0x7f, 0xdf, 0xff, 0xff, 0, 100, 4, 0, 0, 0, 0, 0, 0, 1, 0, 1]).await;
        hostile.push(raw);
    }
    // All of them are open.
    victim.serves_others("during").await;
    for raw in &mut hostile {
        tokio::time::timeout(Duration::from_secs(10), raw.closed())
            .await
            .expect("closed within the deadline");
    }
    let grown = victim.peak().saturating_sub(before);
    assert!(grown < 16 * MIB, "grew by {grown} bytes");
    victim.logs("connection refused").await;
    victim.serves_others("after").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_idle_sockets_keep_nobody_out() {
    let _turn = TURN.lock().await;
    let victim = Victim::listening("tcp").await;
    let mut idle = Vec::new();
    for _ in 0..1000 {
        idle.push(Raw::connect(victim.url()).await);
    }
    victim.serves_others("site").await;
    drop(idle);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_of_a_terabyte_is_refused() {
    let _turn = TURN.lock().await;
    let victim = Victim::listening("tcp").await;
    let mut raw = Raw::connect(victim.url()).await;
    raw.hello("liar").await;
    let before = victim.peak();
    let stream = |headers: &mut Headers| {
        raw::stream_headers(headers, "echo", 7);
        headers.set(sm::DATA_TYPE, 1_i64);
        headers.set(sm::SEQUENCE, 0_i64);
        headers.set(sm::SIZE, 1_i64 << 40);
    };
    raw.data(&request("liar", sm::STREAM_CHANNEL, sm::DATA_TOPIC, stream), &[0; 1024]).await;
    let (answer, _) = raw.next_data().await.expect("an error comes back");
    assert!(answer.text(sm::ERROR).is_some() || answer.text("cn__return_code").is_some(), "{answer:?}");
    assert!(victim.peak().saturating_sub(before) < 16 * MIB);
    victim.serves_others("site").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_heads_are_dropped_and_the_link_lives() {
    let _turn = TURN.lock().await;
    let victim = Victim::listening("tcp").await;
    let mut raw = Raw::connect(victim.url()).await;
    raw.hello("raw").await;
    let mut deep = b"\x81\xa1k".to_vec();
    deep.extend([0x91; 10_000]);
    deep.push(0xc0);
    raw.data_raw(&deep, b"").await;
    // 60,000 entries are claimed; no block can hold them.
    let mut crowded = b"\xdf\x00\x00\xea\x60".to_vec();
    (0..13_000_u32).for_each(|key| {
        crowded.extend(
            [&[0xa4][..], format!("{key:04}").as_bytes().get(..4).unwrap(), &[0xc0]]
                .concat()
                .get(..5)
                .unwrap(),
        )
    });
    crowded.truncate(65_000);
    raw.data_raw(&crowded, b"").await;
    raw.data(&request("raw", "task", "t", |_| {}), b"alive").await;
    let (answer, body) = raw.next_data().await.expect("the link lives");
    assert_eq!((answer.text("cn__return_code").unwrap(), &body[..]), ("ok", &b"alive"[..]));
}

/// Requests whose replies are never read: handlers block on the full way back, then the queues fill, then the reader
/// pauses and the peer's own writes stall.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_requests_of_a_peer_that_never_reads_stay_within_the_budget() {
    let _turn = TURN.lock().await;
    let victim = Victim::listening("tcp").await;
    let mut raw = Raw::connect(victim.url()).await;
    raw.hello("deaf").await;
    let frame =
        raw::frame(&request("deaf", "task", "t", |headers| headers.set("x-pad", "x".repeat(200))), &[1; 64]);
    let burst: Vec<u8> = frame.iter().copied().cycle().take(frame.len() * 1000).collect();
    let mut written = 0;
    for _ in 0..1000 {
        match tokio::time::timeout(Duration::from_secs(3), raw.try_write(&burst)).await {
            Ok(true) => written += 1000,
            // It takes no more, or has closed the link: both keep it small.
            Ok(false) | Err(_) => break,
        }
    }
    assert!(written > 0, "no request was written, so nothing was tested");
    victim.serves_others_within(FLOODED, "site").await;
    let peak = victim.peak();
    assert!(peak < 128 * MIB, "{peak} bytes after {written} requests");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_tiny_messages_that_nobody_handles_cost_nothing() {
    let _turn = TURN.lock().await;
    let victim = Victim::listening("tcp").await;
    let mut raw = Raw::connect(victim.url()).await;
    raw.hello("chatty").await;
    let quiet = |headers: &mut Headers| headers.set("cn__reply_expected", false);
    let frame = raw::frame(&request("chatty", "no-such-channel", "t", quiet), b"");
    let burst: Vec<u8> = frame.iter().copied().cycle().take(frame.len() * 1000).collect();
    for _ in 0..1000 {
        raw.write(&burst).await;
    }
    raw.data(&request("chatty", "task", "t", |_| {}), b"done").await;
    let (answer, _) = raw.next_data().await.expect("the link lives");
    assert_eq!(answer.get("cn__return_code"), Some(Value::text("ok")));
    assert!(victim.peak() < 64 * MIB, "{} bytes", victim.peak());
}

/// The peer is made to wait, and only what waited for the whole patience is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_tiny_messages_for_a_handler_that_hangs_are_bounded_and_refused_only_after_the_patience() {
    let _turn = TURN.lock().await;
    let before = peak(std::process::id());
    let patience = Duration::from_secs(2);
    let server = cellnet::builder(Fqcn::server()).listen("tcp://127.0.0.1:0".parse().unwrap());
    let server = server.configure(|config| config.link.patience = patience).start().await.unwrap();
    let (open, handled) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicU64::new(0)));
    let (gate, count) = (open.clone(), handled.clone());
    server.handle("slow", "*", move |_: Request| {
        let (gate, count) = (gate.clone(), count.clone());
        async move {
            let _passed = gate.acquire().await;
            count.fetch_add(1, Relaxed);
            Ok::<_, HandlerError>(Message::empty())
        }
    });
    let mut raw = Raw::connect(server.listening()[0].to_string().as_str()).await;
    raw.hello("eager").await;
    let quiet = |headers: &mut Headers| headers.set("cn__reply_expected", false);
    let frame = raw::frame(&request("eager", "slow", "t", quiet), b"x");
    let burst: Vec<u8> = frame.iter().copied().cycle().take(frame.len() * 1000).collect();
    let began = Instant::now();
    let writing = tokio::spawn(async move {
        for _ in 0..1000 {
            if !raw.try_write(&burst).await {
                return false;
            }
        }
        true
    });
    let counters = server.counters();
    let refused = || counters.overloaded.get() + counters.dropped.get();
    let first = tokio::time::timeout(Duration::from_secs(30), async {
        while refused() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        began.elapsed()
    });
    let first = first.await.expect("patience ends");
    assert!(first >= patience, "refused after {first:?} already");
    open.add_permits(Semaphore::MAX_PERMITS >> 4);
    let written =
        tokio::time::timeout(Duration::from_secs(60), writing).await.expect("the peer goes on").unwrap();
    assert!(written, "the peer was cut off");
    let grown = peak(std::process::id()).saturating_sub(before);
    assert!(grown < 128 * MIB, "grew by {grown} bytes");
    // Each was handled or is counted as refused.
    let all = async {
        while handled.load(Relaxed) + refused() < 1_000_000 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(30), all).await;
    let (handled, refused) = (handled.load(Relaxed), refused());
    assert!(in_time.is_ok() && handled + refused == 1_000_000, "{handled} handled, {refused} refused");
}
