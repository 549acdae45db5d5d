//! Requests that wait for their reply.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;
use uuid::Uuid;

use super::RequestError;
use crate::{fqcn::Fqcn, message::Message};

/// Who may answer: the target of a plain request, or anybody who knows the id of a request that streams, because a
/// relay that cannot pass it on answers in the target's place.
type Key = (Uuid, Option<Fqcn>);

/// What a request ends in.
pub(crate) type Outcome = Result<Message, RequestError>;

/// Requests in flight, bounded in number.
#[derive(Debug)]
pub(crate) struct Pending {
    waiting: Mutex<HashMap<Key, Waiting>>,
    limit: usize,
}

#[derive(Debug)]
struct Waiting {
    reply: oneshot::Sender<Outcome>,
    /// The link that the request left by.
    link: u64,
}

/// A request that waits; dropping it gives up.
#[derive(Debug)]
pub(crate) struct Ticket<'a> {
    pending: &'a Pending,
    key: Key,
    pub(crate) reply: oneshot::Receiver<Outcome>,
}

impl Pending {
    pub(crate) fn new(limit: usize) -> Self {
        Self { waiting: Mutex::default(), limit }
    }

    /// Begins to wait.
    pub(crate) fn begin(
        &self,
        id: Uuid,
        target: Option<Fqcn>,
        link: u64,
    ) -> Result<Ticket<'_>, RequestError> {
        let (tx, reply) = oneshot::channel();
        let key = (id, target);
        let mut waiting = self.waiting();
        if waiting.len() >= self.limit {
            return Err(RequestError::TooManyRequests(self.limit));
        }
        waiting.insert(key.clone(), Waiting { reply: tx, link });
        drop(waiting);
        Ok(Ticket { pending: self, key, reply })
    }

    /// Hands a reply to whoever waits for it. False if nobody does (any more).
    pub(crate) fn complete(&self, id: Uuid, from: Option<Fqcn>, outcome: Outcome) -> bool {
        let found = self.waiting().remove(&(id, from));
        found.is_some_and(|waiting| waiting.reply.send(outcome).is_ok())
    }

    /// Whether anybody waits for this reply.
    pub(crate) fn is_waiting(&self, id: Uuid, from: Option<Fqcn>) -> bool {
        self.waiting().contains_key(&(id, from))
    }

    /// Fails the requests that left by a link which is lost.
    pub(crate) fn fail_link(&self, link: u64, error: &RequestError) {
        let lost: Vec<_> = self.waiting().extract_if(|_, waiting| waiting.link == link).collect();
        for (_, waiting) in lost {
            // Whoever gave up in the meantime needs no error.
            let _ = waiting.reply.send(Err(error.clone()));
        }
    }

    /// Fails everything.
    pub(crate) fn fail_all(&self, error: &RequestError) {
        let lost: Vec<_> = self.waiting().drain().collect();
        for (_, waiting) in lost {
            let _ = waiting.reply.send(Err(error.clone()));
        }
    }

    /// How many wait.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.waiting().len()
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Key, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.pending.waiting().remove(&self.key);
    }
}
