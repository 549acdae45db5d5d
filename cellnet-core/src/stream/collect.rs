//! A blob as it grows in memory.

use std::sync::Arc;

use bytes::Bytes;

use super::StreamError;
use crate::stats::{Budget, Reservation};

/// A blob as it grows: memory follows the bytes that came, up to the length that was claimed.
#[derive(Debug)]
pub(super) struct Collected {
    data: Vec<u8>,
    claimed: usize,
    reserved: Option<Reservation>,
}

impl Collected {
    /// Nothing yet, of a claimed length; 0 if that is unknown.
    pub(super) fn new(claimed: u64, budget: &Arc<Budget>) -> Self {
        let claimed = usize::try_from(claimed).ok().filter(|&claimed| claimed > 0).unwrap_or(usize::MAX);
        Self { data: Vec::new(), claimed, reserved: budget.reserve(0) }
    }

    /// Appends a piece. Fails if there is no memory for it.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<(), StreamError> {
        let needed = self.data.len() + piece.len();
        if needed > self.data.capacity() {
            self.grow(needed)?;
        }
        self.data.extend_from_slice(piece);
        Ok(())
    }

    fn grow(&mut self, needed: usize) -> Result<(), StreamError> {
        let wanted = needed.saturating_mul(2).min(self.claimed).max(needed);
        let more = wanted - self.data.capacity();
        let no_memory = || StreamError::NoMemory(wanted as u64);
        let reserved = self.reserved.as_mut().is_some_and(|reserved| reserved.grow(more));
        if !reserved {
            return Err(no_memory());
        }
        self.data.try_reserve_exact(wanted - self.data.len()).map_err(|_| no_memory())
    }

    /// The blob; its memory no longer counts.
    pub(super) fn into_bytes(self) -> Bytes {
        self.data.into()
    }

    /// The blob; its memory counts until the last reference to it is gone.
    pub(super) fn into_counted_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Collected {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_follows_what_came_and_not_what_was_claimed() {
        let budget = Budget::new(100);
        let mut blob = Collected::new(1 << 40, &budget);
        blob.push(&[1; 20]).unwrap();
        assert_eq!(budget.used(), 40);
        blob.push(&[2; 30]).unwrap();
        assert_eq!(budget.used(), 100);
        assert!(matches!(blob.push(&[3; 51]), Err(StreamError::NoMemory(_))));
        drop(blob);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_claim_that_is_true_is_not_exceeded_and_bytes_count_until_they_are_gone() {
        let budget = Budget::new(100);
        let mut blob = Collected::new(60, &budget);
        blob.push(&[1; 40]).unwrap();
        blob.push(&[2; 20]).unwrap();
        let bytes = blob.into_counted_bytes();
        let part = bytes.slice(50..);
        drop(bytes);
        assert_eq!((budget.used(), part.len()), (60, 10));
        drop(part);
        assert_eq!(budget.used(), 0);
    }
}
