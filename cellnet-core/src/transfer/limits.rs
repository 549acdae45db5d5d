//! What all transfers of a cell take together, whoever asked for them.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::{Reason, TransferConfig, TransferError, wire::Entry};
use crate::stats::{Budget, Reservation};

/// What all transfers of a cell take together. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Memory for manifests: of what others fetch, and what sinks know of those of their sources.
    pub(crate) names: Arc<Budget>,
    /// Bytes that sinks have asked for beyond the [`FEW`] blocks that each may.
    pub(crate) windows: Arc<Budget>,
    /// Turns of those who look through the outbox, and of those who read all that they sent once more: others want to get to
    /// the disk as well.
    pub(crate) walks: Arc<Semaphore>,
    pub(crate) checks: Arc<Semaphore>,
}

impl Limits {
    pub(crate) fn new(config: &TransferConfig) -> Self {
        let turns = || Arc::new(Semaphore::new(TURNS));
        let (names, windows) = (Budget::new(config.names), Budget::new(config.windows));
        Self { names, windows, walks: turns(), checks: turns() }
    }
}

/// What entries of a manifest take in memory.
pub(crate) fn memory<'a>(entries: impl Iterator<Item = &'a Entry>) -> usize {
    entries.map(|entry| entry.path.len() + OVERHEAD).sum()
}

/// There is no memory for more names.
pub(crate) fn too_many_names(names: &Budget) -> TransferError {
    let text =
        format!("names of files take more than the {} bytes that there are for all transfers", names.limit());
    TransferError::here(Reason::TooMany, text)
}

/// What a sink has asked for, so that all together stay within their limit.
#[derive(Debug)]
pub(crate) struct Share {
    taken: Reservation,
    block: usize,
}

impl Share {
    pub(crate) fn new(budget: &Arc<Budget>, block: usize) -> Self {
        Self { taken: nothing(budget), block }
    }

    /// Whether a sink that has asked for so many blocks may ask for one more.
    pub(crate) fn allows(&mut self, asked: usize) -> bool {
        let wanted = (asked + 1).saturating_sub(FEW) * self.block;
        let more = wanted.saturating_sub(self.taken.bytes());
        self.taken.grow(more)
    }

    /// Gives back what is not needed for so many blocks.
    pub(crate) fn settle(&mut self, asked: usize) {
        let needed = asked.saturating_sub(FEW) * self.block;
        self.taken.shrink(self.taken.bytes().saturating_sub(needed));
    }
}

/// A reservation that can grow.
pub(crate) fn nothing(budget: &Arc<Budget>) -> Reservation {
    budget.reserve(0).expect("nothing is always left")
}

/// Blocks that every sink may ask for.
pub(crate) const FEW: usize = 2;
/// What an entry takes besides its path: itself, its places in tables, its copy among those that are complete.
const OVERHEAD: usize = 256;
/// Trees that are looked at at the same time.
const TURNS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_blocks_are_free_and_the_rest_is_shared() {
        let budget = Budget::new(30);
        let (mut first, mut second) = (Share::new(&budget, 10), Share::new(&budget, 10));
        assert_eq!((0..9).take_while(|asked| first.allows(*asked)).count(), FEW + 3);
        assert_eq!((0..9).take_while(|asked| second.allows(*asked)).count(), FEW);
        first.settle(FEW + 1);
        assert_eq!(budget.used(), 10);
        assert_eq!((0..9).take_while(|asked| second.allows(*asked)).count(), FEW + 2);
        drop((first, second));
        assert_eq!(budget.used(), 0);
    }
}
