//! What goes wrong on disk and between writers.

use std::{fs, time::Duration};

use cellnet_core::{
    Fqcn,
    transfer::{FetchOptions, Reason, SendOptions, TransferConfig, Transfers},
};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn a_source_that_changes_while_it_is_read_ends_it_at_both_ends() {
    for change in ["shrinks", "grows", "is rewritten", "is replaced", "is removed"] {
        let net = Net::slow().await;
        let receiver = net.receiver().await;
        let mut arrivals = receiver.arrivals();
        let sender = net.sender("site").await;
        let path = net.file("model", 100 * BLOCK);
        let sending = sender.send([&path], &Fqcn::server(), "", SendOptions::default());
        let partial = net.inbox().join("model.cellnet-partial");
        until("some of it is there", || {
            fs::metadata(&partial).is_ok_and(|file| file.len() > 9 * BLOCK as u64)
        })
        .await;
        match change {
            "shrinks" => {
                fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(20 * BLOCK as u64).unwrap()
            }
            "grows" => {
                fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(200 * BLOCK as u64).unwrap()
            }
            "is rewritten" => fs::write(&path, vec![9; 100 * BLOCK]).unwrap(),
            // Who has it open reads on, and it is whole.
            "is replaced" => {
                fs::write(net.source("other"), vec![9; 100 * BLOCK]).unwrap();
                fs::rename(net.source("other"), &path).unwrap();
            }
            _ => fs::remove_file(&path).unwrap(),
        }
        let (sent, arrived) = (sending.receipt().await, arrivals.next().await.unwrap().outcome);
        if matches!(change, "is replaced" | "is removed") {
            assert_eq!(sent.unwrap().digest, *blake3::hash(&content(100 * BLOCK)).as_bytes(), "{change}");
            assert!(arrived.is_ok());
            continue;
        }
        assert_eq!(sent.unwrap_err().reason(), Reason::SourceChanged, "{change}");
        assert_eq!(arrived.unwrap_err().reason(), Reason::SourceChanged, "{change}");
        assert!(!net.inbox().join("model").exists(), "{change}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_writers_of_one_file_the_second_is_refused() {
    let net = Net::slow().await;
    let _receiver = net.receiver().await;
    let (first, second) = (net.sender("first").await, net.sender("second").await);
    let path = net.file("model", 400 * BLOCK);
    let sending = first.send([&path], &Fqcn::server(), "", SendOptions::default());
    until("it has begun", || net.received().len() == 2).await;
    let other = net.file("other", 300 * BLOCK);
    let error = send(&second, &other, "model").await.unwrap_err();
    assert_eq!(error.reason(), Reason::Busy, "{error}");
    assert_eq!(sending.receipt().await.unwrap().digest, digest(&path));
    assert_eq!(digest(&net.inbox().join("model")), digest(&path));
}

#[tokio::test(start_paused = true)]
async fn two_processes_do_not_fetch_to_one_place() {
    let net = Net::slow().await;
    let _source = net.outbox().await;
    let path = net.file("model", 200 * BLOCK);
    let (first, second) = (net.sender("first").await, net.sender("second").await);
    let local = net.local("local");
    let fetching = first.fetch(&Fqcn::server(), "model", &local, FetchOptions::default());
    until("it has begun", || names(&local).len() == 2).await;
    let error =
        second.fetch(&Fqcn::server(), "model", &local, FetchOptions::default()).receipt().await.unwrap_err();
    assert_eq!(error.reason(), Reason::Busy);
    assert_eq!(fetching.receipt().await.unwrap().digest, digest(&path));
}

#[tokio::test(start_paused = true)]
async fn a_place_that_is_no_directory_or_not_there_is_a_typed_error() {
    let net = Net::new().await;
    let _receiver = net.receiver().await;
    let sender = net.sender("site").await;
    let path = net.file("a", 10);
    send(&sender, &path, "file").await.unwrap();
    assert_eq!(send(&sender, &path, "file/below").await.unwrap_err().reason(), Reason::Exists);
    let mut config = TransferConfig::default();
    config.outbox = Some(net.dir.path().join("nowhere"));
    assert_eq!(Transfers::attach(&net.server, config).await.unwrap_err().reason(), Reason::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_is_given_up_leaves_no_offer_and_no_file() {
    let net = Net::slow().await;
    let mut config = net.outbox_config();
    config.max_transfers = 4;
    let _source = Transfers::attach(&net.server, config).await.unwrap();
    let path = net.file("model", 100 * BLOCK);
    let puller = net.sender("site").await;
    for round in 0..4 {
        let local = net.local(&format!("local-{round}"));
        let fetching = puller.fetch(&Fqcn::server(), "model", &local, FetchOptions::default());
        let progress = fetching.progress();
        until("some of it is there", || progress.borrow().bytes > 0).await;
        let error = fetching.cancel().receipt().await.unwrap_err();
        assert_eq!(error.reason(), Reason::Cancelled, "{error}");
        assert!(!local.join("model").exists());
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    let local = net.dir.path().join("local-0");
    let receipt =
        puller.fetch(&Fqcn::server(), "model", &local, FetchOptions::default()).receipt().await.unwrap();
    assert_eq!(receipt.digest, digest(&path));
    assert!(receipt.resumed > 0);
}

#[tokio::test(start_paused = true)]
async fn a_cell_that_stops_its_transfers_says_so() {
    let net = Net::slow().await;
    let receiver = net.receiver().await;
    let mut arrivals = receiver.arrivals();
    let sender = net.sender("site").await;
    let path = net.file("model", 100 * BLOCK);
    let sending = sender.send([&path], &Fqcn::server(), "", SendOptions::default());
    until("it has begun", || net.inbox().join("model.cellnet-partial").exists()).await;
    sender.shutdown().await;
    assert_eq!(sending.receipt().await.unwrap_err().reason(), Reason::ShuttingDown);
    assert_eq!(arrivals.next().await.unwrap().outcome.unwrap_err().reason(), Reason::ShuttingDown);
}
