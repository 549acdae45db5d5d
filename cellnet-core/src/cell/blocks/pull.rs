//! One transfer that passes here: who pulls it, what is kept of it, and what is on its way.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use bytestring::ByteString;
use tokio::time::Instant;

use super::place::Place;
use crate::{stats::Reservation, wire::Headers};

/// A reply as everybody may get it: without what depends on who asked.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) headers: Headers,
    pub(crate) body: Bytes,
}

/// Who asks, and by which link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asker {
    /// The cell that made the request.
    pub(crate) origin: ByteString,
    /// The neighbour that it came from.
    pub(crate) peer: ByteString,
    /// The number of the link.
    pub(crate) link: u64,
}

/// A request that stays here for a while.
#[derive(Debug)]
pub(super) struct Waiter<R> {
    pub(super) asker: Asker,
    pub(super) id: ByteString,
    pub(super) request: R,
    pub(super) since: Instant,
    pub(super) _memory: Reservation,
}

/// A block that somebody asked for and that is not here.
#[derive(Debug)]
pub(super) struct Flight<R> {
    pub(super) stage: Stage<R>,
    /// Those who asked for the same.
    pub(super) waiters: VecDeque<Waiter<R>>,
}

#[derive(Debug)]
pub(super) enum Stage<R> {
    /// The request waits until others have caught up.
    Held(Waiter<R>),
    /// The request is on its way.
    Sent(Sent),
}

/// A request that went on its way.
#[derive(Debug)]
pub(super) struct Sent {
    /// By which its reply will be known: who gets it, and its id.
    pub(super) key: (ByteString, ByteString),
    /// Where to; `None` for the moment in which the next hop is looked up.
    pub(super) hop: Option<Hop>,
    pub(super) at: Instant,
    /// Another request has the same id, so the reply may be that one's.
    pub(super) doubtful: bool,
}

/// The neighbour that a request was sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hop {
    pub(crate) peer: ByteString,
    pub(crate) link: u64,
}

/// A block that is kept.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) reply: Arc<Reply>,
    pub(super) used: Instant,
    pub(super) memory: Reservation,
}

/// A neighbour through which the transfer is pulled.
#[derive(Debug)]
struct Child {
    peer: ByteString,
    /// The furthest place that was asked for.
    front: Place,
    seen: Instant,
    /// Others wait for it no longer.
    left_behind: bool,
}

/// How much a block is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    /// All children that are known to pull have asked for it.
    Nobody,
    /// Somebody who is far behind will ask for it.
    Far,
    /// Somebody close behind will ask for it.
    Soon,
}

#[derive(Debug)]
pub(super) struct Pull<R> {
    children: Vec<Child>,
    /// The first place that anybody asked for.
    first: Place,
    /// Since the second child came, and since the last new one came.
    gathering: Option<(Instant, Instant)>,
    /// Whether those who are ahead wait for others.
    holds: bool,
    pub(super) blocks: BTreeMap<Place, Block>,
    pub(super) flights: BTreeMap<Place, Flight<R>>,
    /// What the largest block so far takes in memory.
    largest: Option<usize>,
    /// When a block last came.
    pub(super) came: Instant,
    /// When a block last came or was given to somebody.
    pub(super) moved: Instant,
    /// Bytes that may still be kept although nobody is known to need them.
    pub(super) allowance: usize,
}

/// Children that are waited for; more are served all the same.
const MOST_CHILDREN: usize = 128;

/// Until the first block came: the default size of blocks, and headers.
const FIRST_GUESS: usize = 260 * 1024;

/// Who asked for nothing for so long, while others did, is not waited for.
const ACTIVE: Duration = Duration::from_secs(2);

/// For so long after a new child came the next one may follow…
const GATHERING: Duration = Duration::from_secs(1);
/// …and for so long in all.
const LONGEST_GATHERING: Duration = Duration::from_secs(3);

/// A request that went on its way is given up when nothing came of its transfer for so long…
pub(super) const QUIET: Duration = Duration::from_secs(10);
/// …or after this.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(60);

impl<R> Pull<R> {
    pub(super) fn new(allowance: usize, holds: bool, now: Instant) -> Self {
        Self {
            children: Vec::new(),
            first: Place { file: u32::MAX, block: u64::MAX },
            gathering: None,
            holds,
            blocks: BTreeMap::new(),
            flights: BTreeMap::new(),
            largest: None,
            came: now,
            moved: now,
            allowance,
        }
    }

