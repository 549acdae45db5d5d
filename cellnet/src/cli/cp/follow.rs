//! Watches transfers until they end.

use std::time::Duration;

use cellnet::{
    Fqcn, ReturnCode,
    transfer::{Outgoing, Phase, Progress, Reason, Receipt, TransferError},
};
use tokio::{task::JoinSet, time::Instant};

use super::{
    reference::DownloadError,
    view::{Reach, Shown},
};
use crate::cli::status::{Failure, Status, chain};

/// Copies that run at the same time. Dropped, they are given up.
#[derive(Debug, Default)]
pub(crate) struct Following {
    tasks: JoinSet<(usize, Ended)>,
}

/// How a transfer ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) reach: Reach,
    /// The digest.
    pub(crate) outcome: Result<String, Lost>,
}

/// Why there is no receipt.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    #[error("{}{}", .0, advice(.0))]
    Transfer(TransferError),
    #[error("{}", chain(.0))]
    Download(DownloadError),
    #[error("'{peer}' could not be reached within {within:?}; check its name, and that it is connected")]
    Unreached { peer: Fqcn, within: Duration },
    #[error("cannot write to standard output: {0}")]
    Output(std::io::Error),
}

/// What the user can do about it.
fn advice(error: &TransferError) -> &'static str {
    match error.reason() {
        Reason::Exists => "; --overwrite replaces what is there",
        Reason::Stalled => "; run the same command again to go on from here",
        _ => "",
    }
}

impl Following {
    /// One more.
    pub(crate) fn add(&mut self, copy: impl Future<Output = Ended> + Send + 'static) {
        let at = self.tasks.len();
        self.tasks.spawn(async move { (at, copy.await) });
    }

    /// Waits for all of them; how they ended, in the order in which they were added.
    pub(crate) async fn all(&mut self) -> Vec<Ended> {
        let mut ended = Vec::new();
        while let Some(task) = self.tasks.join_next().await {
            ended.push(task.expect("a task that follows does not panic and is not aborted"));
        }
        ended.sort_by_key(|(at, _)| *at);
        ended.into_iter().map(|(_, ended)| ended).collect()
    }
}

/// Shows a transfer until it ends. `timeout` is how long its target may be out of reach at first.
pub(crate) async fn follow(running: Outgoing, mut shown: Shown, peer: Fqcn, timeout: Duration) -> Ended {
    let mut reach = Reach::default();
    let outcome = watch(running, &mut shown, &peer, timeout, &mut reach).await;
    if let Ok(receipt) = &outcome {
        let (resumed, moved) =
            (receipt.resumed + reach.earlier, receipt.received.saturating_sub(reach.earlier));
        reach = Reach { bytes: receipt.bytes, files: receipt.files, resumed, moved, ..reach };
    } else {
        // Some may be there, but nobody vouches for them.
        reach.files = 0;
    }
    let told = shown.end(reach, outcome.as_ref().err().map(ToString::to_string).as_deref());
    let outcome = outcome.and_then(|receipt| told.map(|()| receipt.digest_hex()).map_err(Lost::Output));
    Ended { reach, outcome }
}

async fn watch(
    running: Outgoing,
    shown: &mut Shown,
    peer: &Fqcn,
    timeout: Duration,
    reach: &mut Reach,
) -> Result<Receipt, Lost> {
    let mut progress = running.progress();
    let mut receipt = std::pin::pin!(running.receipt());
    let deadline = Instant::now() + timeout;
    loop {
        let now = *progress.borrow_and_update();
        let is_out_of_reach = now.waiting && now.phase == Phase::Preparing;
        *reach = reach.next(now);
        shown.at(*reach).map_err(Lost::Output)?;
        shown.waits(now.waiting).map_err(Lost::Output)?;
        tokio::select! {
            biased;
            ended = &mut receipt => {
                return ended.map_err(Lost::Transfer);
            }
            // The sender goes when the transfer has ended, and then only that is waited for.
            Ok(()) = progress.changed() => {}
            () = tokio::time::sleep_until(deadline), if is_out_of_reach => {
                return Err(Lost::Unreached { peer: peer.clone(), within: timeout });
            }
        }
    }
}

impl Reach {
    /// How far it is after `self`.
    fn next(self, now: Progress) -> Self {
        let begun = self.begun || now.phase > Phase::Preparing;
        // The other side may have gone on from an earlier copy of the same to this one without a break.
        let earlier = if self.begun { self.earlier } else { now.bytes.saturating_sub(now.resumed_from) };
        let resumed = now.resumed_from + earlier;
        let moved = now.bytes.saturating_sub(resumed);
        Self { bytes: now.bytes, total: now.total, resumed, earlier, moved, files: now.files, begun }
    }
}

impl Ended {
    pub(crate) fn into_failure(self) -> Option<Failure> {
        self.outcome.err().map(Failure::from)
    }
}

impl Lost {
    /// The stable word for what went wrong.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Transfer(error) => error.reason().as_str(),
            Self::Download(error) => error.reason(),
            Self::Unreached { .. } => "unreachable",
            Self::Output(_) => "io",
        }
    }

    /// The return code that says nearly the same.
    pub(crate) fn code(&self) -> ReturnCode {
        match self {
            Self::Transfer(error) => error.reason().code(),
            Self::Download(error) => error.code(),
            Self::Unreached { .. } => ReturnCode::TARGET_UNREACHABLE,
            Self::Output(_) => ReturnCode::PROCESS_EXCEPTION,
        }
    }
}

impl From<Lost> for Failure {
    fn from(lost: Lost) -> Self {
        let status = match &lost {
            Lost::Transfer(error) => Status::of_transfer(error),
            Lost::Download(error) => error.status(),
            Lost::Unreached { .. } => Status::Unreachable,
            Lost::Output(_) => Status::Failed,
        };
        Self::new(status, lost.to_string()).with_code(lost.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_before_this_copy_is_resumed_whoever_brought_it() {
        let found = Reach { bytes: 9, resumed: 9, earlier: 6, begun: true, ..Reach::default() };
        let mut now = Progress::default();
        (now.bytes, now.resumed_from, now.phase) = (12, 3, Phase::Moving);
        let reach = found.next(now);
        assert_eq!((reach.resumed, reach.moved), (9, 3));
        let first = Reach::default().next(now);
        assert_eq!((first.resumed, first.earlier, first.moved), (12, 9, 0));
        // The receiver begins again: all that it finds then is resumed.
        (now.bytes, now.resumed_from) = (11, 11);
        let reach = Reach::default().next(now);
        assert_eq!((reach.resumed, reach.moved), (11, 0));
    }
}
