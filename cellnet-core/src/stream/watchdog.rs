//! The clock of one incoming stream.

use std::{future::pending, sync::Arc};

use tokio::time::{Instant, sleep_until};

use super::{StreamError, incoming::Incoming};
use crate::cell::{Inner, RequestError};

/// What an incoming stream waits for.
#[derive(Debug)]
pub(super) enum Waiting {
    /// A chunk until then, or the application.
    Chunk(Option<Instant>),
    /// Room for an ACK, and a chunk until then.
    Ack(Option<Instant>),
    /// Room for a handler.
    Handler,
    /// Nothing.
    Over,
}

/// Ends a stream whose deadline passes, and sees to what readers of links could not wait for.
pub(super) async fn watch_over(inner: Arc<Inner>, incoming: Arc<Incoming>) {
    let mut since = None;
    loop {
        let waiting = incoming.waiting();
        let patience = |since: Instant| inner.intake.progress().max(since) + inner.config.link.patience;
        let deadline = match &waiting {
            Waiting::Over => return,
            // The reader moves the deadline without a word, so this looks again.
            Waiting::Chunk(deadline) | Waiting::Ack(deadline) => {
                Some(deadline.unwrap_or_else(|| Instant::now() + inner.config.stream.idle_patience))
            }
            Waiting::Handler => Some(patience(*since.get_or_insert_with(Instant::now))),
        };
        tokio::select! {
            biased;
            () = inner.kill.cancelled() => return incoming.fail(&inner, RequestError::ShuttingDown.into()),
            () = inner.links.stop.cancelled(), if incoming.ends_at_stop() => {
                return incoming.fail(&inner, StreamError::Carrier(RequestError::ShuttingDown));
            }
            () = incoming.wake.notified() => {}
            () = incoming.acknowledge_later(&inner), if matches!(waiting, Waiting::Ack(_)) => {}
            () = until(deadline) => {
                if let Err(error) = incoming.expire() {
                    return incoming.fail(&inner, error.into());
                }
                if matches!(waiting, Waiting::Handler) && since.is_some_and(|since| patience(since) <= Instant::now()) {
                    return incoming.offer_again(&inner, true);
                }
            }
        }
        if matches!(incoming.waiting(), Waiting::Handler) {
            incoming.offer_again(&inner, false);
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}
