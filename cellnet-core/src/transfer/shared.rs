//! What all transfers of a cell share.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{sync::broadcast, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Arrival, Reason, Token, TransferConfig, TransferError,
    blocks::Blocks,
    dir::Dir,
    inbox::Inbox,
    limits::Limits,
    offered::{Content, Offered},
    offers::Offers,
    pull::Pull,
    wire::Fingerprint,
};
use crate::cell::Cell;

/// What all transfers of a cell share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) cell: Cell,
    pub(crate) config: Arc<TransferConfig>,
    pub(crate) inbox: Option<Arc<Inbox>>,
    pub(crate) outbox: Option<Arc<Dir>>,
    pub(crate) offers: Offers,
    pub(crate) blocks: Arc<Blocks>,
    pub(crate) limits: Limits,
    pub(crate) pulls: Arc<Pulls>,
    pub(crate) arrivals: broadcast::Sender<Arrival>,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl Shared {
    /// An offer that is made to nobody yet.
    pub(crate) fn offered(&self, content: Content) -> Offered {
        Offered::new(content, self.config.block(), self.limits.checks.clone())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.stop.cancel();
        self.offers.clear();
    }
}

/// Transfers to this cell's inbox that run, or ended lately.
#[derive(Debug, Default)]
pub(crate) struct Pulls {
    pulls: Mutex<HashMap<Token, Arc<Pull>>>,
}

impl Pulls {
    /// The transfer of an offer that is known.
    pub(crate) fn find(&self, token: &Token) -> Option<Arc<Pull>> {
        self.pulls().get(token).cloned()
    }

    /// A transfer of the same content to the same place, that runs.
    pub(crate) fn same(&self, path: &str, fingerprint: &Fingerprint) -> Option<Arc<Pull>> {
        let same = |pull: &&Arc<Pull>| {
            pull.path == path
                && pull.fingerprint == *fingerprint
                && pull.closed().is_none()
                && pull.report().is_ok()
        };
        self.pulls().values().find(same).cloned()
    }

    /// Transfers to the same place that are about to leave it.
    pub(crate) fn leaving(&self, path: &str) -> Vec<Arc<Pull>> {
        let pulls = self.pulls();
        pulls.values().filter(|pull| pull.path == path && pull.is_leaving()).cloned().collect()
    }

    /// Reserves names for a transfer, unless others that run have any of them: then it gives those.
    pub(crate) fn claim(&self, pull: &Arc<Pull>, names: &[&str]) -> Vec<Arc<Pull>> {
        let pulls = self.pulls();
        let others = pulls.values().filter(|other| !Arc::ptr_eq(other, pull) && other.path == pull.path);
        let rivals: Vec<_> =
            others.filter(|other| !other.gone.is_cancelled() && other.has_any_of(names)).cloned().collect();
        if rivals.is_empty() {
            pull.take_names(names);
        }
        rivals
    }

    /// Forgets a token.
    pub(crate) fn forget(&self, token: &Token) {
        self.pulls().remove(token);
    }

    /// Adds one, or another token for one.
    pub(crate) fn add(&self, token: Token, pull: Arc<Pull>, max: usize) -> Result<(), TransferError> {
        let mut pulls = self.pulls();
        // The outcome is kept for a sender that did not hear of it, but not for ever.
        let forgotten = Instant::now().checked_sub(REMEMBERED);
        pulls.retain(|_, pull| pull.closed().is_none_or(|closed| forgotten.is_none_or(|then| closed > then)));
        let running = || pulls.values().filter(|pull| pull.closed().is_none());
        if pulls.contains_key(&token) {
            // It came twice, and the first one is just being looked at.
            return Err(TransferError::here(Reason::Busy, "the same offer came at the same moment"));
        }
        let origin = pull.source().cell;
        let of_origin = running().filter(|pull| pull.source().cell == origin).count();
        if running().count() >= max || of_origin >= (max / 4).max(1) {
            let text =
                format!("{} transfers to this cell are open, {of_origin} from '{origin}'", running().count());
            return Err(TransferError::here(Reason::TooMany, text));
        }
        if pulls.len() >= max * 2 {
            let ended = pulls.iter().filter_map(|(token, pull)| Some((pull.closed()?, *token)));
            if let Some((_, oldest)) = ended.min() {
                pulls.remove(&oldest);
            }
        }
        pulls.insert(token, pull);
        Ok(())
    }

    fn pulls(&self) -> MutexGuard<'_, HashMap<Token, Arc<Pull>>> {
        self.pulls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps house: forgets offers that nobody uses, sweeps the inbox.
pub(crate) async fn keep_house(shared: Weak<Shared>, stop: CancellationToken) {
    let mut last_sweep = None;
    loop {
        let Some(this) = shared.upgrade() else { return };
        let now = Instant::now();
        for token in this.offers.idle(now.checked_sub(this.config.patience)) {
            this.offers.remove(&token);
            this.blocks.forget(token);
        }
        if let Some(inbox) = this.inbox.clone()
            && last_sweep.is_none_or(|last: Instant| last.elapsed() >= SWEEP)
        {
            last_sweep = Some(now);
            match tokio::task::spawn_blocking(move || inbox.sweep()).await {
                Ok(Ok(0)) | Err(_) => {}
                Ok(Ok(removed)) => {
                    tracing::info!(removed, "partial files of long ago removed from the inbox")
                }
                Ok(Err(error)) => tracing::warn!(%error, "the inbox cannot be swept"),
            }
        }
        drop(this);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PACE) => {}
        }
    }
}

/// How long the outcome of a transfer is remembered.
const REMEMBERED: Duration = Duration::from_secs(600);
/// How often the inbox is swept, and how often there is a look at whether it is time.
const SWEEP: Duration = Duration::from_secs(3600);
const PACE: Duration = Duration::from_secs(30);
