//! What both ends of the sink know of one transfer: whom it is pulled from, how far it is, how it ended.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Phase, Progress, Reason, Receipt, Token, TransferError,
    wire::{Accepted, Fingerprint},
};
use crate::fqcn::Fqcn;

/// One transfer to this cell.
#[derive(Debug)]
pub(crate) struct Pull {
    pub(crate) fingerprint: Fingerprint,
    /// Where it goes, below the inbox.
    pub(crate) path: String,
    /// This one is given up.
    pub(crate) stopped: CancellationToken,
    /// All transfers of this cell end.
    ending: CancellationToken,
    /// Nothing on disk is held any more.
    pub(crate) gone: CancellationToken,
    source: watch::Sender<Source>,
    status: Mutex<Status>,
    progress: watch::Sender<Progress>,
}

/// Whom to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) cell: Fqcn,
    pub(crate) token: Token,
}

#[derive(Debug)]
struct Status {
    safe: u64,
    resumed: u64,
    activity: u64,
    /// When anything was heard of the source or done here.
    progress: Instant,
    /// When the last block came, and the longest pause between two.
    arrival: Instant,
    pause: Duration,
    /// The source could not be reached the last time.
    lost: bool,
    /// Tokens by which it was offered before.
    former: VecDeque<Token>,
    /// What it writes below its path.
    names: HashSet<Box<str>>,
    /// Given up by the source.
    cancelled: Option<TransferError>,
    outcome: Option<Result<Receipt, TransferError>>,
    /// When nothing more was to be done about it.
    closed: Option<Instant>,
}

impl Pull {
    pub(crate) fn new(
        source: Source,
        fingerprint: Fingerprint,
        path: &str,
        progress: watch::Sender<Progress>,
        stopped: CancellationToken,
        ending: CancellationToken,
    ) -> Self {
        let now = Instant::now();
        let status = Status {
            safe: 0,
            resumed: 0,
            activity: 0,
            progress: now,
            arrival: now,
            pause: Duration::ZERO,
            lost: false,
            former: VecDeque::new(),
            names: HashSet::new(),
            cancelled: None,
            outcome: None,
            closed: None,
        };
        let source = watch::channel(source).0;
        Self {
            gone: CancellationToken::new(),
            ending,
            fingerprint,
            path: path.into(),
            stopped,
            source,
            status: Mutex::new(status),
            progress,
        }
    }

    /// Whom to ask now.
    pub(crate) fn source(&self) -> Source {
        self.source.borrow().clone()
    }

    /// Waits until somebody else is to be asked than `known`. Cancel safe.
    pub(crate) async fn other_source(&self, known: &Source) {
        let mut source = self.source.subscribe();
        // The sender is in `self`.
        let _ = source.wait_for(|source| source != known).await;
    }

    /// From now on somebody else is asked, for the same content. False if nobody will be asked any more.
    pub(crate) fn take_over(&self, source: Source) -> bool {
        let mut status = self.status();
        if status.closed.is_some() || self.stopped.is_cancelled() {
            return false;
        }
        status.progress = Instant::now();
        // Under the lock, so that it does not close at the same time.
        let former = self.source.send_replace(source).token;
        if status.former.len() > FORMER {
            // Nobody has asked for it, so nobody knows it by that.
            status.former.pop_front();
        }
        status.former.push_back(former);
        true
    }

    /// A token by which it was offered so long ago that it need not be known any more.
    pub(crate) fn outdated(&self) -> Option<Token> {
        let mut status = self.status();
        if status.former.len() > FORMER { status.former.pop_front() } else { None }
    }

    /// From now on nobody else is to write these.
    pub(crate) fn take_names(&self, names: &[&str]) {
        self.status().names = names.iter().map(|name| Box::from(*name)).collect();
    }

    /// Whether it writes any of these.
    pub(crate) fn has_any_of(&self, names: &[&str]) -> bool {
        let status = self.status();
        names.iter().any(|name| status.names.contains(*name))
    }

