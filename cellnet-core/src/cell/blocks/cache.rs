//! What a relay keeps of transfers, and who waits for what: decided here, carried out elsewhere.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytestring::ByteString;
use tokio::time::Instant;

use super::{
    place::Place,
    pull::{Asker, Flight, Hop, LONGEST_WAIT, Pull, Reply, Sent, Stage, Waiter},
    room::cost,
};
use crate::{
    stats::{Budget, Counters, Reservation},
    transfer::{BlockAsk, Token},
};

/// Blocks, requests for them that wait, and those that are on their way. `R` is a request.
#[derive(Debug)]
pub(crate) struct Cache<R> {
    pub(super) pulls: HashMap<PullId, Pull<R>>,
    /// Requests on their way, by who gets the reply and its id.
    sent: HashMap<(ByteString, ByteString), (PullId, Place)>,
    pub(super) memory: Arc<Budget>,
    counters: Arc<Counters>,
    hold: Duration,
}

/// A transfer: the cell that has it, and its token.
pub(crate) type PullId = (ByteString, Token);

/// A request for a block, as far as it matters here.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) target: ByteString,
    pub(crate) block: BlockAsk,
    /// Whether nothing that is kept will do: what came before was damaged.
    pub(crate) fresh: bool,
    pub(crate) asker: Asker,
    /// The request's id.
    pub(crate) id: ByteString,
    /// Where it would go, if there is a way.
    pub(crate) hop: Option<Hop>,
    /// What it takes in memory.
    pub(crate) cost: usize,
}

/// What to do with a request.
#[derive(Debug)]
pub(crate) enum Verdict<R> {
    /// It goes on its way.
    Forward(R),
    /// This is the answer.
    Answer(R, Arc<Reply>),
    /// It stays here for now.
    Kept,
}

/// A request that is to go on its way now.
#[derive(Debug)]
pub(crate) struct Release<R> {
    pub(crate) request: R,
    /// What it asks for, if others wait for its reply.
    pub(crate) block: Option<(PullId, Place)>,
}

/// A message that answers a request, as it comes by on its way down.
#[derive(Debug, Clone)]
pub(crate) struct Answered {
    /// Whom it is for.
    pub(crate) destination: ByteString,
    /// The id of the request.
    pub(crate) id: ByteString,
    /// The neighbour that it came from.
    pub(crate) from: ByteString,
}

/// What a reply leads to.
#[derive(Debug)]
pub(crate) struct Learnt<R> {
    /// Requests that it answers too.
    pub(crate) waiters: Vec<R>,
    pub(crate) released: Vec<Release<R>>,
    /// Where it is kept, if it is.
    pub(crate) kept: Option<(PullId, Place)>,
}

/// Transfers that are known at a time.
const MOST_PULLS: usize = 256;

/// Blocks that are on their way at most.
const MOST_FLIGHTS: usize = 4096;

/// Requests that wait for one block at most.
const MOST_WAITERS: usize = 256;

/// What nobody asked for in this time is dropped.
pub(super) const IDLE: Duration = Duration::from_secs(60);

impl<R> Cache<R> {
    /// A cache that keeps no more than `memory`. `hold`: how long a child that is ahead waits for others.
    pub(crate) fn new(memory: Arc<Budget>, counters: Arc<Counters>, hold: Duration) -> Self {
        Self { pulls: HashMap::new(), sent: HashMap::new(), memory, counters, hold }
    }

    /// Takes a request, and says which others go on their way because of it.
    pub(crate) fn ask(&mut self, asked: &Asked, request: R, now: Instant) -> (Verdict<R>, Vec<Release<R>>) {
        let id = (asked.target.clone(), asked.block.token);
        let verdict = self.judge(&id, asked, request, now);
        (verdict, self.release(&id, now))
    }

    fn judge(&mut self, id: &PullId, asked: &Asked, request: R, now: Instant) -> Verdict<R> {
        let place = Place::from(&asked.block);
        if !self.knows(id, now) {
            self.counters.block_misses.add(1);
            return Verdict::Forward(request);
        }
        let share = self.share(now);
        let pull = self.pulls.get_mut(id).expect("it is known");
        let reach = pull.reach(share);
        pull.meet(&asked.asker.peer, place, reach, now);
        if asked.fresh {
            pull.blocks.remove(&place);
        }
        if let Some(block) = pull.blocks.get_mut(&place) {
            (block.used, pull.moved) = (now, now);
            self.counters.block_hits.add(1);
            self.counters.block_bytes.add(block.reply.body.len() as u64);
            return Verdict::Answer(request, block.reply.clone());
        }
        let Some(hop) = &asked.hop else { return Verdict::Forward(request) };
        if !pull.flights.contains_key(&place) {
            self.counters.block_misses.add(1);
            return self.depart(id.clone(), asked, hop.clone(), request, now);
        }
        // What the others wait for may be damaged too, by a cache above.
        let seat = if asked.fresh { None } else { self.seat(id, asked, now) };
        let flight = self.pulls.get_mut(id).and_then(|pull| pull.flights.get_mut(&place));
        let Some((flight, seat)) = flight.zip(seat).filter(|(flight, _)| flight.waiters.len() < MOST_WAITERS)
        else {
            self.counters.block_misses.add(1);
            return Verdict::Forward(request);
        };
        self.counters.block_coalesced.add(1);
        flight.join(Waiter::new(asked, request, seat, now));
        Verdict::Kept
    }

