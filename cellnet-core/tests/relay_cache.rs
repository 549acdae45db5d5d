//! Blocks of transfers that pass a relay cross its uplink once, whoever pulls them.

#[path = "common/badge.rs"]
mod badge;

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use badge::{Net, url};
use cellnet_core::{
    cell::{Answer, Ask, Cell, HandlerError, OriginCheck, Request, Stage},
    message::{Message, MessageKind, ReturnCode},
    testkit::sim::{Sim, fqcn},
    tls::TlsMode,
    transfer::{BLOCK, BlockAsk, CHANNEL, FRESH, LIVE, SAFE, SendOptions, Token, TransferConfig, Transfers},
    wire::keys::cn,
};
use futures_util::{StreamExt, future::join_all, stream};
use tokio::{sync::Semaphore, time::Instant};

/// Bytes of a block; more than what goes with control messages.
const SIZE: usize = 65 * 1024;

/// What a source was asked.
#[derive(Default)]
struct Source {
    asked: AtomicUsize,
    /// Requests that may be answered; all of them if it is closed.
    gate: Option<Semaphore>,
}

impl Source {
    /// Blocks are full of their number.
    fn serve(self, cell: &Cell) -> Arc<Self> {
        let source = Arc::new(self);
        let shared = source.clone();
        cell.handle(CHANNEL, BLOCK, move |request: Request| {
            let source = shared.clone();
            async move {
                source.asked.fetch_add(1, SeqCst);
                if let Some(gate) = &source.gate {
                    let _ = gate.acquire().await;
                }
                let ask = BlockAsk::decode(request.message.payload.as_bytes()).unwrap();
                Ok::<_, HandlerError>(Message::new(vec![ask.block as u8; SIZE]))
            }
        });
        source
    }

    fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }

    fn gated() -> Self {
        Self { gate: Some(Semaphore::new(0)), ..Self::default() }
    }

    fn open(&self) {
        self.gate.as_ref().unwrap().close();
    }
}

fn ask(cell: &Cell, block: u64) -> Ask {
    let payload = BlockAsk { token: Token([7; 16]), file: 0, block }.encode();
    cell.request(&fqcn("server"), CHANNEL, BLOCK, Message::new(payload)).timeout(Duration::from_secs(100))
}

async fn fetch(cell: &Cell, block: u64) {
    let reply = ask(cell, block).await.unwrap();
    assert_eq!(reply.payload.as_bytes(), vec![block as u8; SIZE], "{:?}", reply.error());
    assert_eq!(reply.origin(), Some(fqcn("server")));
}

/// Fetches all blocks, some ahead, and takes a while for each.
async fn pull(cell: &Cell, blocks: u64, each: Duration) {
    let ahead = stream::iter(0..blocks).map(|block| fetch(cell, block)).buffered(8);
    ahead.for_each(|()| tokio::time::sleep(each)).await;
}

/// A relay that has room for some sixty blocks.
fn sim() -> Sim {
    Sim::new().configured(|config| config.block_cache = 68 * SIZE)
}

async fn children(sim: &Sim, relay: &str, count: usize) -> Vec<Cell> {
    let names = (0..count).map(|i| format!("{relay}.site-{i}"));
    let mut children = Vec::new();
    for name in names {
        children.push(sim.cell(&name, &[relay]).await);
    }
    children
}

/// Long enough for everything that is on its way to be where it belongs.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(100)).await;
}

