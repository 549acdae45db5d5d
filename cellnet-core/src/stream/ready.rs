//! Data that waits to be read.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Data in order. Small chunks that wait are joined, so that the number of pieces is bounded by their bytes.
#[derive(Debug, Default)]
pub(super) struct Ready {
    whole: VecDeque<Bytes>,
    joined: BytesMut,
}

impl Ready {
    /// Appends a chunk; an empty one leaves no trace.
    pub(super) fn push(&mut self, body: Bytes) {
        if body.is_empty() {
            return;
        }
        let nothing_waits = self.whole.is_empty() && self.joined.is_empty();
        if body.len() < SMALL && !nothing_waits {
            self.joined.extend_from_slice(&body);
            if self.joined.len() >= JOINED {
                self.close_joined();
            }
            return;
        }
        self.close_joined();
        self.whole.push_back(body);
    }

    /// The first piece.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        if self.whole.is_empty() {
            self.close_joined();
        }
        self.whole.pop_front()
    }

    fn close_joined(&mut self) {
        if !self.joined.is_empty() {
            self.whole.push_back(std::mem::take(&mut self.joined).freeze());
        }
    }

    /// How many pieces wait.
    pub(super) fn pieces(&self) -> usize {
        self.whole.len() + usize::from(!self.joined.is_empty())
    }
}

/// A small chunk may be a slice of a large read, which it would keep alive while it waits.
pub(super) fn owned_if_small(body: Bytes) -> Bytes {
    if body.len() < SMALL { Bytes::copy_from_slice(&body) } else { body }
}

/// Chunks below this are copied together while they wait.
const SMALL: usize = 4 * 1024;
/// Joined chunks become one piece at this size.
const JOINED: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiny_chunks_take_few_pieces_and_stay_in_order() {
        let mut ready = Ready::default();
        (0..200_000_u32).for_each(|at| ready.push(Bytes::copy_from_slice(&[at as u8])));
        assert!(ready.pieces() < 10, "{}", ready.pieces());
        let all: Vec<u8> = std::iter::from_fn(|| ready.pop()).flatten().collect();
        assert!(all.iter().enumerate().all(|(at, &byte)| byte == at as u8));
        assert_eq!(all.len(), 200_000);
    }

    #[test]
    fn a_large_chunk_between_small_ones_is_shared_and_in_its_place() {
        let large = Bytes::from(vec![7; SMALL]);
        let mut ready = Ready::default();
        for body in [Bytes::from_static(b"a"), Bytes::from_static(b"b"), Bytes::new(), large.clone()] {
            ready.push(body);
        }
        ready.push(Bytes::from_static(b"c"));
        assert_eq!(ready.pieces(), 4);
        assert_eq!((ready.pop().unwrap(), ready.pop().unwrap()), ("a".into(), "b".into()));
        assert_eq!(ready.pop().unwrap().as_ptr(), large.as_ptr());
        assert_eq!((ready.pop(), ready.pop()), (Some("c".into()), None));
    }
}