    /// Sends or holds a request for a block that nobody else has asked for.
    fn depart(&mut self, id: PullId, asked: &Asked, hop: Hop, request: R, now: Instant) -> Verdict<R> {
        let place = Place::from(&asked.block);
        let key = (asked.asker.origin.clone(), asked.id.clone());
        let flights: usize = self.pulls.values().map(|pull| pull.flights.len()).sum();
        if self.is_taken(&key) || flights >= MOST_FLIGHTS {
            return Verdict::Forward(request);
        }
        let waits = !asked.fresh && !self.hold.is_zero() && self.must_wait(&id, place, now);
        let seat = if waits { self.seat(&id, asked, now) } else { None };
        let pull = self.pulls.get_mut(&id).expect("it is known");
        let (stage, verdict) = match seat {
            Some(seat) => {
                self.counters.block_holds.add(1);
                (Stage::Held(Waiter::new(asked, request, seat, now)), Verdict::Kept)
            }
            None => {
                self.sent.insert(key.clone(), (id, place));
                (
                    Stage::Sent(Sent { key, hop: Some(hop), at: now, doubtful: false }),
                    Verdict::Forward(request),
                )
            }
        };
        pull.flights.insert(place, Flight { stage, waiters: VecDeque::new() });
        verdict
    }

    /// Notes where a request goes that was released.
    pub(crate) fn departed(&mut self, (id, place): &(PullId, Place), hop: Hop) {
        let flight = self.pulls.get_mut(id).and_then(|pull| pull.flights.get_mut(place));
        if let Some(Flight { stage: Stage::Sent(sent), .. }) = flight {
            sent.hop = Some(hop);
        }
    }

    /// Takes a reply that passes. `None` if it answers nothing that is known here.
    pub(crate) fn learn(
        &mut self,
        answered: &Answered,
        target: &str,
        reply: Arc<Reply>,
        now: Instant,
    ) -> Option<Learnt<R>> {
        let (id, place) = self.answers(answered).filter(|((owner, _), _)| **owner == *target)?;
        let pull = self.pulls.get_mut(&id)?;
        let sent = pull.flights.get(&place).map(|flight| &flight.stage);
        if matches!(sent, Some(Stage::Sent(Sent { doubtful: true, .. }))) {
            let released = self.next_in_line(&id, place, now);
            return Some(Learnt { waiters: Vec::new(), released, kept: None });
        }
        let flight = pull.flights.remove(&place)?;
        pull.arrived(cost(&reply), now);
        if let Stage::Sent(sent) = flight.stage {
            self.sent.remove(&sent.key);
        }
        let waiters: Vec<_> = flight.waiters.into_iter().map(|waiter| waiter.request).collect();
        self.counters.block_bytes.add((waiters.len() * reply.body.len()) as u64);
        let kept = self.keep(&id, place, reply, now).then(|| (id.clone(), place));
        let released = self.release(&id, now);
        Some(Learnt { waiters, released, kept })
    }

    /// Takes a refusal that passes: it may be about the asker alone, so the next one's request goes on its way.
    pub(crate) fn refused(&mut self, answered: &Answered, now: Instant) -> Vec<Release<R>> {
        let Some((id, place)) = self.answers(answered) else { return Vec::new() };
        self.next_in_line(&id, place, now)
    }

    /// Gives up a request that could not go on its way.
    pub(crate) fn failed(&mut self, (id, place): &(PullId, Place), now: Instant) -> Vec<Release<R>> {
        self.next_in_line(id, *place, now)
    }

    /// Replaces what is kept by another copy of it.
    pub(crate) fn settle(&mut self, (id, place): &(PullId, Place), shared: &Arc<Reply>, own: Arc<Reply>) {
        let block = self.pulls.get_mut(id).and_then(|pull| pull.blocks.get_mut(place));
        if let Some(block) = block.filter(|block| Arc::ptr_eq(&block.reply, shared)) {
            block.reply = own;
        }
    }

