//! Two transfers that want one place: whoever has it keeps it, unless its sender is known to be gone.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};

use super::{
    Reason, TransferError,
    asker::Asker,
    pull::Pull,
    shared::Pulls,
    wire::{self, ListAsk},
};
use crate::{
    cell::RequestError,
    message::{Message, ReturnCode},
};

/// Waits until nobody else writes to what a transfer is about, and reserves these names for it.
///
/// A sender that was killed is found out by asking for what it offered: a process that knows nothing of it has taken its
/// place, and one that cannot be reached, and has not been for some time, is not waited for. Its transfer ends; what was there
/// of it is begun anew, as it is of something else. A sender that answers keeps its place, and one of which nothing can be
/// said keeps it until its patience ends.
pub(crate) async fn take_place(pulls: &Pulls, asker: &Asker, names: &[&str]) -> Result<(), TransferError> {
    let (pull, began) = (&asker.pull, Instant::now());
    loop {
        let rivals = pulls.claim(pull, names);
        let Some(rival) = rivals.first() else { return Ok(()) };
        let found = sender_of(asker, rival).await;
        pull.touch();
        let unreachable = rival.last_progress().elapsed() >= UNREACHABLE;
        let source = rival.source().cell;
        match found {
            Sender::Gone => end(rival, pull).await,
            Sender::Unreachable if unreachable => end(rival, pull).await,
            Sender::There => {
                let text = format!("'{source}' sends something else there; try again when that has ended");
                return Err(TransferError::here(Reason::Busy, text));
            }
            Sender::Unreachable | Sender::Silent if began.elapsed() >= PATIENCE => {
                let text = format!(
                    "'{source}' sends something else there and does not answer; try again in {:?}, when that has ended",
                    asker.patience.saturating_sub(rival.last_progress().elapsed()),
                );
                return Err(TransferError::here(Reason::Busy, text));
            }
            Sender::Unreachable | Sender::Silent => sleep(PAUSE).await,
        }
    }
}

/// What is known of the sender of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sender {
    /// It has what it offered.
    There,
    /// The process that has its name has not.
    Gone,
    /// No link leads to it.
    Unreachable,
    /// It does not answer.
    Silent,
}

/// Asks the sender of another transfer for what it offered.
async fn sender_of(asker: &Asker, rival: &Pull) -> Sender {
    let source = rival.source();
    let payload = wire::encode(&ListAsk { token: source.token, from: u32::MAX });
    let asked = asker.cell.request(&source.cell, wire::CHANNEL, wire::LIST, Message::new(payload));
    let gone = [ReturnCode::TARGET_UNREACHABLE, ReturnCode::COMM_ERROR, ReturnCode::INVALID_TARGET];
    match asked.optional().timeout(ANSWER).await {
        Ok(reply) if reply.is_ok() => Sender::There,
        Ok(reply) => match wire::refused(&source.cell, &reply) {
            Some(error) if error.reason() == Reason::Stranger => Sender::Gone,
            None if reply.code().is_some_and(|code| gone.contains(&code)) => Sender::Unreachable,
            _ => Sender::Silent,
        },
        Err(RequestError::Unreachable(_) | RequestError::LinkLost { .. }) => Sender::Unreachable,
        Err(_) => Sender::Silent,
    }
}

/// Ends another transfer, and waits until it has left the disk.
async fn end(rival: &Arc<Pull>, pull: &Pull) {
    let (former, source) = (rival.source().cell, pull.source().cell);
    tracing::info!(path = rival.path, %former, %source, "a sender that is gone loses its place to another");
    rival.cancel(TransferError::here(Reason::Busy, format!("'{source}' sends something else there by now")));
    let _ = timeout(ANSWER, rival.gone.cancelled()).await;
}

/// How long a sender may take to say that it is there, and a transfer to leave the disk.
const ANSWER: Duration = Duration::from_secs(5);
/// A sender that cannot be reached is gone if it has sent nothing for so long.
const UNREACHABLE: Duration = Duration::from_secs(10);
/// How long it may take to find out about it.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_secs(1);
