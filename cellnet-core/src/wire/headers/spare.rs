//! Changes of a message, in memory that is used again for the next one.

use std::{cell::RefCell, ops::Deref};

use super::changes::Changes;

/// What was set in headers, if anything was. What is dropped is kept for the next message that its thread makes.
#[derive(Debug, Default)]
pub(super) struct Spare(Option<Box<Changes>>);

impl Spare {
    /// Nothing was set.
    pub(super) const fn none() -> Self {
        Self(None)
    }

    pub(super) fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// What was set, to set more.
    #[inline]
    pub(super) fn get_mut(&mut self) -> &mut Changes {
        self.0.get_or_insert_with(|| {
            SPARE.try_with(|kept| kept.borrow_mut().pop()).ok().flatten().unwrap_or_default()
        })
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        self.0.as_ref().map_or(0, |changes| changes.memory())
    }
}

impl Deref for Spare {
    type Target = Changes;

    #[inline]
    fn deref(&self) -> &Changes {
        static NONE: Changes = Changes::none();
        self.0.as_deref().unwrap_or(&NONE)
    }
}

impl Clone for Spare {
    fn clone(&self) -> Self {
        let mut copy = Self::none();
        if let Some(changes) = &self.0 {
            copy.get_mut().clone_from(changes);
        }
        copy
    }
}

impl Drop for Spare {
    #[inline]
    fn drop(&mut self) {
        let Some(mut changes) = self.0.take() else { return };
        if changes.clear() <= KEPT_BYTES {
            // A thread that ends keeps nothing.
            let _ = SPARE.try_with(|kept| {
                let mut kept = kept.borrow_mut();
                if kept.len() < KEPT {
                    kept.push(changes);
                }
            });
        }
    }
}

thread_local! {
    #[expect(clippy::vec_box, reason = "what is used again is the boxes")]
    static SPARE: RefCell<Vec<Box<Changes>>> = const { RefCell::new(Vec::new()) };
}

/// As many as a writer takes at a time; of more messages than that each has long left the processor's caches.
const KEPT: usize = 64;

/// The longest that are kept, in bytes: some 32 KiB for a thread in all.
const KEPT_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> usize {
        SPARE.with_borrow(Vec::len)
    }

    fn set(value: &[u8]) -> Spare {
        let mut changes = Spare::none();
        changes.get_mut().add("key", |out| out.extend_from_slice(value));
        changes
    }

    #[test]
    fn a_thread_keeps_a_bounded_number_of_short_changes_and_nothing_of_what_was_in_them() {
        let many: Vec<_> = (0..2 * KEPT).map(|_| set(b"\x01")).collect();
        drop(many);
        assert_eq!(kept(), KEPT);
        let mut again = Spare::none();
        again.get_mut().add("other", |out| out.push(2));
        assert_eq!(kept(), KEPT - 1);
        assert_eq!((again.find("key"), again.find("other"), again.count_added()), (None, Some(&[2][..]), 1));
        let copy = again.clone();
        assert_eq!((copy.find("other"), kept()), (Some(&[2][..]), KEPT - 2));
        drop((again, copy, Spare::none()));
        let long = set(&[0; KEPT_BYTES]);
        assert_eq!(kept(), KEPT - 1);
        drop(long);
        assert_eq!(kept(), KEPT - 1);
    }
}
