//! Takes connections from listeners and makes links of them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{
    Host, Link, LinkError, Links, chain, handshake,
    run::{bury, run},
};
use crate::transport::{Accepting, Batch, Connection, Listener};

/// Accepts until the cell stops. Every handshake runs in a task of its own.
pub(crate) async fn accept_loop(host: Host, mut listener: Box<dyn Listener>) {
    let url = listener.local_url().to_string();
    let mut pause = MIN_PAUSE;
    loop {
        let accepted = tokio::select! {
            biased;
            () = host.links.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(accepting) => {
                pause = MIN_PAUSE;
                let span = tracing::debug_span!("accept", %url);
                host.links.tasks.spawn(serve(host.clone(), accepting).instrument(span));
            }
            Err(error) => {
                tracing::warn!(%url, error = chain(&error), "cannot accept a connection, trying again in {pause:?}");
                let stop = host.links.stop.cancelled();
                let _ = tokio::time::timeout(pause, stop).await;
                pause = (pause * 2).min(MAX_PAUSE);
            }
        }
    }
}

/// Out of file descriptors, most likely: waiting helps, spinning does not.
const MIN_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(1);

async fn serve(host: Host, accepting: Accepting) {
    let links = &host.links;
    let ticket = links.handshakes.begin(links.config.max_handshakes);
    // What is known of a peer whose handshake fails.
    let (mut remote, mut claimed) = (String::new(), None);
    let opened = tokio::select! {
        biased;
        () = ticket.pushed_out.cancelled() => Err(LinkError::Crowded(links.config.max_handshakes)),
        () = links.stop.cancelled() => Err(LinkError::ShuttingDown),
        opened = open(links, accepting, &mut remote, &mut claimed) => opened,
    };
    drop(ticket);
    match opened {
        Ok((link, connection, early)) => run(host, link, connection, early).await,
        // Somebody who looked in, lost a race, or read a page.
        Err(LinkError::Closed) if claimed.is_none() => {
            tracing::debug!(remote, "connection closed before HELLO")
        }
        Err(error) => {
            links.counters.failed_handshakes.add(1);
            if links.refusals.allows() {
                tracing::warn!(remote, error = chain(&error), "connection refused");
            }
            if let Some(link) = claimed {
                bury(&host, &link, error);
            }
        }
    }
}

/// The passive side of a handshake: HELLO, the claim of the name, READY.
async fn open(
    links: &Links,
    accepting: Accepting,
    remote: &mut String,
    claimed: &mut Option<Arc<Link>>,
) -> Result<(Arc<Link>, Connection, Batch), LinkError> {
    let (set_up, deadline) = (links.config.set_up_deadline, links.config.accept_deadline);
    let accepted = tokio::time::timeout(set_up, accepting).await;
    let mut connection = accepted.map_err(|_| LinkError::SetUpTimeout(set_up))??;
    remote.clone_from(&connection.info.remote);
    let opened = handshake::within(deadline, handshake::passive(links, &mut connection)).await?;
    let link = Link::new(links, &opened, &connection);
    links.table.claim(&link, &links.config).await?;
    *claimed = Some(link.clone());
    if opened.wants_ready {
        handshake::within(deadline, handshake::send_ready(links, &mut connection)).await?;
    }
    Ok((link, connection, opened.early))
}

/// Handshakes in progress, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Handshakes {
    open: Arc<Mutex<BTreeMap<u64, CancellationToken>>>,
    next: std::sync::atomic::AtomicU64,
}

/// A place among them, given back on drop.
#[derive(Debug)]
struct Ticket {
    id: u64,
    pushed_out: CancellationToken,
    open: Arc<Mutex<BTreeMap<u64, CancellationToken>>>,
}

impl Handshakes {
    fn begin(&self, max: usize) -> Ticket {
        let id = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let pushed_out = CancellationToken::new();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.insert(id, pushed_out.clone());
        while open.len() > max {
            open.pop_first().into_iter().for_each(|(_, oldest)| oldest.cancel());
        }
        drop(open);
        Ticket { id, pushed_out, open: self.open.clone() }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}
