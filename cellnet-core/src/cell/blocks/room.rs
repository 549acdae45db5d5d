//! Room for blocks and for requests that wait: who gets it, and which block goes for it.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    cache::{Asked, Cache, PullId},
    place::Place,
    pull::{Block, Need, Reply},
};
use crate::stats::Reservation;

impl<R> Cache<R> {
    /// Memory for a request that waits. It takes little and spares a block, so blocks make room for it.
    pub(super) fn seat(&mut self, id: &PullId, asked: &Asked, now: Instant) -> Option<Reservation> {
        if asked.cost > LARGEST_REQUEST {
            return None;
        }
        let first = Place { file: 0, block: 0 };
        loop {
            if let Some(seat) = self.memory.reserve(asked.cost + OVERHEAD) {
                return Some(seat);
            }
            let wish = Wish { need: Need::Soon, ..self.wish(id, first, now) };
            let victim = self.yielding(&wish, now).max_by_key(|(rank, ..)| *rank);
            let (id, place) = victim.map(|(_, (id, place), _)| (id.clone(), place))?;
            self.pulls.get_mut(&id)?.blocks.remove(&place);
        }
    }

    /// Bytes for blocks; the rest is for requests that wait.
    pub(super) fn ceiling(&self) -> usize {
        self.memory.limit() - self.memory.limit() / 8
    }

    /// What one transfer may keep of what somebody needs, if others would keep more.
    pub(super) fn share(&self, now: Instant) -> usize {
        self.ceiling() / self.pulls.values().filter(|pull| pull.is_shared(now)).count().max(1)
    }

    /// Whether a request should wait: somebody else needs its block soon, and the room for it is taken by blocks that
    /// are needed sooner.
    pub(super) fn must_wait(&self, id: &PullId, place: Place, now: Instant) -> bool {
        let wish = self.wish(id, place, now);
        let pull = &self.pulls[id];
        if wish.need < Need::Soon || pull.typical() > wish.share {
            return false;
        }
        let wanted = pull.typical() * (1 + pull.coming());
        let free = self.ceiling().saturating_sub(self.memory.used());
        wanted > free && wanted > free + self.yielding(&wish, now).map(|(_, _, cost)| cost).sum::<usize>()
    }

    /// Keeps a block if it is worth it. The body is shared until it is [settled](Self::settle).
    pub(super) fn keep(&mut self, id: &PullId, place: Place, reply: Arc<Reply>, now: Instant) -> bool {
        let cost = cost(&reply);
        let wish = self.wish(id, place, now);
        if wish.need == Need::Nobody && self.pulls[id].allowance < cost || cost > wish.share {
            return false;
        }
        let memory = loop {
            let few = self.pulls.values().map(|pull| pull.blocks.len()).sum::<usize>() < MOST_BLOCKS;
            if let Some(memory) = few.then(|| self.memory.reserve_below(cost, self.ceiling())).flatten() {
                break memory;
            }
            let first = self.yielding(&wish, now).max_by_key(|(rank, ..)| *rank);
            let Some((_, (id, place), _)) = first else { return false };
            let id = id.clone();
            self.pulls.get_mut(&id).expect("it was just there").blocks.remove(&place);
        };
        let pull = self.pulls.get_mut(id).expect("the caller knows it");
        if wish.need == Need::Nobody {
            pull.allowance -= cost;
        }
        pull.blocks.insert(place, Block { reply, used: now, memory });
        true
    }

    fn wish<'a>(&self, id: &'a PullId, place: Place, now: Instant) -> Wish<'a> {
        let share = self.share(now);
        let pull = &self.pulls[id];
        Wish { id, place, need: pull.need(place, pull.reach(share), now), share, poor: pull.kept() < share }
    }

    /// Blocks that would make room for another one, with what they take. Those with the highest rank go first.
    fn yielding<'a>(
        &'a self,
        wish: &'a Wish<'_>,
        now: Instant,
    ) -> impl Iterator<Item = (Rank, (&'a PullId, Place), usize)> {
        self.pulls.iter().flat_map(move |(id, pull)| {
            let reach = pull.reach(wish.share);
            let (own, rich) = (id == wish.id, wish.poor && pull.kept() > wish.share);
            pull.blocks.iter().filter_map(move |(place, block)| {
                let later = own && *place > wish.place;
                let rank = match pull.need(*place, reach, now) {
                    Need::Nobody => Rank::Unneeded(now - block.used),
                    Need::Far if wish.need == Need::Soon || wish.need == Need::Far && later => {
                        Rank::Far(*place)
                    }
                    Need::Soon if wish.need == Need::Soon && later => Rank::Later(*place),
                    Need::Soon if wish.need == Need::Soon && !own && rich => Rank::Rich(*place),
                    Need::Far | Need::Soon => return None,
                };
                Some((rank, (id, *place), block.memory.bytes()))
            })
        })
    }
}

/// A block that is to be kept.
struct Wish<'a> {
    id: &'a PullId,
    place: Place,
    need: Need,
    share: usize,
    /// Whether the transfer has less than its share.
    poor: bool,
}

/// Which block goes first to make room: the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Of another transfer, which has more than its share.
    Rich(Place),
    /// Needed later than the one that comes.
    Later(Place),
    /// Needed by those only who are far behind.
    Far(Place),
    /// Needed by nobody known; unused for so long.
    Unneeded(Duration),
}

/// What a block takes in memory.
pub(super) fn cost(reply: &Reply) -> usize {
    reply.headers.memory() + reply.body.len() + OVERHEAD
}

/// Blocks that are kept at most, however small: looking through them must be quick.
const MOST_BLOCKS: usize = 1024;

/// A request that takes more than this does not wait here.
const LARGEST_REQUEST: usize = 8 * 1024;

/// What a request or a block takes besides itself: names, times, places in tables.
const OVERHEAD: usize = 1024;
