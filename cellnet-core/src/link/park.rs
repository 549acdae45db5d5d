//! What a reader sets aside while the next hop is full, so that everything else can pass.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{sync::Notify, time::Instant};

use super::{Inbox, Link, LinkConfig, Outgoing};
use crate::{
    fqcn::Fqcn,
    stats::{Budget, Reservation},
};

/// A message that waits for room.
#[derive(Debug)]
pub(crate) struct Parked {
    /// Whose queue is full; our own name for the queue of handlers.
    pub(crate) hop: Fqcn,
    pub(crate) message: Outgoing,
}

/// Messages of one inbound lane that wait for full hops, in order per hop.
#[derive(Debug)]
pub(crate) struct Park {
    lots: Vec<Lot>,
    reserved: Option<Reservation>,
    bytes: usize,
    /// Bytes that the budget had no room for; while there are any, the reader pauses.
    uncounted: usize,
    limit: usize,
    patience: Duration,
    /// Told when one of the hops has room.
    room: Arc<Notify>,
}

#[derive(Debug)]
struct Lot {
    hop: Fqcn,
    messages: VecDeque<Outgoing>,
    /// When the hop last took something.
    progress: Instant,
}

/// How long a hop may move no bytes while the park is full.
const CROWDED_PATIENCE: Duration = Duration::from_secs(2);

impl Park {
    pub(super) fn new(config: &LinkConfig, budget: &Arc<Budget>) -> Self {
        Self {
            lots: Vec::new(),
            reserved: budget.reserve(0),
            bytes: 0,
            uncounted: 0,
            limit: config.park_bytes,
            patience: config.patience,
            room: Arc::default(),
        }
    }

    /// Whether messages for a hop wait, so that a later one must not overtake them.
    pub(crate) fn holds(&self, hop: &str) -> bool {
        self.lots.iter().any(|lot| lot.hop.as_str() == hop)
    }

    /// Who is to be told when a hop has room again.
    pub(crate) fn room(&self) -> &Arc<Notify> {
        &self.room
    }

    /// Sets a message aside. The reader looks at [`is_full`](Self::is_full) before it reads on, so one message more
    /// than fits is no harm.
    pub(crate) fn push(&mut self, parked: Parked) {
        let cost = parked.message.cost();
        self.bytes += cost;
        let counted = self.reserved.as_mut().is_some_and(|reserved| reserved.grow(cost));
        if !counted {
            self.uncounted += cost;
        }
        match self.lots.iter_mut().find(|lot| lot.hop == parked.hop) {
            Some(lot) => lot.messages.push_back(parked.message),
            None => {
                let messages = VecDeque::from([parked.message]);
                self.lots.push(Lot { hop: parked.hop, messages, progress: Instant::now() });
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lots.is_empty()
    }

    /// Whether the reader must pause.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= self.limit || self.uncounted > 0
    }

    /// When the first hop runs out of patience.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let patience = self.patience_now();
        self.lots.iter().map(|lot| lot.progress + patience).min()
    }

    /// A full park holds up everybody behind this lane, so a hop that moves no bytes at all is given up sooner.
    fn patience_now(&self) -> Duration {
        if self.is_full() { self.patience.min(CROWDED_PATIENCE) } else { self.patience }
    }

    /// Offers everything again, in order per hop.
    pub(super) fn retry(&mut self, inbox: &dyn Inbox, link: &Arc<Link>) {
        let mut freed = 0;
        for lot in &mut self.lots {
            while let Some(message) = lot.messages.pop_front() {
                let cost = message.cost();
                if let Err(back) = inbox.retry(link, &self.room, Parked { hop: lot.hop.clone(), message }) {
                    lot.messages.push_front(back.message);
                    break;
                }
                freed += cost;
                lot.progress = Instant::now();
            }
        }
        self.settle(freed);
    }

    /// Gives up on the messages of hops that made no progress for too long.
    pub(super) fn expire(&mut self, inbox: &dyn Inbox, link: &Arc<Link>) {
        let (now, patience) = (Instant::now(), self.patience_now());
        let mut freed = 0;
        for lot in &mut self.lots {
            lot.progress = lot.progress.max(inbox.hop_progress(&lot.hop).unwrap_or(lot.progress));
            if lot.progress + patience > now {
                continue;
            }
            for message in lot.messages.drain(..) {
                freed += message.cost();
                inbox.expire(link, Parked { hop: lot.hop.clone(), message });
            }
        }
        self.settle(freed);
    }

    fn settle(&mut self, freed: usize) {
        self.lots.retain(|lot| !lot.messages.is_empty());
        self.bytes -= freed;
        let counted = freed.saturating_sub(self.uncounted);
        self.uncounted = self.uncounted.saturating_sub(freed);
        if let Some(reserved) = &mut self.reserved {
            reserved.shrink(if self.bytes == 0 { usize::MAX } else { counted });
        }
    }
}
