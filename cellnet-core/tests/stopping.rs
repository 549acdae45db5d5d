//! Cells that stop at the same moment.

use std::time::Duration;

use cellnet_core::testkit::sim::Sim;
use tokio::time::timeout;

#[tokio::test(start_paused = true)]
async fn neighbours_that_say_bye_to_one_another_both_end() {
    let sim = Sim::new();
    let server = sim.builder("server").listen("mem://server".parse().unwrap()).start().await.unwrap();
    let site = sim.builder("site").dial("mem://server".parse().unwrap()).start().await.unwrap();
    site.connected().await;
    let deadline = Duration::from_secs(5);
    let both = async { tokio::join!(server.shutdown(deadline), site.shutdown(deadline)) };
    timeout(deadline * 2, both).await.expect("cells end by their deadline");
}

#[tokio::test(start_paused = true)]
async fn a_cell_that_stops_while_it_is_dialled_ends() {
    let sim = Sim::new();
    // The handshake takes longer than the shutdown waits for anything else.
    sim.net.set_latency("site", "server", Duration::from_secs(2));
    sim.net.set_latency("server", "site", Duration::from_secs(2));
    for milliseconds in [0, 1000, 1999, 2000, 2001, 3999, 4000, 4001] {
        let server = sim.builder("server").listen("mem://server".parse().unwrap()).start().await.unwrap();
        let site = sim.builder("site").dial("mem://server".parse().unwrap()).start().await.unwrap();
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        let deadline = Duration::from_secs(5);
        timeout(deadline * 2, server.shutdown(deadline)).await.expect("it ends by its deadline");
        timeout(deadline * 2, site.shutdown(deadline)).await.expect("it ends by its deadline");
    }
}