    /// Whether it is about to give back what it holds.
    pub(crate) fn is_leaving(&self) -> bool {
        !self.gone.is_cancelled() && (self.stopped.is_cancelled() || self.status().outcome.is_some())
    }

    /// Whether whoever is asked seems to be there still.
    pub(crate) fn is_served(&self) -> bool {
        let status = self.status();
        !status.lost && status.progress.elapsed() < ALIVE
    }

    /// So much is on disk; counts as progress.
    pub(crate) fn did(&self, safe: u64, resumed: u64, phase: Phase) {
        let mut status = self.status();
        status.activity += 1;
        status.progress = Instant::now();
        (status.safe, status.resumed) = (safe, resumed);
        drop(status);
        self.progress.send_modify(|progress| {
            (progress.bytes, progress.resumed_from, progress.phase) = (safe, resumed, phase);
        });
    }

    pub(crate) fn announce(&self, total: Option<u64>, files: u64) {
        self.progress.send_modify(|progress| (progress.total, progress.files) = (total, files));
    }

    /// The source lives, and has nothing yet.
    pub(crate) fn touch(&self) {
        let mut status = self.status();
        status.progress = Instant::now();
        status.activity += 1;
    }

    /// A block came.
    pub(crate) fn arrived(&self) {
        let mut status = self.status();
        status.pause = status.pause.max(status.arrival.elapsed());
        status.arrival = Instant::now();
        status.progress = status.arrival;
    }

    /// When the last block came, and how long a pause is nothing unusual.
    pub(crate) fn rhythm(&self) -> (Instant, Duration) {
        let status = self.status();
        (status.arrival, status.pause * 2)
    }

    /// The source was reached, or not.
    pub(crate) fn reached(&self, reached: bool) {
        let changed = std::mem::replace(&mut self.status().lost, !reached) == reached;
        if changed {
            self.progress.send_modify(|progress| progress.waiting = !reached);
        }
    }

    pub(crate) fn last_progress(&self) -> Instant {
        self.status().progress
    }

    /// What the sink says to the offer: how far it is or how it ended.
    pub(crate) fn report(&self) -> Result<Accepted, TransferError> {
        let status = self.status();
        let receipt = status.outcome.clone().transpose()?;
        Ok(Accepted { safe: status.safe, resumed: status.resumed, activity: status.activity, receipt })
    }

    /// The source gives it up.
    pub(crate) fn cancel(&self, why: TransferError) {
        self.status().cancelled.get_or_insert(why);
        self.stopped.cancel();
    }

    /// Why it was stopped.
    pub(crate) fn why(&self) -> TransferError {
        let why = self.status().cancelled.clone();
        why.unwrap_or_else(|| match self.ending.is_cancelled() {
            true => TransferError::here(Reason::ShuttingDown, "the receiver stops"),
            false => TransferError::here(Reason::Cancelled, "given up by the receiver"),
        })
    }

    /// How it ended; what is said first counts.
    pub(crate) fn end(&self, outcome: Result<Receipt, TransferError>) {
        let mut status = self.status();
        status.activity += 1;
        status.outcome.get_or_insert(outcome);
    }

    /// Nothing more is done about it.
    pub(crate) fn close(&self) {
        self.status().closed.get_or_insert_with(Instant::now);
    }

    /// The same, unless somebody else has taken over from `known` meanwhile.
    pub(crate) fn close_for(&self, known: &Source) -> bool {
        let mut status = self.status();
        let same = *self.source.borrow() == *known;
        if same {
            status.closed = Some(Instant::now());
        }
        same
    }

    /// When nothing more was to be done about it.
    pub(crate) fn closed(&self) -> Option<Instant> {
        self.status().closed
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A source that was heard of this recently is taken to be alive.
const ALIVE: Duration = Duration::from_secs(3);
/// Senders of one transfer that are told that another has taken its place.
const FORMER: usize = 16;
