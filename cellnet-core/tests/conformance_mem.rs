//! The suite of all drivers on `mem://`, and on byte streams that do as they like.

use cellnet_core::{
    testkit::conformance::{self, RawWriter, Rig},
    transport::mem::MemNet,
};

fn rig() -> Rig {
    let net = MemNet::new();
    let raw = net.clone();
    Rig::new(net, "mem://here:0", "mem://nobody:1").with_raw(move |url| {
        let net = raw.clone();
        async move {
            let (_, writer) = net.connect_raw(&url).await.map_err(std::io::Error::other)?;
            Ok(Box::new(writer) as RawWriter)
        }
    })
}

conformance::suite!(rig(), start_paused = true);

mod with_bulk_lanes {
    use super::*;

    conformance::suite!(
        Rig::new(MemNet::new().with_bulk_lanes(3), "mem://here", "mem://nobody"),
        start_paused = true
    );
}

#[tokio::test]
async fn partial_writes_of_every_size() {
    conformance::check(conformance::partial_writes_of_every_size()).await;
}
