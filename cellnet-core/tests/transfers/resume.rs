//! What is not sent twice.

use std::{fs, path::PathBuf, time::Duration};

use cellnet_core::{
    Fqcn,
    cell::Stage,
    message::{Message, ReturnCode},
    transfer::{FetchOptions, Outgoing, Reason, SendOptions, Transfers},
};

use crate::support::*;

const LEN: usize = 200 * BLOCK + 77;
/// What may travel twice: 5 %.
const TWICE: u64 = LEN as u64 / 20;

/// Waits until a good part of a file is in the inbox.
async fn half_way(net: &Net) {
    let partial = net.inbox().join("model.cellnet-partial");
    until("half of it is there", || fs::metadata(&partial).is_ok_and(|file| file.len() > LEN as u64 / 2))
        .await;
}

/// A transfer of a file to the server that is half way.
async fn begun(net: &Net, sender: &Transfers) -> (PathBuf, Outgoing) {
    let path = net.file("model", LEN);
    let sending = sender.send([&path], &Fqcn::server(), "", SendOptions::default());
    half_way(net).await;
    (path, sending)
}

#[tokio::test(start_paused = true)]
async fn a_partition_only_costs_time() {
    let net = Net::slow().await;
    let _receiver = net.receiver().await;
    let sender = net.sender("site").await;
    let (path, sending) = begun(&net, &sender).await;
    net.sim.net.partition("relay", "server");
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(sending.progress().borrow().waiting);
    net.sim.net.heal("relay", "server");
    let receipt = sending.receipt().await.unwrap();
    assert_eq!(receipt.digest, digest(&path));
    assert_eq!((receipt.received, receipt.resumed), (LEN as u64, 0));
}

