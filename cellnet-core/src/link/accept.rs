//! Takes connections from listeners and makes links of them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{Host, Link, LinkError, chain, handshake, run::run};
use crate::transport::{Accepting, Listener};

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
    let opened = tokio::select! {
        biased;
        () = ticket.pushed_out.cancelled() => Err(LinkError::Crowded(links.config.max_handshakes)),
        () = links.stop.cancelled() => Err(LinkError::ShuttingDown),
        opened = handshake::within(links.config.accept_deadline, async {
            let mut connection = accepting.await?;
            let opened = handshake::passive(&links.identity, &mut connection, &links.config).await?;
            Ok((connection, opened))
        }) => opened,
    };
    drop(ticket);
    let (mut connection, opened) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            links.counters.failed_handshakes.add(1);
            tracing::warn!(error = chain(&error), "connection refused");
            return;
        }
    };
    let link = Link::new(links, &opened.hello, opened.peer, &connection);
    let claimed = async {
        links.table.claim(&link, links.config.probe).await?;
        if opened.wants_ready {
            handshake::within(
                links.config.accept_deadline,
                handshake::send_ready(&links.identity, &mut connection),
            )
            .await?;
        }
        Ok::<_, LinkError>(())
    };
    if let Err(error) = claimed.await {
        links.table.remove(&link);
        links.counters.failed_handshakes.add(1);
        tracing::warn!(peer = %link.peer, remote = %link.info.remote, error = chain(&error), "connection refused");
        return;
    }
    run(host, link, connection, opened.early).await;
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
