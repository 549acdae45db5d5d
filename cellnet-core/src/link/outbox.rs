//! What waits to be written to one neighbour: control before bulk, bounded in bytes and count.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::Notify, time::Instant};

use super::{
    LinkConfig,
    lanes::{AckKey, Class, classify},
    pen::Pen,
};
use crate::{
    stats::{Budget, Meter, Reservation},
    transport::Connection,
    wire::{Headers, keys::sm},
};

/// A message that waits to be written.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) headers: Headers,
    pub(crate) body: Bytes,
    pub(crate) class: Class,
    cost: usize,
}

impl Outgoing {
    pub(crate) fn new(headers: Headers, body: Bytes) -> Self {
        let class = classify(&headers, body.len());
        let cost = headers.memory() + body.len();
        Self { headers, body, class, cost }
    }

    /// What it counts in queues: headers and body, as they are in memory.
    pub(crate) fn cost(&self) -> usize {
        self.cost
    }
}

/// A message that was not taken.
#[derive(Debug)]
pub(crate) enum Refused {
    /// There is no room now.
    Full(Outgoing),
    /// The link is ending.
    Closed(Outgoing),
}

/// Why a message that was willing to wait was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PushError {
    Full,
    Closed,
}

/// What the writer sends before any message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Signals {
    pub(crate) ping: bool,
    pub(crate) pong: bool,
    /// Somebody else's write is not finished.
    pub(crate) rest: bool,
}

/// What a writer finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// Something to write.
    Work(Signals),
    /// Nothing that was not taken before.
    Nothing,
    /// Nothing, and there will be nothing more.
    End,
}

/// Queues in front of the writers of one link.
#[derive(Debug)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    /// One per writer, control first.
    ready: Vec<Notify>,
    meter: Arc<Meter>,
    limits: Limits,
    /// What each lane is written with.
    pens: Vec<OnceLock<Pen>>,
}

#[derive(Debug)]
struct Limits {
    messages: usize,
    control_bytes: usize,
    bulk_bytes: usize,
}

#[derive(Debug)]
struct State {
    control: Queue,
    /// Where in `control` an ACK waits, as a number since the beginning.
    acks: HashMap<Box<AckKey>, u64>,
    /// At least one; with one lane the control writer serves it too.
    bulk: Vec<Queue>,
    reserved: Option<Reservation>,
    signals: Signals,
    /// Whether the control lane's writer has taken something and did not come back for more.
    writing: bool,
    closed: bool,
    /// Told as soon as there is room again.
    waiting: Vec<Arc<Notify>>,
    /// When the writers last took something, or bytes were seen to move.
    progress: Instant,
    /// Bytes written when that was seen.
    written: u64,
    /// Messages that writers had taken and not written when they were stopped.
    in_flight: Vec<Outgoing>,
}

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<Outgoing>,
    bytes: usize,
    /// Messages taken since the beginning.
    taken: u64,
    /// Cost of the message in front, if the budget had no room for it.
    uncounted: usize,
}

impl Queue {
    /// Whether there is as much as a writer takes at a time.
    fn is_batch(&self) -> bool {
        self.messages.len() >= BATCH_MESSAGES || self.bytes >= BATCH_BYTES
    }

    fn push(&mut self, message: Outgoing) {
        self.bytes += message.cost();
        self.messages.push_back(message);
    }

    fn pop(&mut self) -> Option<Outgoing> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.cost();
        self.taken += 1;
        Some(message)
    }
}

impl Outbox {
    pub(super) fn new(config: &LinkConfig, connection: &Connection, budget: Arc<Budget>) -> Self {
        Self::with_lanes(config, connection.bulk.len(), connection.info.meter.clone(), budget)
    }

    pub(super) fn with_lanes(
        config: &LinkConfig,
        bulk_lanes: usize,
        meter: Arc<Meter>,
        budget: Arc<Budget>,
    ) -> Self {
        Self {
            state: Mutex::new(State {
                control: Queue::default(),
                acks: HashMap::new(),
                bulk: (0..bulk_lanes.max(1)).map(|_| Queue::default()).collect(),
                reserved: budget.reserve(0),
                signals: Signals::default(),
                writing: false,
                closed: false,
                waiting: Vec::new(),
                written: meter.tx(),
                progress: Instant::now(),
                in_flight: Vec::new(),
            }),
            meter,
            ready: (0..=bulk_lanes).map(|_| Notify::new()).collect(),
            limits: Limits {
                messages: config.outbox_messages,
                control_bytes: config.control_bytes,
                bulk_bytes: config.outbox_bytes,
            },
            pens: (0..=bulk_lanes).map(|_| OnceLock::new()).collect(),
        }
    }

