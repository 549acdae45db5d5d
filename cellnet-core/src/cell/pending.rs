//! Requests that wait for their reply.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::sync::oneshot;
use uuid::Uuid;

use super::RequestError;
use crate::{fqcn::Fqcn, message::Message};

/// Who may answer: the target of a plain request, or anybody who knows the id of a request that streams, because a
/// relay that cannot pass it on answers in the target's place.
type Key = (Uuid, Option<Fqcn>);

type Requests = HashMap<Key, Waiting, foldhash::fast::RandomState>;

/// What a request ends in.
pub(crate) type Outcome = Result<Message, RequestError>;

/// Requests in flight, bounded in number.
#[derive(Debug)]
pub(crate) struct Pending {
    waiting: Mutex<Requests>,
    limit: usize,
    /// The number of the next ticket.
    next: AtomicU64,
}

#[derive(Debug)]
struct Waiting {
    reply: oneshot::Sender<Outcome>,
    /// The link that the request left by.
    link: u64,
    ticket: u64,
}

/// A request that waits; dropping it gives up.
#[derive(Debug)]
pub(crate) struct Ticket<'a> {
    pending: &'a Pending,
    key: Key,
    number: u64,
    reply: oneshot::Receiver<Outcome>,
    /// Whether somebody has taken it out of the table.
    settled: bool,
}

impl Ticket<'_> {
    /// Waits for what the request ends in; `ShuttingDown` if nobody cares any more. Cancel safe.
    pub(crate) async fn outcome(&mut self) -> Outcome {
        let reply = (&mut self.reply).await;
        self.settled = true;
        reply.unwrap_or(Err(RequestError::ShuttingDown))
    }
}

impl Pending {
    pub(crate) fn new(limit: usize) -> Self {
        Self { waiting: Mutex::default(), limit, next: AtomicU64::new(0) }
    }

    /// Begins to wait. Two requests cannot wait for the same reply.
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
        let number = self.next.fetch_add(1, Relaxed);
        match waiting.entry(key.clone()) {
            Entry::Occupied(_) => return Err(RequestError::IdInUse(id)),
            Entry::Vacant(entry) => entry.insert(Waiting { reply: tx, link, ticket: number }),
        };
        drop(waiting);
        Ok(Ticket { pending: self, key, number, reply, settled: false })
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
    pub(crate) fn len(&self) -> usize {
        self.waiting().len()
    }

    fn waiting(&self) -> MutexGuard<'_, Requests> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let mut waiting = self.pending.waiting();
        // The reply may have come, and the key may be another request's by now.
        if waiting.get(&self.key).is_some_and(|entry| entry.ticket == self.number) {
            waiting.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Option<Fqcn> {
        Some(Fqcn::server())
    }

    #[test]
    fn a_second_request_under_the_same_id_is_refused_and_the_first_keeps_waiting() {
        let (pending, id) = (Pending::new(10), Uuid::new_v4());
        let mut first = pending.begin(id, server(), 1).unwrap();
        assert!(matches!(pending.begin(id, server(), 1), Err(RequestError::IdInUse(found)) if found == id));
        let other = pending.begin(id, None, 1).unwrap();
        assert!(pending.complete(id, server(), Ok(Message::new("reply"))));
        assert!(first.reply.try_recv().unwrap().is_ok());
        drop((first, other));
        assert_eq!(pending.len(), 0);
    }

    #[test]
    fn a_ticket_that_was_answered_does_not_take_away_the_next_one() {
        let (pending, id) = (Pending::new(10), Uuid::new_v4());
        let answered = pending.begin(id, server(), 1).unwrap();
        assert!(pending.complete(id, server(), Ok(Message::empty())));
        let next = pending.begin(id, server(), 1).unwrap();
        drop(answered);
        assert!(pending.is_waiting(id, server()));
        drop(next);
        assert!(!pending.is_waiting(id, server()));
    }
}
