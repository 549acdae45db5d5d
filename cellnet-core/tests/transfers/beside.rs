//! Small messages beside transfers that fill a link.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use cellnet_core::{
    cell::{Cell, Stage},
    message::Message,
    testkit::sim::{Sim, echo},
    transfer::{self, SendOptions, TransferConfig, Transfers},
};
use tempfile::TempDir;

use crate::support::*;

/// Bytes that the wire takes each way in [`LATENCY`], and no more until then: that is its rate.
const WIRE: usize = BLOCK;
const LATENCY: Duration = Duration::from_millis(10);
/// Blocks that each of the two transfers has asked for, so that they wait at the other end.
const WINDOW: usize = 64;

#[tokio::test(start_paused = true)]
async fn a_small_request_overtakes_the_blocks_that_wait_in_both_directions() {
    let sim = Sim::new();
    let (server, site) = (sim.cell("server", &[]).await, sim.cell("site", &["server"]).await);
    for (from, to) in [("server", "site"), ("site", "server")] {
        sim.net.set_capacity(from, to, WIRE);
        sim.net.set_latency(from, to, LATENCY);
    }
    server.handle("task", "*", echo);
    let (up, down) = (arrivals_at(&server), arrivals_at(&site));
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, content(BLOCKS * BLOCK)).unwrap();
    let mut ends = Vec::new();
    for cell in [&server, &site] {
        let mut config = TransferConfig::with_inbox(dir.path().join(cell.name().as_str()));
        (config.block_size, config.window) = (BLOCK, WINDOW * BLOCK);
        ends.push(Transfers::attach(cell, config).await.unwrap());
    }
    let _down = ends[0].send([&path], site.name(), "", SendOptions::default());
    let _up = ends[1].send([&path], server.name(), "", SendOptions::default());
    until("both transfers are under way", || up.load(SeqCst).min(down.load(SeqCst)) > 2 * WINDOW).await;

    let mut most = 0;
    for _ in 0..50 {
        let before = up.load(SeqCst) + down.load(SeqCst);
        let reply = site.request(server.name(), "task", "t", Message::new("small")).await.unwrap();
        assert!(reply.is_ok());
        most = most.max(up.load(SeqCst) + down.load(SeqCst) - before);
    }
    // There and back, and while it travels blocks come both ways.
    assert!(most <= 2 * 2 * AHEAD, "{most} blocks came before the reply");
    assert!(up.load(SeqCst).max(down.load(SeqCst)) < BLOCKS - WINDOW, "the link was not full to the end");
}

/// Blocks that a small message may find before it: what is on the wire, and one batch that is being written.
const AHEAD: usize = 1 + 4;

const BLOCKS: usize = 2000;

/// Counts the blocks that a cell gets.
fn arrivals_at(cell: &Cell) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    cell.add_filter(Stage::IncomingReply, transfer::CHANNEL, transfer::BLOCK, {
        let count = count.clone();
        move |_| {
            count.fetch_add(1, SeqCst);
            Ok(())
        }
    });
    count
}
