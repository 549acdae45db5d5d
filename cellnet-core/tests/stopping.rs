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
