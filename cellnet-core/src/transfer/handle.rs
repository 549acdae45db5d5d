//! What a caller holds of a transfer that runs.

use tokio::sync::{broadcast, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Phase, Progress, Reason, Receipt, TransferError};
use crate::fqcn::Fqcn;

/// A transfer that this cell asked for. Dropped, it is given up, and the other side told.
#[derive(Debug)]
pub struct Running {
    progress: watch::Receiver<Progress>,
    outcome: oneshot::Receiver<Result<Receipt, TransferError>>,
    cancel: DropGuard,
}

/// A transfer from this cell. Dropped, it is given up, and the receiver told.
pub type Outgoing = Running;

/// A transfer to this cell. Dropped, it is given up, and the source told; what is on disk stays for the next time.
pub type Incoming = Running;

impl Running {
    /// How far it is, whenever that changes.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Gives it up; [`receipt`](Self::receipt) then fails with [`Reason::Cancelled`], unless it was over already.
    pub fn cancel(self) -> Finishing {
        drop(self.cancel);
        Finishing { outcome: self.outcome }
    }

    /// Waits for the end. Dropping the future gives the transfer up.
    pub async fn receipt(self) -> Result<Receipt, TransferError> {
        let Self { outcome, cancel, .. } = self;
        let outcome = Finishing { outcome }.receipt().await;
        drop(cancel);
        outcome
    }
}

/// A transfer that was given up and tells the other side.
#[derive(Debug)]
pub struct Finishing {
    outcome: oneshot::Receiver<Result<Receipt, TransferError>>,
}

impl Finishing {
    /// Waits for the end.
    pub async fn receipt(self) -> Result<Receipt, TransferError> {
        let gone = || Err(TransferError::here(Reason::ShuttingDown, "the transfers of this cell have ended"));
        self.outcome.await.unwrap_or_else(|_| gone())
    }
}

/// The other half of a [`Running`].
#[derive(Debug)]
pub(crate) struct Runner {
    pub(crate) progress: watch::Sender<Progress>,
    outcome: oneshot::Sender<Result<Receipt, TransferError>>,
    pub(crate) cancelled: CancellationToken,
}

pub(crate) fn running(parent: &CancellationToken) -> (Runner, Running) {
    let (progress, seen) = watch::channel(Progress::default());
    let (outcome, ended) = oneshot::channel();
    let cancelled = parent.child_token();
    let cancel = cancelled.clone().drop_guard();
    (Runner { progress, outcome, cancelled }, Running { progress: seen, outcome: ended, cancel })
}

impl Runner {
    pub(crate) fn finish(self, outcome: Result<Receipt, TransferError>) {
        self.progress.send_modify(|progress| progress.phase = Phase::Over);
        // Whoever dropped the other half does not want to know.
        let _ = self.outcome.send(outcome);
    }
}

/// Something that another cell sent has arrived, or failed to.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Arrival {
    /// Who sent it.
    pub origin: Fqcn,
    /// Where it is, below the inbox; of several the directory that they are in.
    pub path: String,
    /// What came of it.
    pub outcome: Result<Receipt, TransferError>,
}

/// What others send to this cell's inbox.
#[derive(Debug)]
pub struct Arrivals {
    pub(crate) events: broadcast::Receiver<Arrival>,
}

impl Arrivals {
    /// The next one; `None` when the transfers of this cell have ended. Who does not keep up misses some. Cancel safe.
    pub async fn next(&mut self) -> Option<Arrival> {
        loop {
            match self.events.recv().await {
                Ok(arrival) => return Some(arrival),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}
