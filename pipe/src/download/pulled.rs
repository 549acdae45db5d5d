//! How much pulls may bring: each payload, and all of a cell together.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use cellnet_core::Fqcn;

use super::{PullConfig, PullError};

/// Bytes that have come for payloads which are not complete yet, of all that a cell pulls.
///
/// As with [turns](super::turns::Turns), owners under one root of names may bring as much as is still free for others: half of
/// it if nobody else does, and there is always something left.
#[derive(Debug)]
pub(super) struct Pulled {
    most: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    all: u64,
    /// By the root of the owners; there as long as anything of theirs is.
    of: HashMap<String, u64>,
}

impl Pulled {
    pub(super) fn new(most: u64) -> Self {
        Self { most, state: Mutex::default() }
    }

    /// Counts what has come; an error if it is too much.
    fn add(&self, root: &str, bytes: u64) -> Result<(), PullError> {
        let mut state = self.state();
        state.all = state.all.saturating_add(bytes);
        let all = state.all;
        let of = state.of.entry(root.to_owned()).or_default();
        *of = of.saturating_add(bytes);
        match self.most.checked_sub(all) {
            Some(free) if *of <= free => Ok(()),
            _ => Err(PullError::Full(self.most)),
        }
    }

    fn remove(&self, of: &HashMap<String, u64>) {
        let mut state = self.state();
        for (root, bytes) in of {
            state.all = state.all.saturating_sub(*bytes);
            if let Some(left) = state.of.get_mut(root) {
                *left = left.saturating_sub(*bytes);
                if *left == 0 {
                    state.of.remove(root);
                }
            }
        }
    }

    /// Bytes that count now.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        self.state().all
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How much may still come, for all that is pulled together. What has come counts for the whole cell until it is dropped.
#[derive(Debug)]
pub(super) struct Allowance {
    bytes: Mutex<(u64, HashMap<String, u64>)>,
    most: u64,
    items: (AtomicUsize, usize),
    all: Arc<Pulled>,
}

impl Allowance {
    pub(super) fn new(config: &PullConfig, all: Arc<Pulled>) -> Self {
        let items = (AtomicUsize::new(0), config.max_items);
        Self { bytes: Mutex::default(), most: config.max_bytes, items, all }
    }

    /// Counts bytes of an owner, which are here already.
    pub(super) fn take_bytes(&self, owner: &Fqcn, bytes: u64) -> Result<(), PullError> {
        let mine = {
            let mut taken = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
            taken.0 = taken.0.saturating_add(bytes);
            *taken.1.entry(owner.root().to_owned()).or_default() += bytes;
            taken.0
        };
        let all = self.all.add(owner.root(), bytes);
        if mine > self.most { Err(PullError::TooLarge(self.most)) } else { all }
    }

    pub(super) fn take_items(&self, items: usize) -> Result<(), PullError> {
        let (taken, most) = &self.items;
        let before = taken.fetch_add(items, Relaxed);
        if before.saturating_add(items) > *most { Err(PullError::TooMany(*most)) } else { Ok(()) }
    }

    /// Most items that one answer may bring; one too many is seen as such.
    pub(super) fn items_left(&self) -> usize {
        let (taken, most) = &self.items;
        most.saturating_sub(taken.load(Relaxed)).saturating_add(1)
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        let taken = self.bytes.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.all.remove(&taken.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(pulled: &Arc<Pulled>, owner: &str, bytes: u64) -> (Allowance, Result<(), PullError>) {
        let allowance = Allowance::new(&PullConfig::default(), pulled.clone());
        let taken = allowance.take_bytes(&owner.parse().unwrap(), bytes);
        (allowance, taken)
    }

    #[test]
    fn owners_under_one_root_leave_bytes_for_others() {
        let pulled = Arc::new(Pulled::new(1000));
        let (first, taken) = take(&pulled, "site-1.a", 400);
        assert!(taken.is_ok());
        let (second, refused) = take(&pulled, "site-1.b", 200);
        assert!(matches!(refused, Err(PullError::Full(1000))), "{refused:?}");
        // It counts as long as it is here.
        assert_eq!(pulled.bytes(), 600);
        drop(second);
        let (other, taken) = take(&pulled, "site-2", 300);
        assert!(taken.is_ok());
        drop((first, other));
        assert_eq!(pulled.bytes(), 0);
        assert!(pulled.state().of.is_empty());
    }
}
