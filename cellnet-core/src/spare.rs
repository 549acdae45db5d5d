//! Buffers that were used and are used again: fresh memory costs a page fault for every 4 KiB, which halves the
//! throughput of large frames.

use std::{
    ops::RangeInclusive,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;

use crate::{
    stats::Reservation,
    transport::framed::{FIRST_BUFFER, READ_BUFFER},
};

/// A few buffers that nobody uses right now. Clones are the same few.
#[derive(Debug, Clone)]
pub(crate) struct Spares {
    buffers: Arc<Mutex<Vec<Vec<u8>>>>,
    /// Sizes that are worth keeping.
    sizes: RangeInclusive<usize>,
}

/// Buffers that are kept at most.
const MAX_KEPT: usize = 16;

impl Spares {
    /// Bodies around the 1 MiB of a chunk, so 16 MiB in all.
    pub(crate) fn bodies() -> Self {
        Self::of(256 * 1024..=1024 * 1024)
    }

    /// What is read into, so 1 MiB in all.
    pub(crate) fn read_buffers() -> Self {
        Self::of(FIRST_BUFFER..=READ_BUFFER)
    }

    fn of(sizes: RangeInclusive<usize>) -> Self {
        Self { buffers: Arc::default(), sizes }
    }

    /// An empty buffer with at least this capacity.
    pub(crate) fn take(&self, capacity: usize) -> Vec<u8> {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let found = buffers
            .iter()
            .rposition(|buffer| self.sizes.contains(&capacity) && buffer.capacity() >= capacity);
        let buffer = found.map(|at| buffers.swap_remove(at));
        drop(buffers);
        buffer.unwrap_or_else(|| Vec::with_capacity(capacity))
    }

    /// Shares the content of a buffer. When the last share is gone, the buffer comes back here and what is reserved
    /// for it is given back.
    pub(crate) fn lend(&self, buffer: Vec<u8>, reserved: Option<Reservation>) -> Bytes {
        Bytes::from_owner(Lent { buffer, home: self.clone(), _reserved: reserved })
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn kept(&self) -> usize {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Keeps a buffer, unless there are enough.
    pub(crate) fn put_back(&self, mut buffer: Vec<u8>) {
        if !self.sizes.contains(&buffer.capacity()) {
            return;
        }
        buffer.clear();
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        if buffers.len() < MAX_KEPT {
            buffers.push(buffer);
        }
    }
}

struct Lent {
    buffer: Vec<u8>,
    home: Spares,
    _reserved: Option<Reservation>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.put_back(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_with_its_last_share_and_few_are_kept() {
        let spares = Spares::bodies();
        let mut buffer = spares.take(1 << 20);
        buffer.extend_from_slice(b"abc");
        let memory = buffer.as_ptr();
        let shared = spares.lend(buffer, None);
        let part = shared.slice(1..);
        drop(shared);
        let other = spares.take(1 << 20);
        assert_ne!(other.as_ptr(), memory);
        assert_eq!(&part[..], b"bc");
        drop(part);
        let again = spares.take(1 << 20);
        assert_eq!((again.as_ptr(), again.len()), (memory, 0));

        let lent: Vec<_> = (0..100).map(|_| spares.lend(Vec::with_capacity(1 << 20), None)).collect();
        drop(lent);
        assert_eq!(spares.kept(), MAX_KEPT);
    }
}
