//! The life of a link after its handshake.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;
use tracing::Instrument;

use super::{
    Host, Link, LinkError, Park, chain,
    frames::Numbers,
    reader::{empty_park, read_lane},
    writer::write_lane,
};
use crate::transport::{Batch, Connection};

/// Carries messages until the link ends: a writer and a reader for each lane, the control reader in this task.
pub(super) async fn run(host: Host, link: Arc<Link>, connection: Connection, early: Batch) {
    let Connection { control, bulk, .. } = connection;
    let span = tracing::debug_span!("link", peer = %link.peer, remote = %link.info.remote);
    let numbers = Arc::new(Numbers::default());
    let mut lanes = JoinSet::new();
    let mut bulk_readers = JoinSet::new();
    let mut readers = Vec::new();
    for (number, lane) in std::iter::once(control).chain(bulk).enumerate() {
        let writer = write_lane(host.links.clone(), link.clone(), number, lane.tx, numbers.clone());
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
            match ended.err().unwrap_or(LinkError::ShuttingDown) {
                // The other lanes may still bring what the peer wrote before it left.
                LinkError::Closed => {}
                reason => link.close(reason),
            }
            leave_park(&host, &link, park);
        };
        bulk_readers.spawn(reader.instrument(span.clone()));
    }
    host.inbox.link_up(&link);
    let mut park = Park::new(&host.links.config, &host.links.budgets.queues);
    let ended = read_lane(&host, &link, control, early, true, &mut park).instrument(span.clone()).await;
    let reason = ended.err().unwrap_or(LinkError::ShuttingDown);
    if matches!(reason, LinkError::Closed) {
        ends_of(&mut bulk_readers, &link, host.links.config.stall).await;
    }
    link.close(reason);
    while bulk_readers.join_next().await.is_some() {}
    while lanes.join_next().await.is_some() {}
    span.in_scope(|| bury(&host, &link, LinkError::Closed));
    leave_park(&host, &link, park);
}

/// Waits for bulk that was written before the peer ended its control lane, as long as it comes.
async fn ends_of(bulk_readers: &mut JoinSet<()>, link: &Link, stall: Duration) {
    loop {
        let read = link.info.meter.rx();
        match tokio::time::timeout(stall, bulk_readers.join_next()).await {
            Ok(None) => return,
            Err(_) if link.info.meter.rx() == read => return,
            Ok(Some(_)) | Err(_) => {}
        }
    }
}

/// Takes a link out of the table and tells those who counted on it. The first reason it ended for stays.
pub(super) fn bury(host: &Host, link: &Arc<Link>, reason: LinkError) {
    link.close(reason);
    host.links.table.remove(link);
    let unsent = link.outbox.drain();
    tracing::debug!(peer = %link.peer, reason = chain(&*link.reason()), unsent = unsent.len(), "link ended");
    host.inbox.link_down(link, unsent);
}

/// Lets what a link's reader had set aside find its way without the link, which may be dialled again meanwhile.
fn leave_park(host: &Host, link: &Arc<Link>, park: Park) {
    if !park.is_empty() {
        let (host, link) = (host.clone(), link.clone());
        host.links.tasks.clone().spawn(async move { empty_park(&host, &link, park).await });
    }
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
