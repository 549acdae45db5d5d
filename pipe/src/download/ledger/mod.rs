//! Who may pull what, and who has. Knows no tasks and no clock.

mod finished;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytestring::ByteString;
use cellnet_core::{Fqcn, fobs::Object};
use tokio::{sync::watch, time::Instant};
use uuid::Uuid;

use self::finished::Finished;
use super::{
    DownloadConfig, Offer, OfferError, Outcome, Status,
    content::Content,
    transaction::{Given, Receiver},
};

/// All transactions of a cell, and the references that were finished of late.
#[derive(Debug)]
pub(super) struct Ledger {
    config: Arc<DownloadConfig>,
    transactions: HashMap<Uuid, Entry>,
    refs: HashMap<ByteString, (Uuid, usize)>,
    finished: Finished,
    held: u64,
    closed: bool,
}

/// A transaction.
#[derive(Debug)]
struct Entry {
    refs: Vec<(ByteString, Arc<Content>)>,
    offer: Offer,
    ttl: Duration,
    held: u64,
    /// When something last moved forward.
    active: Instant,
    /// Answers that are being made or sent. While there are any, nobody waits for a puller.
    answering: usize,
    /// Answers in a row that were not sent.
    lost: u32,
    /// By cell, the index into the receivers of the status, and what each has of each reference.
    pullers: HashMap<Fqcn, (usize, Vec<Drawn>)>,
    told: watch::Sender<Status>,
}

/// What a cell has pulled of a reference.
#[derive(Debug, Clone, Default)]
struct Drawn {
    /// Bytes of all answers, repeated ones too.
    bytes: u64,
    /// Whether it got data since it last got the end.
    begun: bool,
    /// How often it got everything.
    times: u32,
    failed: bool,
}

/// What to do with a request.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Send the piece at a position.
    Piece { ticket: Ticket, content: Arc<Content>, at: u64 },
    /// Say that there is no more.
    Eof(Option<Ticket>),
    /// Say that it failed.
    Error(Option<Ticket>),
    /// Nobody knows the reference.
    Unknown,
    /// It is for others, or was pulled often enough.
    Refused(&'static str),
}

/// Stands for an answer that is on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ticket {
    transaction: Uuid,
    index: usize,
    cell: Fqcn,
}

/// What became of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// So many bytes of data were sent.
    Data(u64),
    /// The end was sent.
    Eof,
    /// A failure was sent.
    Error,
    /// Nothing was sent.
    Nothing,
}

impl Ledger {
    pub(super) fn new(config: Arc<DownloadConfig>) -> Self {
        let finished = Finished::default();
        Self { config, transactions: HashMap::new(), refs: HashMap::new(), finished, held: 0, closed: false }
    }

    /// Opens a transaction; each content is known by its id.
    pub(super) fn open(
        &mut self,
        now: Instant,
        offer: Offer,
        refs: Vec<(ByteString, Arc<Content>)>,
    ) -> Result<(Uuid, watch::Receiver<Status>), OfferError> {
        if self.closed {
            return Err(OfferError::ShuttingDown);
        }
        if offer.is_for_nobody() {
            return Err(OfferError::Nobody);
        }
        if self.transactions.len() >= self.config.transactions {
            return Err(OfferError::TooMany(self.config.transactions));
        }
        let held: u64 = refs.iter().map(|(_, content)| content.held()).sum();
        let limit = self.config.offered_bytes;
        if self.held.saturating_add(held) > limit {
            return Err(OfferError::TooLarge { bytes: held, limit });
        }
        let id = Uuid::new_v4();
        self.held += held;
        for (index, (ref_id, _)) in refs.iter().enumerate() {
            self.refs.insert(ref_id.clone(), (id, index));
        }
        let (told, seen) = watch::channel(Status::new(refs.len()));
        let ttl = offer.ttl.unwrap_or(self.config.ttl);
        let pullers = HashMap::new();
        self.transactions
            .insert(id, Entry { refs, offer, ttl, held, active: now, answering: 0, lost: 0, pullers, told });
        Ok((id, seen))
    }

