//! What several fetch at the same time.

use std::{fs, time::Duration};

use cellnet_core::{
    Fqcn,
    cell::Cell,
    message::Message,
    transfer::{
        BLOCK as BLOCK_TOPIC, BlockAsk, CANCEL, CHANNEL, FetchOptions, LIST, OPEN, Reason, Token, Transfers,
    },
    wire::{Limits, Value},
};
use futures_util::future::join_all;

use crate::{
    hostile::{bin, map, message, word},
    support::*,
};

#[tokio::test(start_paused = true)]
async fn twenty_who_fetch_one_path_cost_the_uplink_one_copy() {
    const BLOCKS: u64 = 300;
    let net = Net::keeping().await;
    net.slow_down();
    let source = net.outbox().await;
    let path = net.file("model", BLOCKS as usize * BLOCK);
    let fetching = (0..20_u64).map(|at| {
        let net = &net;
        async move {
            let puller = net.sender(&format!("site-{at}")).await;
            tokio::time::sleep(Duration::from_millis(at * 37 % 100)).await;
            let local = net.local(&format!("local-{at}"));
            puller.fetch(&Fqcn::server(), "model", local, FetchOptions::default()).receipt().await
        }
    });
    for receipt in join_all(fetching).await {
        assert_eq!(receipt.unwrap().digest, digest(&path));
    }
    let served = source.stats().blocks_served;
    assert!((BLOCKS..=BLOCKS * 11 / 10).contains(&served), "{served} blocks of {BLOCKS} crossed the uplink");
    assert_eq!(fs::read(net.dir.path().join("local-7/model")).unwrap(), content(BLOCKS as usize * BLOCK));
}

/// Asks for what is at a path; gives the token.
async fn open(cell: &Cell, path: &str) -> Token {
    let reply = ask(cell, OPEN, &map(vec![("path", Value::from(path))])).await;
    let offer = Value::decode(&reply.payload.to_bytes(), Limits::PAYLOAD).unwrap();
    Token(offer.get("token").and_then(Value::as_bin).unwrap()[..].try_into().unwrap())
}

async fn ask(cell: &Cell, topic: &'static str, what: &Value) -> Message {
    cell.request(&Fqcn::server(), CHANNEL, topic, message(what)).await.unwrap()
}

fn list(token: Token) -> Value {
    map(vec![("token", bin(&token.0)), ("from", Value::from(0_u64))])
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_shared_opens_nothing_to_who_did_not_ask() {
    let net = Net::new().await;
    let _source = net.outbox().await;
    net.file("model", 2 * BLOCK);
    let (first, second) = (net.site("first").await, net.site("second").await);
    let token = open(&first, "model").await;
    let block = async |cell: &Cell| {
        let ask = BlockAsk { token, file: 0, block: 0 }.encode();
        cell.request(&Fqcn::server(), CHANNEL, BLOCK_TOPIC, Message::new(ask)).await.unwrap()
    };
    assert_eq!(word(&ask(&second, LIST, &list(token)).await), "stranger");
    assert_eq!(word(&block(&second).await), "stranger");
    assert!(block(&first).await.is_ok());
    assert_eq!(open(&second, "./model").await, token);
    assert!(block(&second).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn another_state_of_a_path_and_another_path_have_tokens_of_their_own() {
    let net = Net::new().await;
    let _source = net.outbox().await;
    let path = net.file("model", 2 * BLOCK);
    fs::hard_link(&path, net.source("same")).unwrap();
    let (first, second) = (net.site("first").await, net.site("second").await);
    let token = open(&first, "model").await;
    assert_ne!(open(&second, "same").await, token);
    fs::write(&path, vec![9; 3 * BLOCK]).unwrap();
    assert_ne!(open(&second, "model").await, token);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_shared_for_some_minutes_and_who_is_done_is_forgotten() {
    let net = Net::new().await;
    let _source = net.outbox().await;
    net.file("model", 2 * BLOCK);
    let (first, second) = (net.site("first").await, net.site("second").await);
    let token = open(&first, "model").await;
    open(&second, "model").await;
    let done = map(vec![
        ("token", bin(&token.0)),
        ("reason", Value::from("cancelled")),
        ("text", Value::from("enough")),
    ]);
    assert!(ask(&first, CANCEL, &done).await.is_ok());
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(61)).await;
        assert!(ask(&second, LIST, &list(token)).await.is_ok());
    }
    assert_eq!(word(&ask(&first, LIST, &list(token)).await), "stranger");
    assert_ne!(open(&first, "model").await, token);
    // Who is at it goes on.
    assert!(ask(&second, LIST, &list(token)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_file_that_changes_while_it_is_shared_ends_for_all_and_is_fetched_anew() {
    let net = Net::new().await;
    let _source = net.outbox().await;
    let path = net.file("model", 100 * BLOCK);
    net.slow_down();
    let (early, late) = (net.sender("early").await, net.sender("late").await);
    let fetch = |puller: &Transfers, local: &str| {
        puller.fetch(&Fqcn::server(), "model", net.local(local), FetchOptions::default())
    };
    let second = fetch(&late, "late");
    let progress = second.progress();
    until("it has begun", || progress.borrow().bytes > 0).await;
    fs::write(&path, vec![9; 100 * BLOCK]).unwrap();
    assert_eq!(second.receipt().await.unwrap_err().reason(), Reason::SourceChanged);
    assert_eq!(fetch(&early, "early").receipt().await.unwrap().digest, digest(&path));
    fs::remove_dir_all(net.dir.path().join("late")).unwrap();
    assert_eq!(fetch(&late, "late").receipt().await.unwrap().digest, digest(&path));
}

/// As above, but one has got everything before, so the source has its digest already.
#[tokio::test(start_paused = true)]
async fn a_file_that_changes_after_one_has_it_is_a_change_to_those_who_are_still_at_it() {
    let net = Net::new().await;
    let mut config = net.outbox_config();
    // Next to nothing is left of what the first one was given.
    (config.cache, config.in_flight) = (2 * BLOCK, 4 << 20);
    let _source = Transfers::attach(&net.server, config).await.unwrap();
    let path = net.file("model", 100 * BLOCK);
    net.sim.net.set_latency("relay", "relay.late", Duration::from_millis(100));
    let (early, late) = (net.sender("early").await, net.sender("late").await);
    let fetch = |puller: &Transfers, local: &str| {
        puller.fetch(&Fqcn::server(), "model", net.local(local), FetchOptions::default())
    };
    let slow = fetch(&late, "late");
    let progress = slow.progress();
    until("it has begun", || progress.borrow().bytes > 0).await;
    fetch(&early, "early").receipt().await.unwrap();
    assert!(progress.borrow().bytes < 90 * BLOCK as u64);
    fs::write(&path, vec![9; 100 * BLOCK]).unwrap();
    assert_eq!(slow.receipt().await.unwrap_err().reason(), Reason::SourceChanged);
    assert_eq!(fetch(&early, "again").receipt().await.unwrap().digest, digest(&path));
}

#[tokio::test(start_paused = true)]
async fn those_who_fetch_the_same_count_as_many() {
    let net = Net::new().await;
    let mut config = net.outbox_config();
    config.max_transfers = 4;
    let _source = Transfers::attach(&net.server, config).await.unwrap();
    net.file("model", 2 * BLOCK);
    for at in 0..4 {
        open(&net.site(&format!("site-{at}")).await, "model").await;
    }
    let reply = ask(&net.site("site-4").await, OPEN, &map(vec![("path", Value::from("model"))])).await;
    assert_eq!(word(&reply), "too_many");
}