#[tokio::test(start_paused = true)]
async fn twenty_children_of_uneven_pace_cost_one_copy() {
    let sim = sim();
    let server = sim.cell("server", &[]).await;
    let source = Source::default().serve(&server);
    let relay = sim.cell("relay", &["server"]).await;
    let children = children(&sim, "relay", 20).await;
    let pulls = children.iter().enumerate().map(|(i, child)| async move {
        tokio::time::sleep(Duration::from_millis(i as u64 * 7 % 100)).await;
        pull(child, 200, Duration::from_millis(1 + i as u64 % 5)).await;
    });
    join_all(pulls).await;
    assert!(source.asked() <= 220, "{} blocks were asked for", source.asked());
    let counters = relay.counters();
    let shared = counters.block_hits.get() + counters.block_coalesced.get();
    assert_eq!(shared + counters.block_misses.get(), 20 * 200);
    assert!(counters.block_bytes.get() >= 20 * 180 * SIZE as u64);
    let foreign =
        [&server, &relay].into_iter().chain(&children).map(|cell| cell.counters().foreign_origins.get());
    assert_eq!(foreign.sum::<u64>(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_is_switched_off_lets_everything_through() {
    let sim = sim().configured(|config| config.block_cache = 0);
    let server = sim.cell("server", &[]).await;
    let source = Source::default().serve(&server);
    let relay = sim.cell("relay", &["server"]).await;
    let children = children(&sim, "relay", 5).await;
    join_all(children.iter().map(|child| pull(child, 20, Duration::ZERO))).await;
    assert_eq!((source.asked(), relay.counters().block_misses.get()), (100, 0));
}

#[tokio::test(start_paused = true)]
async fn two_relays_in_a_row_cost_one_copy_on_each_uplink() {
    let sim = sim();
    let server = sim.cell("server", &[]).await;
    let source = Source::default().serve(&server);
    let upper = sim.cell("relay", &["server"]).await;
    let lower = sim.cell("relay.sub", &["relay"]).await;
    let mut all = children(&sim, "relay", 5).await;
    all.extend(children(&sim, "relay.sub", 5).await);
    let pulls = all.iter().enumerate();
    join_all(pulls.map(|(i, child)| pull(child, 200, Duration::from_millis(1 + i as u64 % 3)))).await;
    assert!(source.asked() <= 220, "{} blocks were asked for", source.asked());
    assert!(lower.counters().block_misses.get() <= 220, "{}", lower.counters().block_misses.get());
    drop(upper);
}

#[tokio::test(start_paused = true)]
async fn a_source_below_the_relay_is_asked_once_too() {
    let sim = sim();
    let _server = sim.cell("server", &[]).await;
    let _relay = sim.cell("relay", &["server"]).await;
    let site = sim.cell("relay.source", &["relay"]).await;
    let source = Source::default().serve(&site);
    let near = sim.cell("relay.near", &["relay"]).await;
    let far = sim.cell("far", &["server"]).await;
    for cell in [&near, &far] {
        let payload = BlockAsk { token: Token([7; 16]), file: 0, block: 1 }.encode();
        let reply = cell.request(site.name(), CHANNEL, BLOCK, Message::new(payload)).await.unwrap();
        assert_eq!((reply.payload.len(), reply.origin()), (SIZE, Some(site.name().clone())));
    }
    assert_eq!(source.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn when_the_first_asker_dies_the_others_get_the_block_that_it_asked_for() {
    let sim = sim();
    let server = sim.cell("server", &[]).await;
    let source = Source::gated().serve(&server);
    let relay = sim.cell("relay", &["server"]).await;
    let children = children(&sim, "relay", 3).await;
    let first = tokio::spawn(ask(&children[0], 1).into_future());
    settle().await;
    let others: Vec<_> =
        children[1..].iter().map(|child| tokio::spawn(ask(child, 1).into_future())).collect();
    settle().await;
    assert_eq!(relay.counters().block_coalesced.get(), 2);
    children[0].cancel();
    settle().await;
    source.open();
    for other in others {
        assert_eq!(other.await.unwrap().unwrap().payload.as_bytes(), [1; SIZE]);
    }
    assert_eq!(source.asked(), 1);
    first.abort();
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_does_not_come_is_asked_for_by_the_next_one() {
    let sim = sim();
    let server = sim.cell("server", &[]).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    server.handle(CHANNEL, BLOCK, move |_: Request| {
        // The first one is never answered.
        let first = count.fetch_add(1, SeqCst) == 0;
        async move {
            Ok::<_, HandlerError>(if first {
                Answer::Deferred
            } else {
                Answer::Reply(Message::new(vec![1; SIZE]))
            })
        }
    });
    let _relay = sim.cell("relay", &["server"]).await;
    let children = children(&sim, "relay", 3).await;
    let began = Instant::now();
    let first = tokio::spawn(ask(&children[0], 1).into_future());
    settle().await;
    let replies = join_all(children[1..].iter().map(|child| ask(child, 1).into_future())).await;
    assert!(replies.iter().all(|reply| reply.as_ref().unwrap().is_ok()));
    assert_eq!(asked.load(SeqCst), 2);
    assert!(began.elapsed() < Duration::from_secs(11), "{:?}", began.elapsed());
    first.abort();
}

#[tokio::test(start_paused = true)]
async fn who_waits_hears_of_it_when_the_way_up_is_lost_and_what_is_kept_is_still_given() {
    let sim = sim();
    let server = sim.cell("server", &[]).await;
    let source = Source::gated().serve(&server);
    let relay = sim.cell("relay", &["server"]).await;
    let children = children(&sim, "relay", 3).await;
    source.gate.as_ref().unwrap().add_permits(1);
    fetch(&children[0], 0).await;
    source.gate.as_ref().unwrap().forget_permits(1);
    let first = tokio::spawn(ask(&children[0], 1).into_future());
    settle().await;
    let other = tokio::spawn(ask(&children[1], 1).into_future());
    settle().await;
    let began = Instant::now();
    server.cancel();
    assert_eq!(other.await.unwrap().unwrap().code(), Some(ReturnCode::COMM_ERROR));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    fetch(&children[2], 0).await;
    assert_eq!(relay.counters().block_hits.get(), 1);
    first.abort();
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_for_its_asker_alone() {
    let sim = sim();
    let server = sim.cell("server", &[]).await;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let gate = Arc::new(Semaphore::new(0));
    let (log, shut) = (asked.clone(), gate.clone());
    server.handle(CHANNEL, BLOCK, move |request: Request| {
        let (log, shut) = (log.clone(), shut.clone());
        async move {
            log.lock().unwrap().push(request.origin.clone());
            let _ = shut.acquire().await;
            match request.origin.as_str() {
                "relay.site-0" | "relay.site-1" => Err(HandlerError::invalid_request("a stranger")),
                _ => Ok(Message::new(vec![1; SIZE])),
            }
        }
    });
    let _relay = sim.cell("relay", &["server"]).await;
    let children = children(&sim, "relay", 4).await;
    let mut replies = Vec::new();
    for child in &children {
        replies.push(tokio::spawn(ask(child, 1).into_future()));
        settle().await;
    }
    gate.close();
    let replies = join_all(replies).await.into_iter().map(|reply| reply.unwrap().unwrap().is_ok());
    assert_eq!(replies.collect::<Vec<_>>(), [false, false, true, true]);
    let asked: Vec<_> = asked.lock().unwrap().iter().map(|origin| origin.as_str().to_owned()).collect();
    assert_eq!(asked, ["relay.site-0", "relay.site-1", "relay.site-2"]);
}

#[tokio::test(start_paused = true)]
async fn what_must_be_fresh_or_belongs_to_one_receiver_is_not_shared() {
    let sim = sim();
    let server = sim.cell("server", &[]).await;
    let version = Arc::new(AtomicUsize::new(0));
    let count = version.clone();
    server.handle(CHANNEL, BLOCK, move |request: Request| {
        let version = count.fetch_add(1, SeqCst) as u8;
        let ask = BlockAsk::decode(request.message.payload.as_bytes()).unwrap();
        let message = Message::new(vec![version; SIZE]);
        async move {
            Ok::<_, HandlerError>(if ask.block == 9 { message.with_header(LIVE, true) } else { message })
        }
    });
    let _relay = sim.cell("relay", &["server"]).await;
    let children = children(&sim, "relay", 3).await;
    let get = async |child: usize, block, header: Option<&'static str>| {
        let mut message = Message::new(BlockAsk { token: Token([7; 16]), file: 0, block }.encode());
        if let Some(header) = header {
            message = message.with_header(header, true);
        }
        let reply = children[child].request(&fqcn("server"), CHANNEL, BLOCK, message).await.unwrap();
        reply.payload.as_bytes()[0]
    };
    assert_eq!((get(0, 1, None).await, get(1, 1, None).await), (0, 0));
    assert_eq!((get(1, 1, Some(FRESH)).await, get(2, 1, None).await), (1, 1));
    assert_eq!((get(0, 1, Some(SAFE)).await, get(1, 1, None).await), (2, 1));
    assert_eq!((get(0, 9, None).await, get(1, 9, None).await), (3, 4));
}

#[tokio::test(start_paused = true)]
async fn a_sibling_cannot_put_a_block_into_the_cache() {
    for origins in [OriginCheck::Enforce, OriginCheck::Warn] {
        let mut net = Net::new(TlsMode::Clear, &[]);
        net.sim.config.origins = origins;
        let start = async |name: &'static str, up: &[&str]| {
            let builder = net.builder(name, name).listen(url(name));
            let cell = up.iter().fold(builder, |builder, up| builder.dial(url(up))).start().await.unwrap();
            cell.connected().await;
            cell
        };
        let server = start("server", &[]).await;
        let relay = start("relay", &["server"]).await;
        let (site, other, mallory) = (
            start("relay.site", &["relay"]).await,
            start("relay.other", &["relay"]).await,
            start("relay.mallory", &["relay"]).await,
        );
        let source = Source::gated().serve(&server);
        // The worst case: the id of the request is known.
        let id = Arc::new(Mutex::new(None));
        let seen = id.clone();
        relay.add_filter(Stage::Incoming, CHANNEL, BLOCK, move |passing| {
            if passing.kind == Some(MessageKind::Request) {
                *seen.lock().unwrap() = passing.headers.shared_text(cn::REQ_ID);
            }
            Ok(())
        });
        let first = tokio::spawn(ask(&site, 1).into_future());
        settle().await;
        let id = id.lock().unwrap().clone().unwrap();
        let forged = id.clone();
        net.lies.lock().unwrap().insert(
            ("relay.mallory".into(), BLOCK.into()),
            Arc::new(move |headers| {
                headers.set(cn::MSG_TYPE, "reply");
                headers.set(cn::ORIGIN, "server");
                headers.set(cn::REQ_ID, forged.clone());
                headers.set(cn::RETURN_CODE, "ok");
            }),
        );
        mallory.fire_and_forget(site.name(), CHANNEL, BLOCK, Message::new(vec![66; SIZE])).await.unwrap();
        settle().await;
        assert!(relay.counters().foreign_origins.get() > 0, "{origins:?}");
        let second = tokio::spawn(ask(&other, 1).into_future());
        settle().await;
        source.open();
        assert_eq!(second.await.unwrap().unwrap().payload.as_bytes(), [1; SIZE], "{origins:?}");
        fetch(&other, 1).await;
        assert_eq!(source.asked(), 1);
        first.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_frozen_child_keeps_the_others_waiting_only_once() {
    let sim = sim();
    let server = sim.cell("server", &[]).await;
    let _source = Source::default().serve(&server);
    let _relay = sim.cell("relay", &["server"]).await;
    let children = children(&sim, "relay", 5).await;
    let frozen = children[0].clone();
    let stuck = tokio::spawn(async move { pull(&frozen, 200, Duration::from_millis(2)).await });
    let began = Instant::now();
    let pulls = children[1..].iter().map(|child| pull(child, 200, Duration::from_millis(2)));
    let freeze = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        sim.net.freeze("relay.site-0");
    };
    tokio::join!(join_all(pulls), freeze);
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    stuck.abort();
}

#[tokio::test(start_paused = true)]
async fn what_others_say_on_the_channel_passes() {
    let sim = sim();
    let server = sim.cell("server", &[]).await;
    let _relay = sim.cell("relay", &["server"]).await;
    let children = children(&sim, "relay", 2).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    server.handle(CHANNEL, "*", move |request: Request| {
        count.fetch_add(1, SeqCst);
        async move { Ok::<_, HandlerError>(Message { payload: request.message.payload, ..Message::default() }) }
    });
    let block = BlockAsk { token: Token([7; 16]), file: 0, block: 1 }.encode();
    for (topic, payload) in [("list", block.clone()), (BLOCK, vec![1; 200].into()), (BLOCK, block.slice(1..))]
    {
        for child in &children {
            let reply =
                child.request(server.name(), CHANNEL, topic, Message::new(payload.clone())).await.unwrap();
            assert_eq!(reply.payload.as_bytes(), payload);
        }
    }
    assert_eq!(asked.load(SeqCst), 6);
    // To nowhere, and to a cell that has no handler.
    for target in ["nobody", "relay.site-1"] {
        let asked = children[0].request(&fqcn(target), CHANNEL, BLOCK, Message::new(block.clone()));
        assert!(!asked.await.unwrap().is_ok(), "{target}");
    }
}

#[tokio::test]
async fn twenty_receivers_behind_a_relay_get_a_file_for_one_copy() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("model");
    let bytes: Vec<u8> =
        (0_u32..2 << 20).flat_map(|word| word.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    std::fs::write(&file, &bytes).unwrap();
    // Half of the file fits.
    let sim = Sim::new().configured(|config| config.block_cache = 5 << 20);
    let server = sim.cell("server", &[]).await;
    let relay = sim.cell("relay", &["server"]).await;
    let children = children(&sim, "relay", 20).await;
    let uplink = Arc::new(AtomicU64::new(0));
    let count = uplink.clone();
    relay.add_filter(Stage::Incoming, CHANNEL, "*", move |passing| {
        if passing.from.is_some_and(|from| from.is_server()) {
            let length = passing.headers.get(cn::PAYLOAD_LEN).and_then(|length| length.as_u64());
            count.fetch_add(length.unwrap_or(0), SeqCst);
        }
        Ok(())
    });
    let mut config = TransferConfig::default();
    config.window = 1 << 20;
    let mut inboxes = Vec::new();
    for child in &children {
        let mut config = TransferConfig::with_inbox(scratch.path().join(child.name().as_str()));
        config.window = 1 << 20;
        inboxes.push(Transfers::attach(child, config).await.unwrap());
    }
    let sender = Transfers::attach(&server, config).await.unwrap();
    let targets: Vec<_> = children.iter().map(|child| child.name().clone()).collect();
    let sending = sender.send_many([&file], &targets, "", SendOptions::default());
    let receipts = join_all(sending.into_iter().map(|sending| sending.receipt())).await;
    let digests: HashSet<_> = receipts.into_iter().map(|receipt| receipt.unwrap().digest).collect();
    assert_eq!(digests.len(), 1);
    for target in &targets {
        assert!(
            std::fs::read(scratch.path().join(target.as_str()).join("model")).unwrap() == bytes,
            "{target}"
        );
    }
    let uplink = uplink.load(SeqCst);
    assert!(uplink <= bytes.len() as u64 * 11 / 10, "{uplink} bytes came down the uplink");
}