    /// Decides on a request. A ticket has to be [settled](Self::settle).
    pub(super) fn ask(
        &mut self,
        now: Instant,
        cell: &Fqcn,
        ref_id: &ByteString,
        state: Option<&Object>,
    ) -> Verdict {
        let Some(&(transaction, index)) = self.refs.get(ref_id) else {
            return match self.finished.of(now, ref_id, cell, self.config.finished_ttl) {
                Some(true) => Verdict::Eof(None),
                Some(false) => Verdict::Error(None),
                None => Verdict::Unknown,
            };
        };
        let entry = self.transactions.get_mut(&transaction).expect("a reference belongs to a transaction");
        if !entry.offer.allows(cell) {
            return Verdict::Refused("this reference is for others");
        }
        let most = match entry.offer.receivers {
            0 => self.config.receivers,
            receivers => receivers,
        };
        if !entry.pullers.contains_key(cell) && entry.pullers.len() >= most {
            return Verdict::Refused("as many cells have pulled this reference as may");
        }
        let content = entry.refs[index].1.clone();
        let times = entry.offer.times;
        let allowance = content.size().saturating_mul(u64::from(times) * REPEATS).saturating_add(SLACK);
        let drawn = entry.drawn(cell, index);
        let Some(at) = content.position(state) else {
            return Verdict::Error(Some(entry.ticket(transaction, index, cell)));
        };
        if at >= content.end() {
            // Nobody has more than there is, but whoever says so has made it up.
            let verdict = if at == content.end() { Verdict::Eof } else { Verdict::Error };
            return verdict(Some(entry.ticket(transaction, index, cell)));
        }
        if drawn.times >= times {
            return Verdict::Refused("this reference was pulled often enough");
        }
        if drawn.bytes >= allowance {
            return Verdict::Refused("too much was pulled of this reference");
        }
        Verdict::Piece { ticket: entry.ticket(transaction, index, cell), content, at }
    }

    /// Notes what became of an answer.
    pub(super) fn settle(&mut self, now: Instant, ticket: &Ticket, sent: Sent) {
        let Some(entry) = self.transactions.get_mut(&ticket.transaction) else { return };
        entry.answering -= 1;
        if sent == Sent::Nothing {
            // Whoever asked was there, and most of the answer may have been sent. But no more than so often.
            entry.lost = entry.lost.saturating_add(1);
            if entry.lost <= MAX_LOST {
                entry.active = now;
            }
            return;
        }
        let progress = entry.note(ticket, sent);
        if progress {
            (entry.active, entry.lost) = (now, 0);
        }
        if entry.is_served(1) {
            entry.tell_the_end(entry.served());
        }
        if entry.is_served(entry.offer.times) {
            self.end(now, ticket.transaction, None);
        }
    }

    /// Ends what waited too long, and says when to look again.
    pub(super) fn tick(&mut self, now: Instant) -> Option<Instant> {
        let late = |entry: &Entry| entry.answering == 0 && entry.deadline().is_some_and(|end| end <= now);
        let over: Vec<_> =
            self.transactions.iter().filter(|(_, entry)| late(entry)).map(|(id, _)| *id).collect();
        for id in over {
            let served = self.transactions.get(&id).is_some_and(|entry| entry.is_served(1));
            self.end(now, id, if served { None } else { Some(Outcome::TimedOut) });
        }
        self.finished.expire(now, self.config.finished_ttl);
        let idle = self.transactions.values().filter(|entry| entry.answering == 0);
        idle.filter_map(Entry::deadline).min()
    }

    /// Ends a transaction that nobody needs any more.
    pub(super) fn release(&mut self, now: Instant, id: Uuid) {
        self.end(now, id, Some(Outcome::Released));
    }

    /// Ends everything and opens nothing more.
    pub(super) fn close(&mut self, now: Instant) {
        self.closed = true;
        let all: Vec<_> = self.transactions.keys().copied().collect();
        all.into_iter().for_each(|id| self.end(now, id, Some(Outcome::Stopped)));
    }

    /// Whether an answer of a transaction is being made or sent.
    pub(super) fn is_answering(&self, id: Uuid) -> bool {
        self.transactions.get(&id).is_some_and(|entry| entry.answering > 0)
    }

    /// Open transactions.
    pub(super) fn len(&self) -> usize {
        self.transactions.len()
    }