    /// The request that a message answers, if it comes from where that went.
    fn answers(&self, answered: &Answered) -> Option<(PullId, Place)> {
        let key = (answered.destination.clone(), answered.id.clone());
        let (id, place) = self.sent.get(&key)?;
        match &self.pulls.get(id)?.flights.get(place)?.stage {
            Stage::Sent(sent) if sent.hop.as_ref()?.peer == answered.from => Some((id.clone(), *place)),
            _ => None,
        }
    }

    /// Lets requests go that need not wait (any longer).
    pub(crate) fn release(&mut self, id: &PullId, now: Instant) -> Vec<Release<R>> {
        let mut released = Vec::new();
        let Some(pull) = self.pulls.get(id) else { return released };
        let held = pull.flights.iter().filter_map(|(place, flight)| match &flight.stage {
            Stage::Held(waiter) => Some((*place, waiter.since)),
            Stage::Sent(_) => None,
        });
        let held: Vec<_> = held.collect();
        let has_expired = |since: Instant, hold: Duration| since + hold <= now;
        if held.iter().any(|(_, since)| has_expired(*since, self.hold)) {
            let share = self.share(now);
            self.pulls.get_mut(id).expect("it was just there").leave_behind(share, now);
        }
        let mut waits = false;
        for (place, since) in held {
            // If one must wait, so must those who want a later block, except for who has waited long enough.
            if !has_expired(since, self.hold) && (waits || self.must_wait(id, place, now)) {
                waits = true;
                continue;
            }
            released.extend(self.next_in_line(id, place, now));
        }
        released
    }

    /// Gives up what was asked for a block, if anything, and lets the next request go on its way.
    fn next_in_line(&mut self, id: &PullId, place: Place, now: Instant) -> Vec<Release<R>> {
        let flight = self.pulls.get_mut(id).and_then(|pull| pull.flights.remove(&place));
        let Some(Flight { stage, waiters: mut line }) = flight else { return Vec::new() };
        match stage {
            Stage::Held(waiter) => line.push_front(waiter),
            Stage::Sent(sent) => {
                self.sent.remove(&sent.key);
            }
        }
        let mut released = Vec::new();
        while let Some(Waiter { asker, id: request_id, request, .. }) = line.pop_front() {
            let key = (asker.origin, request_id);
            if self.is_taken(&key) {
                // It goes on by itself, and the others wait for somebody else's reply.
                released.push(Release { request, block: None });
                continue;
            }
            self.sent.insert(key.clone(), (id.clone(), place));
            let stage = Stage::Sent(Sent { key, hop: None, at: now, doubtful: false });
            if let Some(pull) = self.pulls.get_mut(id) {
                pull.flights.insert(place, Flight { stage, waiters: line });
            }
            released.push(Release { request, block: Some((id.clone(), place)) });
            break;
        }
        released
    }

    /// Whether a request on its way has this id. Nobody honest uses an id twice; if somebody does, it cannot be said which of
    /// the two a reply is for.
    fn is_taken(&mut self, key: &(ByteString, ByteString)) -> bool {
        let Some((id, place)) = self.sent.get(key) else { return false };
        let flight = self.pulls.get_mut(id).and_then(|pull| pull.flights.get_mut(place));
        if let Some(Flight { stage: Stage::Sent(sent), .. }) = flight {
            sent.doubtful = true;
        }
        true
    }

    /// A link ended: who asked by it waits no longer, and what was sent by it is sent again.
    pub(crate) fn link_down(&mut self, link: u64, now: Instant) -> Vec<Release<R>> {
        let mut lost = Vec::new();
        for (id, pull) in &mut self.pulls {
            pull.flights.retain(|place, flight| {
                flight.waiters.retain(|waiter| waiter.asker.link != link);
                match &mut flight.stage {
                    Stage::Held(waiter) if waiter.asker.link == link => {
                        let next = flight.waiters.pop_front();
                        let keep = next.is_some();
                        next.into_iter().for_each(|next| *waiter = next);
                        return keep;
                    }
                    Stage::Sent(Sent { hop: Some(hop), .. }) if hop.link == link => {
                        lost.push((id.clone(), *place))
                    }
                    // Its reply still comes by here, and others wait for it.
                    Stage::Held(_) | Stage::Sent(_) => {}
                }
                true
            });
        }
        lost.into_iter().flat_map(|(id, place)| self.next_in_line(&id, place, now)).collect()
    }

