//! How a cell ends.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::{Instant, timeout_at};

use super::{Ask, Inner, RequestError};
use crate::{message::Message, wire::keys::cn};

/// Stops in phases: no new connections, bye, handlers, drain, end. What is left at the deadline is ended.
pub(crate) async fn shutdown(inner: &Arc<Inner>, deadline: Duration) {
    let now = Instant::now();
    let deadline = now.checked_add(deadline).unwrap_or(now + FOREVER);
    say_bye(inner).await;
    inner.links.stop.cancel();
    inner.tasks.close();
    if timeout_at(deadline, inner.tasks.wait()).await.is_err() {
        tracing::warn!(me = %inner.me(), "handlers or streams did not end in time and are dropped");
    }
    inner.kill.cancel();
    inner.intake.clear();
    inner.pending.fail_all(&RequestError::ShuttingDown);
    // The writers send what waits and then close; the peers answer by closing too.
    let links = inner.links.table.living();
    links.iter().for_each(|link| link.outbox.close());
    inner.links.tasks.close();
    let _ = timeout_at(deadline, inner.links.tasks.wait()).await;
    inner.links.kill.cancel();
    inner.tasks.wait().await;
    inner.links.tasks.wait().await;
}

async fn say_bye(inner: &Arc<Inner>) {
    if inner.links.stop.is_cancelled() {
        return;
    }
    let byes = inner.links.table.names().into_iter().map(|peer| {
        Ask::new(inner.clone(), peer, CHANNEL.into(), cn::BYE.into(), Message::empty())
            .plain_only()
            .optional()
            .timeout(inner.config.bye)
            .into_future()
    });
    // A peer that does not answer is told by the end of the connection.
    let _ = join_all(byes).await;
}

/// A deadline too far away for a clock.
const FOREVER: Duration = Duration::from_secs(86_400 * 365);

const CHANNEL: &str = cn::CELLNET_CHANNEL;
