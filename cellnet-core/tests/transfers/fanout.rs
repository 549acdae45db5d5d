//! One source, many receivers.

use std::{fs, time::Duration};

use cellnet_core::{
    Fqcn,
    transfer::{SendOptions, TransferConfig, Transfers},
};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn eight_receivers_cost_one_reading() {
    let net = Net::new().await;
    let path = net.file("model", 100 * BLOCK + 5);
    let mut receivers = Vec::new();
    let mut targets: Vec<Fqcn> = Vec::new();
    for at in 0..8 {
        let cell = net.site(&format!("site-{at}")).await;
        let mut config = TransferConfig::with_inbox(net.dir.path().join(format!("inbox-{at}")));
        config.window = 4 * BLOCK;
        targets.push(cell.name().clone());
        receivers.push(Transfers::attach(&cell, config).await.unwrap());
        // They are not equally fast.
        let name = format!("relay.site-{at}");
        net.sim.net.set_latency("relay", &name, Duration::from_millis(1 + at % 2));
    }
    let sender = Transfers::attach(&net.server, sender_config()).await.unwrap();
    let sending = sender.send_many([&path], &targets, "", SendOptions::default());
    for running in sending {
        assert_eq!(running.receipt().await.unwrap().digest, digest(&path));
    }
    let stats = sender.stats();
    assert_eq!(stats.blocks_served, 8 * 101);
    assert_eq!(stats.blocks_read, 101);
    for at in 0..8 {
        assert_eq!(
            fs::read(net.dir.path().join(format!("inbox-{at}/model"))).unwrap(),
            content(100 * BLOCK + 5)
        );
    }
    until("nothing is kept", || sender.stats().memory == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_is_named_twice_is_one() {
    let net = Net::new().await;
    let _receiver = net.receiver().await;
    let sender = net.sender("site").await;
    let path = net.file("model", 3 * BLOCK);
    let targets = [Fqcn::server(), Fqcn::server()];
    for running in sender.send_many([&path], &targets, "", SendOptions::default()) {
        assert_eq!(running.receipt().await.unwrap().digest, digest(&path));
    }
}

#[tokio::test(start_paused = true)]
async fn one_receiver_that_fails_is_no_matter_to_the_others() {
    let net = Net::new().await;
    let path = net.file("model", 30 * BLOCK);
    let good = net.site("good").await;
    let inbox = TransferConfig::with_inbox(net.dir.path().join("inbox-good"));
    let _receiver = Transfers::attach(&good, inbox).await.unwrap();
    let _none = Transfers::attach(&net.site("bad").await, TransferConfig::default()).await.unwrap();
    let sender = Transfers::attach(&net.server, sender_config()).await.unwrap();
    let targets: Vec<Fqcn> = ["relay.good", "relay.bad"].map(|name| name.parse().unwrap()).into();
    let mut outcomes = Vec::new();
    for running in sender.send_many([&path], &targets, "", SendOptions::default()) {
        outcomes.push(running.receipt().await);
    }
    assert!(outcomes[0].is_ok() && outcomes[1].is_err(), "{outcomes:?}");
}

#[tokio::test(start_paused = true)]
async fn transfers_to_one_cell_share_what_they_may_ask_for() {
    let net = Net::new().await;
    let mut config = net.inbox_config();
    (config.window, config.windows) = (100 * BLOCK, 4 * BLOCK);
    let _receiver = Transfers::attach(&net.server, config).await.unwrap();
    net.sim.net.set_latency("relay.site", "relay", Duration::from_millis(20));
    net.sim.net.set_capacity("relay.site", "relay", BLOCK);
    let sender = net.sender("site").await;
    let sending: Vec<_> = (0..6)
        .map(|at| {
            let path = net.file(&format!("model-{at}"), 40 * BLOCK);
            sender.send([path], &Fqcn::server(), "", SendOptions::default())
        })
        .collect();
    let watched = sender.clone();
    let watching = tokio::spawn(async move {
        let mut most = 0;
        while watched.stats().blocks_read < 6 * 40 {
            most = most.max(watched.stats().memory);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        most
    });
    for running in sending {
        running.receipt().await.unwrap();
    }
    let most = watching.await.unwrap();
    // Each has two, four are shared, and some are written but not yet forgotten at the source.
    assert!(most > 0 && most <= 2 * (6 * 2 + 4) * (BLOCK + 32), "{most} bytes on their way");
}

/// Receivers with windows far beyond what the source may hold.
#[tokio::test(start_paused = true)]
async fn a_source_holds_no_more_blocks_than_it_may() {
    let net = Net::new().await;
    let path = net.file("model", 400 * BLOCK);
    let (mut receivers, mut targets) = (Vec::new(), Vec::new());
    for at in 0..6 {
        let cell = net.site(&format!("site-{at}")).await;
        let mut config = TransferConfig::with_inbox(net.dir.path().join(format!("inbox-{at}")));
        config.window = 200 * BLOCK;
        targets.push(cell.name().clone());
        receivers.push(Transfers::attach(&cell, config).await.unwrap());
    }
    net.sim.net.set_latency("server", "relay", Duration::from_millis(50));
    net.sim.net.set_capacity("server", "relay", 4 * BLOCK);
    let mut config = sender_config();
    (config.cache, config.in_flight) = (4 * BLOCK, 4 << 20);
    let limit = 4 * BLOCK + (4 << 20);
    let sender = Transfers::attach(&net.server, config).await.unwrap();
    let mut sending = Vec::new();
    for target in &targets {
        sending.push(sender.send([&path], target, "", SendOptions::default()));
    }
    let (watched, most) = (sender.clone(), std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0)));
    let seen = most.clone();
    let watching = tokio::spawn(async move {
        loop {
            seen.fetch_max(watched.stats().memory, std::sync::atomic::Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    for running in sending {
        running.receipt().await.unwrap();
    }
    watching.abort();
    let most = most.load(std::sync::atomic::Ordering::Relaxed);
    assert!(most <= limit && most > limit / 2, "{most} of {limit}");
}