    /// Notes that a child asks. `reach`: how many blocks the cache can bridge.
    pub(super) fn meet(&mut self, peer: &ByteString, place: Place, reach: u64, now: Instant) {
        let lead = self.lead(now);
        self.first = self.first.min(place);
        let child = match self.children.iter_mut().position(|child| child.peer == *peer) {
            Some(at) => &mut self.children[at],
            None => {
                if self.children.len() >= MOST_CHILDREN {
                    let moved = self.moved;
                    self.children.retain(|child| child.is_active(moved, now));
                    if self.children.len() >= MOST_CHILDREN {
                        return;
                    }
                }
                if self.holds && !self.children.is_empty() {
                    self.gathering = Some((self.gathering.map_or(now, |(began, _)| began), now));
                }
                tracing::debug!(%peer, at = ?place, "pulls a transfer");
                let (peer, front) = (peer.clone(), place);
                self.children.push(Child { peer, front, seen: now, left_behind: false });
                self.children.last_mut().expect("it was just pushed")
            }
        };
        child.seen = now;
        child.front = child.front.max(place);
        if lead.is_none_or(|lead| child.front.ahead(lead) <= reach / 2) {
            child.left_behind = false;
        }
    }

    /// Who will ask for a block.
    pub(super) fn need(&self, place: Place, reach: u64, now: Instant) -> Need {
        let behind =
            self.children.iter().filter(|child| child.front < place && child.is_active(self.moved, now));
        let need = behind.map(|child| match child.left_behind || child.front.ahead(place) > reach {
            true => Need::Far,
            false => Need::Soon,
        });
        let to_come = match self.is_gathering(now) {
            true if self.first.ahead(place) > reach => Need::Far,
            true => Need::Soon,
            false => Need::Nobody,
        };
        need.max().unwrap_or(Need::Nobody).max(to_come)
    }

    /// Whether more children are likely to come: those of one broadcast begin together, but not at once.
    fn is_gathering(&self, now: Instant) -> bool {
        self.gathers_until().is_some_and(|until| now < until)
    }

    /// Until when more children are likely to come, if several have.
    pub(super) fn gathers_until(&self) -> Option<Instant> {
        self.gathering.map(|(began, last)| (began + LONGEST_GATHERING).min(last + GATHERING))
    }

    /// How far the first child may be ahead of the last, in blocks, if so many bytes may be kept: somewhat further than that,
    /// so that who would go further waits.
    pub(super) fn reach(&self, share: usize) -> u64 {
        ((share + share / 2) / self.typical()).max(1) as u64
    }

    /// Stops waiting for those who are far behind.
    pub(super) fn leave_behind(&mut self, share: usize, now: Instant) {
        let reach = self.reach(share);
        let Some(lead) = self.lead(now) else { return };
        for child in &mut self.children {
            if !child.left_behind && child.front.ahead(lead) > reach / 2 {
                child.left_behind = true;
                tracing::debug!(peer = %child.peer, at = ?child.front, ?lead, "left behind in a transfer");
            }
        }
    }

    /// Whether several children pull.
    pub(super) fn is_shared(&self, now: Instant) -> bool {
        self.children.iter().filter(|child| child.is_active(self.moved, now)).count() > 1
    }

    /// Notes that a block came that takes so much memory.
    pub(super) fn arrived(&mut self, cost: usize, now: Instant) {
        (self.came, self.moved) = (now, now);
        self.largest = self.largest.max(Some(cost));
    }

    /// What a block of it takes in memory.
    pub(super) fn typical(&self) -> usize {
        self.largest.unwrap_or(FIRST_GUESS)
    }

    /// Bytes kept.
    pub(super) fn kept(&self) -> usize {
        self.blocks.values().map(|block| block.memory.bytes()).sum()
    }

    /// Blocks that are on their way.
    pub(super) fn coming(&self) -> usize {
        self.flights.values().filter(|flight| matches!(flight.stage, Stage::Sent(_))).count()
    }

    /// When a request that was sent is given up.
    pub(super) fn stale_at(&self, sent: &Sent) -> Instant {
        (sent.at + LONGEST_WAIT).min(sent.at.max(self.came) + QUIET)
    }

    fn lead(&self, now: Instant) -> Option<Place> {
        self.children.iter().filter(|child| child.is_active(self.moved, now)).map(|child| child.front).max()
    }
}

impl Child {
    /// While nothing moves at all, nobody can be blamed for not asking.
    fn is_active(&self, moved: Instant, now: Instant) -> bool {
        self.seen + ACTIVE >= moved.min(now)
    }
}
