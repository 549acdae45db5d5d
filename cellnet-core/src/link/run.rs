//! The life of a link after its handshake.

use std::sync::Arc;

use tokio::task::JoinSet;
use tracing::Instrument;

use super::{
    Host, Link, LinkError, Park, chain,
    reader::{empty_park, read_lane},
    writer::{Counters, write_lane},
};
use crate::transport::{Batch, Connection};

/// Carries messages until the link ends: a writer and a reader for each lane, the control reader in this task.
pub(super) async fn run(host: Host, link: Arc<Link>, connection: Connection, early: Batch) {
    let Connection { control, bulk, .. } = connection;
    let span = tracing::debug_span!("link", peer = %link.peer, remote = %link.info.remote);
    let counters = Arc::new(Counters::default());
    let mut lanes = JoinSet::new();
    let mut readers = Vec::new();
    for (number, lane) in std::iter::once(control).chain(bulk).enumerate() {
        let writer = write_lane(host.links.clone(), link.clone(), number, lane.tx, counters.clone());
        lanes.spawn(guard(link.clone(), writer).instrument(span.clone()));
        readers.push(lane.rx);
    }
    let mut readers = readers.into_iter();
    let control = readers.next().expect("every connection has a control lane");
    for rx in readers {
        let (host, link) = (host.clone(), link.clone());
        let reader = async move {
            let mut park = Park::new(&host.links.config, &host.links.budgets.queues);
            let ended = read_lane(&host, &link, rx, Batch::new(), false, &mut park).await;
            link.close(ended.err().unwrap_or(LinkError::Closed));
            empty_park(&host, &link, park).await;
        };
        lanes.spawn(reader.instrument(span.clone()));
    }
    host.inbox.link_up(&link);
    if host.links.stop.is_cancelled() {
        // The handshake ended after the cell began to stop, which may not have seen this link.
        link.close(LinkError::ShuttingDown);
    }
    let mut park = Park::new(&host.links.config, &host.links.budgets.queues);
    let ended = read_lane(&host, &link, control, early, true, &mut park).instrument(span.clone()).await;
    link.close(ended.err().unwrap_or(LinkError::Closed));
    host.links.table.remove(&link);
    let unsent = link.outbox.drain();
    span.in_scope(|| tracing::debug!(reason = chain(&*link.reason()), unsent = unsent.len(), "link ended"));
    host.inbox.link_down(&link, unsent);
    empty_park(&host, &link, park).await;
    while lanes.join_next().await.is_some() {}
}

/// Ends the link if its writer fails, and the writer if the link ends.
async fn guard(link: Arc<Link>, writer: impl Future<Output = Result<(), LinkError>>) {
    let ended = tokio::select! {
        biased;
        () = link.end.cancelled() => Ok(()),
        ended = writer => ended,
    };
    if let Err(error) = ended {
        link.close(error);
    }
}