    /// Lends what a lane is written with: to senders, which write by themselves while the control lane is idle, and to
    /// [`relax`](Self::relax).
    pub(super) fn lend(&self, lane: usize, pen: Pen) {
        self.pens[lane].get_or_init(|| pen);
    }

    /// Takes a message if there is room; never waits.
    pub(crate) fn try_push(&self, message: Outgoing) -> Result<(), Refused> {
        self.offer(message, None)
    }

    /// [`try_push`](Self::try_push) that tells `waiter` once when it is worth trying again, if there was no room.
    pub(crate) fn try_push_or_wake(&self, message: Outgoing, waiter: &Arc<Notify>) -> Result<(), Refused> {
        self.offer(message, Some(waiter))
    }

    /// Takes a message as soon as there is room. Fails once the neighbour made no progress for `patience`.
    /// A dropped future leaves nothing behind.
    pub(crate) async fn push(&self, mut message: Outgoing, patience: Duration) -> Result<(), PushError> {
        message = match self.try_push(message) {
            Ok(()) => return Ok(()),
            Err(Refused::Closed(_)) => return Err(PushError::Closed),
            Err(Refused::Full(message)) => message,
        };
        let room = Arc::new(Notify::new());
        let start = Instant::now();
        loop {
            message = match self.try_push_or_wake(message, &room) {
                Ok(()) => return Ok(()),
                Err(Refused::Closed(_)) => return Err(PushError::Closed),
                Err(Refused::Full(message)) => message,
            };
            let deadline = self.progress().max(start) + patience;
            let out_of_patience = tokio::time::timeout_at(deadline, room.notified()).await.is_err();
            if out_of_patience && self.progress().max(start) + patience <= Instant::now() {
                return Err(PushError::Full);
            }
        }
    }

    fn offer(&self, message: Outgoing, waiter: Option<&Arc<Notify>>) -> Result<(), Refused> {
        let mut state = self.state();
        if state.closed {
            return Err(Refused::Closed(message));
        }
        if state.is_idle(&message.class)
            && let Some(mut ink) = self.pens[0].get().and_then(Pen::idle)
        {
            drop(state);
            let written = ink.write_now(message);
            drop(ink);
            if !written {
                self.state().signals.rest = true;
                self.ready[0].notify_one();
            }
            return Ok(());
        }
        match state.push(message, &self.limits) {
            Ok(queue) => {
                let batch = queue == 0 && state.control.is_batch();
                drop(state);
                if batch && self.write_batch() {
                    return Ok(());
                }
                // With a single lane the control writer serves the only bulk queue.
                self.ready[queue.min(self.ready.len() - 1)].notify_one();
                Ok(())
            }
            Err(message) => {
                // What is full is not empty, so a writer comes by and wakes whoever is listed.
                if let Some(waiter) = waiter.filter(|waiter| !state.knows(waiter)) {
                    state.waiting.push(waiter.clone());
                }
                Err(Refused::Full(message))
            }
        }
    }

    /// Writes what waits on the control lane, up to a batch, as far as that goes without waiting: while that is still in
    /// the processor's caches, and without a change of task. Says whether there is nothing to tell the writer.
    fn write_batch(&self) -> bool {
        let Some(mut ink) = self.pens[0].get().and_then(Pen::free) else { return false };
        let done = ink.write_batch(self);
        drop(ink);
        if !done {
            self.state().signals.rest = true;
        }
        done
    }

    /// When the writers last took something or the connection moved bytes: on a slow one a single chunk takes long.
    pub(crate) fn progress(&self) -> Instant {
        let written = self.meter.tx();
        let mut state = self.state();
        if written != state.written {
            state.written = written;
            state.progress = Instant::now();
        }
        state.progress
    }

