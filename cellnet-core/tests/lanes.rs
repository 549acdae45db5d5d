//! Connections with several lanes: none of them ends the others.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use cellnet_core::{
    testkit::sim::{Sim, blob, echo},
    transport::mem::MemNet,
};

fn sim() -> Sim {
    Sim { net: MemNet::new().with_bulk_lanes(3), ..Sim::new() }
}

#[tokio::test(start_paused = true)]
async fn what_was_written_before_the_end_arrives_on_every_lane() {
    let sim = sim();
    let (server, site) = (sim.cell("server", &[]).await, sim.cell("site", &["server"]).await);
    let seen = Arc::new(AtomicUsize::new(0));
    server.handle("task", "*", {
        let seen = seen.clone();
        move |request| {
            seen.fetch_add(1, SeqCst);
            echo(request)
        }
    });
    // The lanes end one after the other: those that are empty at once.
    sim.net.set_capacity("site", "server", 1024);
    sim.net.set_latency("site", "server", Duration::from_millis(100));
    for bytes in [1, 100, 70_000, 10, 10_000, 100_000, 5] {
        site.fire_and_forget(server.name(), "task", "t", blob(bytes)).await.unwrap();
    }
    site.shutdown(Duration::from_secs(600)).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(seen.load(SeqCst), 7);
}

#[tokio::test(start_paused = true)]
async fn requests_of_every_size_are_answered() {
    let sim = sim();
    let (server, site) = (sim.cell("server", &[]).await, sim.cell("site", &["server"]).await);
    server.handle("task", "*", echo);
    for bytes in [0, 10, 70_000, 3 << 20] {
        let reply = site.request(server.name(), "task", "t", blob(bytes)).await.unwrap();
        assert_eq!(reply.payload.as_bytes().len(), bytes, "{reply:?}");
    }
}