    /// Takes a transaction out. `None` as outcome: it is finished, and its references are remembered.
    fn end(&mut self, now: Instant, id: Uuid, outcome: Option<Outcome>) {
        let Some(entry) = self.transactions.remove(&id) else { return };
        self.held -= entry.held;
        for (index, (ref_id, _)) in entry.refs.iter().enumerate() {
            self.refs.remove(ref_id);
            if outcome.is_none() {
                let cells = entry.pullers.iter().filter(|(_, (_, drawn))| drawn[index].is_done());
                let cells = cells.map(|(cell, (_, drawn))| (cell.clone(), drawn[index].times > 0)).collect();
                self.finished.add(now, ref_id.clone(), cells, self.config.finished);
            }
        }
        entry.tell_the_end(outcome.unwrap_or_else(|| entry.served()));
    }
}

impl Entry {
    fn deadline(&self) -> Option<Instant> {
        self.active.checked_add(self.ttl)
    }

    /// Says how it ended, unless that was said before.
    fn tell_the_end(&self, outcome: Outcome) {
        self.told.send_if_modified(|status| {
            let first = status.outcome.is_none();
            status.outcome.get_or_insert(outcome);
            first
        });
    }

    /// How it ends once all were served.
    fn served(&self) -> Outcome {
        let receivers = &self.told.borrow().receivers;
        match receivers.iter().any(|receiver| receiver.given == Given::Failed) {
            true => Outcome::Failed,
            false => Outcome::Delivered,
        }
    }

    /// What a cell has of a reference; it becomes known as one that pulls.
    fn drawn(&mut self, cell: &Fqcn, index: usize) -> &mut Drawn {
        let (refs, told) = (self.refs.len(), &self.told);
        if !self.pullers.contains_key(cell) {
            // A copy, so that what is remembered of a request does not hold the frame that it came in.
            let cell = Fqcn::parse(cell.as_str().into()).expect("it was a name before");
            let at = told.borrow().receivers.len();
            told.send_modify(|status| status.receivers.push(Receiver::new(cell.clone())));
            self.pullers.insert(cell, (at, vec![Drawn::default(); refs]));
        }
        let (_, drawn) = self.pullers.get_mut(cell).expect("it was just put there");
        &mut drawn[index]
    }

    /// One more answer is on its way.
    fn ticket(&mut self, transaction: Uuid, index: usize, cell: &Fqcn) -> Ticket {
        self.answering += 1;
        Ticket { transaction, index, cell: cell.clone() }
    }

    /// Whether it brought the transaction forward.
    fn note(&mut self, ticket: &Ticket, sent: Sent) -> bool {
        let Some((at, all)) = self.pullers.get_mut(&ticket.cell) else { return false };
        let drawn = &mut all[ticket.index];
        let progress = match sent {
            Sent::Data(bytes) => {
                drawn.bytes += bytes;
                drawn.begun = true;
                // A cell that asks for the same again and again keeps nothing alive for ever, as it draws no more than
                // its allowance.
                true
            }
            Sent::Eof => {
                // Who asks for the end again has not pulled again.
                let more = drawn.times == 0 || drawn.begun;
                drawn.begun = false;
                drawn.times = drawn.times.saturating_add(more.into());
                more
            }
            Sent::Error => !std::mem::replace(&mut drawn.failed, true),
            Sent::Nothing => false,
        };
        let done = all.iter().filter(|drawn| drawn.is_done()).count();
        let failed = all.iter().any(|drawn| drawn.failed && drawn.times == 0);
        let bytes = all.iter().map(|drawn| drawn.bytes).sum();
        let given = match (done == all.len(), failed) {
            (_, true) => Given::Failed,
            (true, false) => Given::All,
            (false, false) => Given::Some(done),
        };
        let at = *at;
        self.told.send_modify(|status| {
            let receiver = &mut status.receivers[at];
            (receiver.given, receiver.bytes) = (given, bytes);
        });
        progress
    }

    /// Whether as many cells as were expected are done with every reference, each so often.
    fn is_served(&self, times: u32) -> bool {
        let receivers = self.offer.receivers;
        let done = |index: usize| {
            let pulled = self.pullers.values();
            pulled.filter(|(_, drawn)| drawn[index].failed || drawn[index].times >= times).count()
        };
        receivers > 0 && (0..self.refs.len()).all(|index| done(index) >= receivers)
    }
}

impl Drawn {
    fn is_done(&self) -> bool {
        self.failed || self.times > 0
    }
}

/// A puller repeats a request three times, so it draws no more than four times what there is.
const REPEATS: u64 = 4;
/// Answers of a transaction that get lost, or that there is no memory for, while its life-time begins anew each time.
const MAX_LOST: u32 = 32;
/// For small contents.
const SLACK: u64 = 64 * 1024;