    /// Takes back what a writer took and may not have written.
    pub(super) fn give_back(&self, messages: &mut Vec<Outgoing>) {
        self.state().in_flight.append(messages);
    }

    /// Asks the peer for a sign of life.
    pub(crate) fn ping(&self) {
        self.state().signals.ping = true;
        self.ready[0].notify_one();
    }

    /// Gives the peer a sign of life. Several that still wait are one.
    pub(super) fn pong(&self) {
        self.state().signals.pong = true;
        self.ready[0].notify_one();
    }

    /// Messages and frames that there is memory for.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        let pens = self.pens.iter().filter_map(OnceLock::get);
        let taken: usize = pens.map(|pen| pen.ink().capacity()).sum();
        let state = self.state();
        let queues = state.bulk.iter().chain([&state.control]);
        taken + queues.map(|queue| queue.messages.capacity()).sum::<usize>()
    }

    /// Gives back memory that earlier messages needed, where none waits.
    pub(super) fn relax(&self) {
        self.state().relax();
        for pen in self.pens.iter().filter_map(OnceLock::get) {
            pen.quiet().iter_mut().for_each(|ink| ink.relax());
        }
    }

    /// Takes nothing more; what is in it may still be written.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.wake();
        drop(state);
        self.ready.iter().for_each(Notify::notify_one);
    }

    /// Waits until it is worth looking again for something to [`take`](Self::take) on a lane. Cancel safe.
    pub(super) async fn ready(&self, lane: usize) {
        self.ready[lane].notified().await;
    }

    /// Appends up to a batch of what waits for a lane (0 is control) to `taken`.
    pub(super) fn take(&self, lane: usize, taken: &mut Vec<Outgoing>) -> Taken {
        let mut state = self.state();
        let single = self.ready.len() == 1;
        let signals = if lane == 0 { std::mem::take(&mut state.signals) } else { Signals::default() };
        let before = taken.len();
        state.fill(lane, single, taken);
        let some = taken.len() > before;
        if some {
            state.progress = Instant::now();
            if state.roomy(lane, single, &self.limits) {
                state.wake();
            }
        }
        let work = some || signals != Signals::default();
        if lane == 0 {
            state.writing = work;
        }
        match work {
            true => Taken::Work(signals),
            false if state.closed => Taken::End,
            false => Taken::Nothing,
        }
    }

    /// Empties the outbox of a link that ended.
    pub(super) fn drain(&self) -> Vec<Outgoing> {
        let mut state = self.state();
        state.closed = true;
        state.acks.clear();
        let State { control, bulk, reserved, in_flight, .. } = &mut *state;
        *reserved = None;
        let queues = std::iter::once(control).chain(bulk);
        let waiting = queues.flat_map(|queue| std::mem::take(queue).messages);
        let left = std::mem::take(in_flight).into_iter().chain(waiting).collect();
        state.wake();
        left
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A batch is at most this many frames…
pub(super) const BATCH_MESSAGES: usize = 64;
/// …or this many bytes, or one larger frame. More would only make control wait.
const BATCH_BYTES: usize = 256 * 1024;

impl State {
    /// Puts a message into its queue and gives the number of the queue: 0 for control, or a bulk lane's plus one.
    fn push(&mut self, message: Outgoing, limits: &Limits) -> Result<usize, Outgoing> {
        match &message.class {
            Class::Control => self.push_control(message, limits).map(|()| 0),
            Class::Ack(key) => {
                let key = key.clone();
                self.push_ack(key, message, limits).map(|()| 0)
            }
            Class::Bulk(stream) => {
                let lane = (*stream % self.bulk.len() as u64) as usize;
                self.push_bulk(lane, message, limits).map(|()| lane + 1)
            }
        }
    }

    fn push_control(&mut self, message: Outgoing, limits: &Limits) -> Result<(), Outgoing> {
        if self.control.messages.len() >= limits.messages || self.control.bytes >= limits.control_bytes {
            return Err(message);
        }
        self.control.push(message);
        Ok(())
    }

    fn push_ack(&mut self, key: Box<AckKey>, message: Outgoing, limits: &Limits) -> Result<(), Outgoing> {
        let taken = self.control.taken;
        if let Some(at) = self.acks.get(&key).and_then(|at| at.checked_sub(taken)) {
            let at = usize::try_from(at).expect("a queue's length is a usize");
            let waiting = &mut self.control.messages[at];
            // They may come in any order, and only the largest counts.
            if acknowledged(&message) >= acknowledged(waiting) {
                self.control.bytes = self.control.bytes - waiting.cost() + message.cost();
                *waiting = message;
            }
            return Ok(());
        }
        let at = taken + self.control.messages.len() as u64;
        self.push_control(message, limits)?;
        self.acks.insert(key, at);
        Ok(())
    }

    fn push_bulk(&mut self, lane: usize, message: Outgoing, limits: &Limits) -> Result<(), Outgoing> {
        let queue = &self.bulk[lane];
        let bytes = queue.bytes;
        if bytes >= limits.bulk_bytes || queue.messages.len() >= limits.messages {
            return Err(message);
        }
        // One message may always wait, or a budget that others use up would stop this link for good.
        let fits = self.reserved.as_mut().is_some_and(|reserved| reserved.grow(message.cost()));
        if !fits && bytes > 0 {
            return Err(message);
        }
        if !fits {
            self.bulk[lane].uncounted = message.cost();
        }
        self.bulk[lane].push(message);
        Ok(())
    }

    /// Whether a message would be the only one that waits, and belongs on the control lane.
    fn is_idle(&self, class: &Class) -> bool {
        let control = matches!(class, Class::Control | Class::Ack(_));
        let busy = self.writing || self.signals != Signals::default();
        let mut queues = self.bulk.iter().chain([&self.control]);
        control && !busy && queues.all(|queue| queue.messages.is_empty())
    }

    fn knows(&self, waiter: &Arc<Notify>) -> bool {
        self.waiting.iter().any(|known| Arc::ptr_eq(known, waiter))
    }

    /// Appends up to a batch: control, then bulk.
    fn fill(&mut self, lane: usize, single: bool, taken: &mut Vec<Outgoing>) {
        let (before, mut bytes) = (taken.len(), 0);
        let mut roomy = |taken: &Vec<Outgoing>, next: Option<&Outgoing>| {
            let Some(next) = next else { return false };
            let messages = taken.len() - before;
            let fits = messages == 0 || (messages < BATCH_MESSAGES && bytes + next.cost() <= BATCH_BYTES);
            bytes += next.cost();
            fits
        };
        if lane == 0 {
            while roomy(taken, self.control.messages.front()) {
                let message = self.control.pop().expect("the front was looked at");
                if let Class::Ack(key) = &message.class {
                    self.acks.remove(key);
                }
                taken.push(message);
            }
        }
        if lane > 0 || single {
            let queue = &mut self.bulk[lane.saturating_sub(1)];
            let before = queue.bytes;
            while roomy(taken, queue.messages.front()) {
                taken.extend(queue.pop());
            }
            let freed = before - queue.bytes;
            if freed > 0
                && let Some(reserved) = &mut self.reserved
            {
                reserved.shrink(freed - std::mem::take(&mut queue.uncounted));
            }
        }
    }

    /// Whether it is worth waking those who wait: a queue that a writer just took from is half empty. Whoever waits
    /// for another one asks again.
    fn roomy(&self, lane: usize, single: bool, limits: &Limits) -> bool {
        let half = |queue: &Queue, bytes: usize| {
            queue.messages.len() <= limits.messages / 2 && queue.bytes <= bytes / 2
        };
        let control = lane == 0 && half(&self.control, limits.control_bytes);
        let bulk = (lane > 0 || single) && half(&self.bulk[lane.saturating_sub(1)], limits.bulk_bytes);
        control || bulk
    }

    fn relax(&mut self) {
        self.bulk.iter_mut().chain([&mut self.control]).for_each(|queue| queue.messages.shrink_to_fit());
        self.acks.shrink_to_fit();
        self.waiting.shrink_to_fit();
    }

    fn wake(&mut self) {
        self.waiting.drain(..).for_each(|waiter| waiter.notify_one());
    }
}

/// The bytes that an ACK acknowledges.
fn acknowledged(ack: &Outgoing) -> Option<u64> {
    ack.headers.uint(sm::OFFSET)
}

#[cfg(test)]
mod tests;