    /// Does what is due. Says when it will have to be done again, if anything is left.
    pub(crate) fn sweep(&mut self, now: Instant) -> (Vec<Release<R>>, Option<Instant>) {
        let mut released = Vec::new();
        let ids: Vec<_> = self.pulls.keys().cloned().collect();
        for id in ids {
            let pull = self.pulls.get_mut(&id).expect("nobody else removes it");
            pull.blocks.retain(|_, block| block.used + IDLE > now);
            for flight in pull.flights.values_mut() {
                let patient = |waiter: &Waiter<R>| waiter.since + LONGEST_WAIT > now;
                let (stay, go) = std::mem::take(&mut flight.waiters).into_iter().partition(patient);
                flight.waiters = stay;
                let go: VecDeque<Waiter<R>> = go;
                released
                    .extend(go.into_iter().map(|waiter| Release { request: waiter.request, block: None }));
            }
            let stale = pull.flights.iter().filter(|(_, flight)| match &flight.stage {
                Stage::Sent(sent) => pull.stale_at(sent) <= now,
                Stage::Held(_) => false,
            });
            let stale: Vec<_> = stale.map(|(place, _)| *place).collect();
            released.extend(stale.into_iter().flat_map(|place| self.next_in_line(&id, place, now)));
            released.extend(self.release(&id, now));
        }
        self.pulls.retain(|(source, token), pull| {
            let stays = pull.is_of_use() || pull.moved + IDLE > now;
            if !stays {
                tracing::debug!(%source, ?token, "transfer forgotten");
            }
            stays
        });
        (released, self.pulls.values().filter_map(|pull| pull.next_due(self.hold, now)).min())
    }

    /// Whether a transfer is known, or can be from now on.
    fn knows(&mut self, id: &PullId, now: Instant) -> bool {
        if self.pulls.contains_key(id) {
            return true;
        }
        if self.pulls.len() >= MOST_PULLS {
            let useless = self.pulls.iter().filter(|(_, pull)| !pull.is_of_use());
            let Some(oldest) = useless.min_by_key(|(_, pull)| pull.moved).map(|(id, _)| id.clone()) else {
                return false;
            };
            self.pulls.remove(&oldest);
        }
        tracing::debug!(source = %id.0, token = ?id.1, "blocks of a transfer begin to pass");
        self.pulls.insert(id.clone(), Pull::new(self.ceiling(), !self.hold.is_zero(), now));
        true
    }

    /// The places of the blocks of a transfer that are kept.
    #[cfg(test)]
    pub(crate) fn kept(&self, id: &PullId) -> Vec<Place> {
        self.pulls.get(id).into_iter().flat_map(|pull| pull.blocks.keys().copied()).collect()
    }
}

impl<R> Flight<R> {
    /// Lets a request wait with the others.
    fn join(&mut self, waiter: Waiter<R>) {
        let held = match &mut self.stage {
            Stage::Held(waiter) => Some(waiter),
            Stage::Sent(_) => None,
        };
        let mut waiting = held.into_iter().chain(&mut self.waiters);
        match waiting.find(|known| known.asker == waiter.asker) {
            // Who asks again has given up on its first request. Its time runs on.
            Some(known) => *known = Waiter { since: known.since, ..waiter },
            None => self.waiters.push_back(waiter),
        }
    }
}

impl<R> Waiter<R> {
    fn new(asked: &Asked, request: R, memory: Reservation, now: Instant) -> Self {
        let (asker, id) = (asked.asker.clone(), asked.id.clone());
        Self { asker, id, request, since: now, _memory: memory }
    }
}

impl<R> Pull<R> {
    /// Whether there is anything in it that must not be forgotten.
    fn is_of_use(&self) -> bool {
        !self.blocks.is_empty() || !self.flights.is_empty()
    }

    /// When something has to be done about it.
    fn next_due(&self, hold: Duration, now: Instant) -> Option<Instant> {
        let blocks = self.blocks.values().map(|block| block.used + IDLE);
        let flights = self.flights.values().map(|flight| {
            let stage = match &flight.stage {
                Stage::Held(waiter) => waiter.since + hold,
                Stage::Sent(sent) => self.stale_at(sent),
            };
            let waiters = flight.waiters.iter().map(|waiter| waiter.since + LONGEST_WAIT);
            waiters.fold(stage, Instant::min)
        });
        let empty = (!self.is_of_use()).then(|| self.moved + IDLE);
        let holds = self.flights.values().any(|flight| matches!(flight.stage, Stage::Held(_)));
        let gathered = self.gathers_until().filter(|until| holds && *until > now);
        blocks.chain(flights).chain(empty).chain(gathered).min()
    }
}
