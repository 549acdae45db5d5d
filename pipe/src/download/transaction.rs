//! What somebody who offers sees of it.

use std::{fmt, sync::Weak};

use cellnet_core::Fqcn;
use tokio::{sync::watch, time::Instant};
use uuid::Uuid;

use super::service::Service;

/// Something that is offered until it was pulled, waited too long or was released. Clones are the same transaction;
/// dropping them changes nothing.
#[derive(Clone)]
pub struct Transaction {
    id: Uuid,
    status: watch::Receiver<Status>,
    service: Weak<Service>,
}

/// How far a transaction is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// References in it.
    pub refs: usize,
    /// The cells that have pulled from it, in the order in which they came.
    pub receivers: Vec<Receiver>,
    /// How it ended; `None` as long as it is open.
    pub outcome: Option<Outcome>,
}

/// How far a cell is with the references of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receiver {
    /// Which cell.
    pub cell: Fqcn,
    /// What it was given.
    pub given: Given,
    /// Bytes of data that were sent to it, repeated ones too.
    pub bytes: u64,
}

/// What a cell was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// So many references as a whole.
    Some(usize),
    /// All references.
    All,
    /// It was told that something failed.
    Failed,
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// As many cells as were expected were sent everything, and the end of it.
    Delivered,
    /// As many as were expected were answered to the end, and one at least was told that something failed.
    Failed,
    /// Nothing went on for its life-time.
    TimedOut,
    /// It was released.
    Released,
    /// The cell ended.
    Stopped,
}

impl Transaction {
    pub(super) fn new(id: Uuid, status: watch::Receiver<Status>, service: Weak<Service>) -> Self {
        Self { id, status, service }
    }

    /// How far it is.
    pub fn status(&self) -> Status {
        let mut status = self.status.borrow().clone();
        if status.outcome.is_none() && self.status.has_changed().is_err() {
            status.outcome = Some(Outcome::Stopped);
        }
        status
    }

    /// Waits for the end. Once everything is delivered, the last answer is in the queue of the next hop: a program that
    /// leaves now has to [shut its cell down](cellnet_core::cell::Cell::shutdown), which drains it. Cancel safe.
    pub async fn done(&self) -> Outcome {
        self.wait(|status| status.outcome.is_some()).await.outcome.unwrap_or(Outcome::Stopped)
    }

    /// Waits until a cell was given everything or was told that something failed, or for the end if that comes first.
    /// Cancel safe.
    pub async fn received_by(&self, cell: &Fqcn) -> Given {
        let given = |status: &Status| {
            let receiver = status.receivers.iter().find(|receiver| receiver.cell == *cell);
            receiver.map_or(Given::Some(0), |receiver| receiver.given)
        };
        let status =
            self.wait(|status| status.outcome.is_some() || !matches!(given(status), Given::Some(_))).await;
        given(&status)
    }

    /// Waits until something has changed since the last call on this clone; `None` after the end. Cancel safe.
    pub async fn changed(&mut self) -> Option<Status> {
        self.status.changed().await.ok()?;
        Some(self.status.borrow_and_update().clone())
    }

    /// Ends it now: its references become unknown and its arrays are freed.
    pub fn release(&self) {
        if let Some(service) = self.service.upgrade() {
            service.ledger().release(Instant::now(), self.id);
        }
    }

    /// Whether an answer to somebody is being made or sent now.
    pub fn is_answering(&self) -> bool {
        self.service.upgrade().is_some_and(|service| service.ledger().is_answering(self.id))
    }

    async fn wait(&self, mut until: impl FnMut(&Status) -> bool) -> Status {
        let mut status = self.status.clone();
        // It fails when the cell is gone, and then the last status is all there will be.
        let seen = status.wait_for(|status| until(status)).await.map(|status| status.clone());
        seen.unwrap_or_else(|_| self.status())
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("id", &self.id).field("status", &*self.status.borrow()).finish()
    }
}

impl Status {
    pub(super) fn new(refs: usize) -> Self {
        Self { refs, receivers: Vec::new(), outcome: None }
    }
}

impl Receiver {
    pub(super) fn new(cell: Fqcn) -> Self {
        Self { cell, given: Given::Some(0), bytes: 0 }
    }
}
