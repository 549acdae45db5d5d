//! All that a cell offers.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

use super::{Reason, Token, TransferError, manifest::Manifest, offered::Offered, path::RelPath};
use crate::fqcn::Fqcn;

/// The offers of a cell, by token.
#[derive(Debug)]
pub(crate) struct Offers {
    offers: Mutex<HashMap<Token, Arc<Offered>>>,
    max: usize,
}

impl Offers {
    pub(crate) fn new(max: usize) -> Self {
        Self { offers: Mutex::default(), max: max.max(4) }
    }

    /// Adds an offer if there is room.
    pub(crate) fn add(&self, offered: Arc<Offered>) -> Result<(), TransferError> {
        let mut offers = self.offers();
        if offers.len() >= self.max {
            let text = format!("{} transfers from this cell are open", offers.len());
            return Err(TransferError::here(Reason::TooMany, text));
        }
        offers.insert(offered.token, offered);
        Ok(())
    }

    /// The offer, if this is one of those it was made to.
    pub(crate) fn find(&self, token: &Token, who: &Fqcn) -> Result<Arc<Offered>, TransferError> {
        let offered = self.offers().get(token).cloned();
        offered.filter(|offered| offered.admits(who)).ok_or_else(|| {
            TransferError::here(
                Reason::Stranger,
                format!("'{who}' was offered nothing under this token, or not any more"),
            )
        })
    }

    /// Lets somebody pull what a path is now: together with others who pull the same, or what is made of it.
    ///
    /// Who pulls together has one token, so relays on the way share the blocks.
    pub(crate) fn fetch(
        &self,
        who: &Fqcn,
        path: &RelPath,
        manifest: Manifest,
        offer: impl FnOnce(Manifest) -> Result<Offered, TransferError>,
    ) -> Result<Arc<Offered>, TransferError> {
        let mut offers = self.offers();
        let pulls: usize = offers.values().map(|offered| offered.pulls()).sum();
        let joined = |offered: &&Arc<Offered>| offered.may_be_joined(path, &manifest.fingerprint);
        let known = offers.values().find(joined).cloned();
        let again = known.as_ref().is_some_and(|known| known.has(who));
        if (known.is_none() && offers.len() >= self.max) || (!again && pulls >= self.max) {
            let text = format!("{} transfers from this cell are open", pulls.max(offers.len()));
            return Err(TransferError::here(Reason::TooMany, text));
        }
        let offered = match known {
            Some(known) => known,
            None => {
                let offered = Arc::new(offer(manifest)?);
                offers.insert(offered.token, offered.clone());
                offered
            }
        };
        offered.admit_anew(who);
        Ok(offered)
    }

    pub(crate) fn remove(&self, token: &Token) {
        if let Some(offered) = self.offers().remove(token) {
            offered.over.cancel();
        }
    }

    /// Offers that one cell pulls.
    pub(crate) fn count_for(&self, who: &Fqcn) -> usize {
        let offers: Vec<_> = self.offers().values().cloned().collect();
        offers.iter().filter(|offered| offered.has(who)).count()
    }

    /// The tokens of those that are over, or that nobody has used since then, and nobody waits for here.
    pub(crate) fn idle(&self, since: Option<Instant>) -> Vec<Token> {
        let offers: Vec<_> = self.offers().values().cloned().collect();
        offers.iter().for_each(|offered| offered.forget_idle(since));
        let idle = |offered: &&Arc<Offered>| {
            let unused = since.is_some_and(|since| offered.idle_since() < since);
            !offered.is_watched() && (unused || offered.is_over())
        };
        offers.iter().filter(idle).map(|offered| offered.token).collect()
    }

    pub(crate) fn clear(&self) {
        for (_, offered) in self.offers().drain() {
            offered.over.cancel();
        }
    }

    fn offers(&self) -> MutexGuard<'_, HashMap<Token, Arc<Offered>>> {
        self.offers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
