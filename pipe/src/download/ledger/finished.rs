//! References that nobody has to pull any more.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use bytestring::ByteString;
use cellnet_core::Fqcn;
use tokio::time::Instant;

/// References whose transaction is finished, and how it ended for whom: a last answer that got lost is given again.
#[derive(Debug, Default)]
pub(super) struct Finished {
    refs: HashMap<ByteString, (Instant, HashMap<Fqcn, bool>)>,
    order: VecDeque<ByteString>,
}

impl Finished {
    pub(super) fn add(&mut self, now: Instant, ref_id: ByteString, cells: HashMap<Fqcn, bool>, most: usize) {
        self.order.push_back(ref_id.clone());
        self.refs.insert(ref_id, (now, cells));
        while self.order.len() > most {
            self.forget_oldest();
        }
    }

    /// Whether a cell got everything; `None` if it is not known.
    pub(super) fn of(&self, now: Instant, ref_id: &ByteString, cell: &Fqcn, ttl: Duration) -> Option<bool> {
        let (since, cells) = self.refs.get(ref_id)?;
        if now.saturating_duration_since(*since) > ttl { None } else { cells.get(cell).copied() }
    }

    pub(super) fn expire(&mut self, now: Instant, ttl: Duration) {
        while let Some(oldest) = self.order.front()
            && self.refs.get(oldest).is_none_or(|(since, _)| now.saturating_duration_since(*since) > ttl)
        {
            self.forget_oldest();
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.refs.is_empty() && self.order.is_empty()
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.order.pop_front() {
            self.refs.remove(&oldest);
        }
    }
}