#[tokio::test(start_paused = true)]
async fn a_partition_longer_than_the_patience_is_a_typed_error_at_both_ends() {
    let net = Net::slow().await;
    let receiver = net.receiver().await;
    let mut arrivals = receiver.arrivals();
    let sender = net.sender("site").await;
    let (_, sending) = begun(&net, &sender).await;
    net.sim.net.partition("relay", "server");
    assert_eq!(sending.receipt().await.unwrap_err().reason(), Reason::Stalled);
    assert_eq!(arrivals.next().await.unwrap().outcome.unwrap_err().reason(), Reason::Stalled);
    assert_eq!(net.received(), ["model.cellnet-journal", "model.cellnet-partial"]);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_begins_again_asks_for_what_is_missing() {
    let net = Net::slow().await;
    let receiver = net.receiver().await;
    let sender = net.sender("site").await;
    let (path, sending) = begun(&net, &sender).await;
    net.server.cancel();
    drop(receiver);
    tokio::time::sleep(Duration::from_secs(20)).await;
    let server = net.sim.cell("server", &[]).await;
    let _receiver = Transfers::attach(&server, net.inbox_config()).await.unwrap();
    let receipt = sending.receipt().await.unwrap();
    assert_eq!(receipt.digest, digest(&path));
    assert!(receipt.resumed > LEN as u64 / 2, "{}", receipt.resumed);
    assert_eq!(receipt.resumed + receipt.received, LEN as u64);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_stops_politely_is_waited_for() {
    let net = Net::slow().await;
    let receiver = net.receiver().await;
    let mut arrivals = receiver.arrivals();
    let sender = net.sender("site").await;
    let (path, sending) = begun(&net, &sender).await;
    receiver.shutdown().await;
    assert_eq!(arrivals.next().await.unwrap().outcome.unwrap_err().reason(), Reason::ShuttingDown);
    drop(receiver);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let _receiver = net.receiver().await;
    let receipt = sending.receipt().await.unwrap();
    assert_eq!(receipt.digest, digest(&path));
    assert_eq!(receipt.resumed + receipt.received, LEN as u64);
    assert!(receipt.resumed > LEN as u64 / 2);
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_begins_again_under_another_name_goes_on() {
    let net = Net::slow().await;
    let _receiver = net.receiver().await;
    let site = net.site("first").await;
    let sender = Transfers::attach(&site, sender_config()).await.unwrap();
    let (path, sending) = begun(&net, &sender).await;
    // As if it was killed: nobody is told.
    site.cancel();
    drop((sending, sender, site));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let sender = net.sender("second").await;
    let receipt = send(&sender, &path, "").await.unwrap();
    assert_eq!(receipt.digest, digest(&path));
    assert!(receipt.received <= LEN as u64 + TWICE, "{}", receipt.received);
}

#[tokio::test(start_paused = true)]
async fn both_ends_that_begin_again_go_on() {
    let net = Net::slow().await;
    let receiver = net.receiver().await;
    let site = net.site("first").await;
    let sender = Transfers::attach(&site, sender_config()).await.unwrap();
    let (path, sending) = begun(&net, &sender).await;
    site.cancel();
    net.server.cancel();
    drop((sending, sender, site, receiver));
    tokio::time::sleep(Duration::from_secs(5)).await;
    let server = net.sim.cell("server", &[]).await;
    let _receiver = Transfers::attach(&server, net.inbox_config()).await.unwrap();
    let sender = net.sender("second").await;
    let sending = sender.send([&path], &Fqcn::server(), "", SendOptions::default());
    let progress = sending.progress();
    let receipt = sending.receipt().await.unwrap();
    assert_eq!(receipt.digest, digest(&path));
    assert!(receipt.resumed > LEN as u64 / 2);
    assert_eq!(receipt.resumed + receipt.received, LEN as u64);
    assert_eq!(progress.borrow().resumed_from, receipt.resumed);
}

#[tokio::test(start_paused = true)]
async fn a_given_up_transfer_is_taken_up_and_its_damaged_disk_noticed() {
    let net = Net::slow().await;
    let receiver = net.receiver().await;
    let mut arrivals = receiver.arrivals();
    let sender = net.sender("site").await;
    let (path, sending) = begun(&net, &sender).await;
    assert_eq!(sending.cancel().receipt().await.unwrap_err().reason(), Reason::Cancelled);
    assert_eq!(arrivals.next().await.unwrap().outcome.unwrap_err().reason(), Reason::Cancelled);
    // A byte of the data, and the end of the journal.
    let partial = net.inbox().join("model.cellnet-partial");
    let mut bytes = fs::read(&partial).unwrap();
    bytes[BLOCK + 9] ^= 1;
    fs::write(&partial, &bytes).unwrap();
    let journal = net.inbox().join("model.cellnet-journal");
    let length = fs::metadata(&journal).unwrap().len();
    fs::OpenOptions::new().write(true).open(&journal).unwrap().set_len(length - 10).unwrap();
    let receipt = send(&sender, &path, "").await.unwrap();
    assert_eq!(receipt.digest, digest(&path));
    assert_eq!(receipt.resumed + receipt.received, LEN as u64);
    assert!(receipt.resumed >= (LEN / 2 - 2 * BLOCK) as u64);
    assert_eq!(digest(&net.inbox().join("model")), digest(&path));
}

#[tokio::test(start_paused = true)]
async fn another_state_of_the_source_begins_anew() {
    let net = Net::slow().await;
    let _receiver = net.receiver().await;
    let sender = net.sender("site").await;
    let (path, sending) = begun(&net, &sender).await;
    drop(sending);
    let mut changed = content(LEN);
    changed.reverse();
    fs::write(&path, changed).unwrap();
    let receipt = send(&sender, &path, "").await.unwrap();
    assert_eq!((receipt.resumed, receipt.received), (0, LEN as u64));
    assert_eq!(digest(&net.inbox().join("model")), digest(&path));
}

/// The sender is killed, its file changes, and it is sent by a process of the same name, or of another.
#[tokio::test(start_paused = true)]
async fn what_a_killed_sender_has_left_gives_way_to_another_state() {
    for name in ["first", "second"] {
        let net = Net::slow().await;
        let receiver = net.receiver().await;
        let mut arrivals = receiver.arrivals();
        let site = net.site("first").await;
        let sender = Transfers::attach(&site, sender_config()).await.unwrap();
        let (path, sending) = begun(&net, &sender).await;
        site.cancel();
        drop((sending, sender, site));
        fs::write(&path, vec![7; LEN]).unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let began = tokio::time::Instant::now();
        let sender = net.sender(name).await;
        let receipt = send(&sender, &path, "").await.unwrap();
        assert_eq!((receipt.resumed, receipt.received), (0, LEN as u64), "{name}");
        assert!(began.elapsed() < Duration::from_secs(60), "{name}: {:?}", began.elapsed());
        assert_eq!(digest(&net.inbox().join("model")), digest(&path));
        assert_eq!(arrivals.next().await.unwrap().outcome.unwrap_err().reason(), Reason::Busy);
        assert!(arrivals.next().await.unwrap().outcome.is_ok());
    }
}

/// Nothing is known of a sender whose host is out of reach while no link was lost.
#[tokio::test(start_paused = true)]
async fn a_sender_that_does_not_answer_keeps_its_place_and_the_other_hears_for_how_long() {
    let net = Net::slow().await;
    let _receiver = net.receiver().await;
    let (first, second) = (net.sender("first").await, net.sender("second").await);
    let (path, sending) = begun(&net, &first).await;
    net.sim.net.set_latency("relay", "relay.first", Duration::from_secs(100));
    let other = net.file("other", LEN);
    let error = send(&second, &other, "model").await.unwrap_err();
    assert_eq!(error.reason(), Reason::Busy);
    assert!(error.text().contains("try again in"), "{error}");
    net.sim.net.set_latency("relay", "relay.first", Duration::ZERO);
    assert_eq!(sending.receipt().await.unwrap().digest, digest(&path));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_begins_again_is_asked_again() {
    let net = Net::slow().await;
    let config = net.outbox_config();
    let source = Transfers::attach(&net.server, config.clone()).await.unwrap();
    let path = net.file("model", LEN);
    let puller = net.sender("site").await;
    let local = net.local("local");
    let fetching = puller.fetch(&Fqcn::server(), "model", &local, FetchOptions::default());
    let progress = fetching.progress();
    until("half of it is there", || progress.borrow().bytes > LEN as u64 / 2).await;
    net.server.cancel();
    drop(source);
    tokio::time::sleep(Duration::from_secs(20)).await;
    let server = net.sim.cell("server", &[]).await;
    let _source = Transfers::attach(&server, config).await.unwrap();
    let receipt = fetching.receipt().await.unwrap();
    assert_eq!(receipt.digest, digest(&path));
    assert!(receipt.received <= LEN as u64 + TWICE);
}

/// The receiver has put the file into place, and then the sender ends before it hears of it.
#[tokio::test(start_paused = true)]
async fn a_delivery_that_the_sender_does_not_know_of_is_confirmed_later() {
    let net = Net::new().await;
    let receiver = net.receiver().await;
    let site = net.site("first").await;
    let sender = Transfers::attach(&site, sender_config()).await.unwrap();
    let path = net.file("model", 10 * BLOCK);
    let placed = net.inbox().join("model");
    let (cell, watched) = (site.clone(), placed.clone());
    // The filter sees the last word of the receiver come, and ends the sender.
    site.add_filter(cellnet_core::cell::Stage::Incoming, "cellnet_transfer", "done", move |_| {
        if watched.exists() {
            cell.cancel();
        }
        Ok(())
    });
    let sending = sender.send([&path], &Fqcn::server(), "", SendOptions::default());
    until("it is in place", || placed.exists()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop((sending, sender));
    net.server.cancel();
    drop(receiver);
    assert_eq!(net.received(), ["model", "model.cellnet-journal"]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let server = net.sim.cell("server", &[]).await;
    let _receiver = Transfers::attach(&server, net.inbox_config()).await.unwrap();
    let sender = net.sender("second").await;
    let receipt = send(&sender, &path, "").await.unwrap();
    assert_eq!((receipt.received, receipt.resumed), (0, 10 * BLOCK as u64));
    until("the journal is gone", || net.received() == ["model"]).await;
    // Now it is known, and this is another one.
    assert_eq!(send(&sender, &path, "").await.unwrap_err().reason(), Reason::Exists);
}

/// The source never hears that everything is in place.
#[tokio::test(start_paused = true)]
async fn a_last_word_that_is_lost_is_found_out_and_nobody_waits_for_it() {
    let net = Net::new().await;
    let receiver = net.receiver().await;
    let mut arrivals = receiver.arrivals();
    let site = net.site("site").await;
    let sender = Transfers::attach(&site, sender_config()).await.unwrap();
    let placed = net.inbox().join("model");
    site.add_filter(Stage::Incoming, "cellnet_transfer", "done", move |_| match placed.exists() {
        true => Err(Message::failure(ReturnCode::SERVICE_UNAVAILABLE, "not now")),
        false => Ok(()),
    });
    let began = tokio::time::Instant::now();
    let path = net.file("model", 10 * BLOCK);
    assert_eq!(send(&sender, &path, "").await.unwrap().digest, digest(&path));
    assert!(arrivals.next().await.unwrap().outcome.is_ok());
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

/// A block takes eight seconds, and the window half a minute.
#[tokio::test(start_paused = true)]
async fn a_slow_link_carries_no_block_twice() {
    let net = Net::new().await;
    net.sim.net.set_latency("relay", "server", Duration::from_secs(1));
    net.sim.net.set_capacity("relay", "server", 8 << 10);
    let _receiver = net.receiver().await;
    let sender = net.sender("site").await;
    let path = net.file("model", 12 * BLOCK);
    assert_eq!(send(&sender, &path, "").await.unwrap().digest, digest(&path));
    assert_eq!(sender.stats().blocks_served, 12);
}
