//! Digests of files from those of their blocks.
//!
//! BLAKE3 is a tree over chunks of 1 KiB. A block is a whole subtree of it, so its *chaining value* is enough to go on: the
//! digest of the file follows from the values of its blocks in whatever order they come, and nothing is read twice.

use std::collections::BTreeMap;

use blake3::{
    Hasher,
    hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root},
};

use super::wire::{Entry, Hash};

/// The chaining value of a block that begins at `offset`. The block is not empty.
pub(crate) fn block_value(offset: u64, block: &[u8]) -> Hash {
    let mut hasher = Hasher::new();
    hasher.set_input_offset(offset);
    hasher.update(block);
    hasher.finalize_non_root()
}

/// The chaining value of a block of zeros.
pub(crate) fn hole_value(offset: u64, len: usize) -> Hash {
    let mut hasher = Hasher::new();
    hasher.set_input_offset(offset);
    zeros(len, |zeros| {
        hasher.update(zeros);
    });
    hasher.finalize_non_root()
}

/// The digest of a file of so many zeros.
pub(crate) fn hole_digest(len: usize) -> Hash {
    let mut hasher = Hasher::new();
    zeros(len, |zeros| {
        hasher.update(zeros);
    });
    hasher.finalize().into()
}

fn zeros(mut len: usize, mut take: impl FnMut(&[u8])) {
    while len > 0 {
        let piece = len.min(ZEROS.len());
        take(&ZEROS[..piece]);
        len -= piece;
    }
}

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Whether there are zeros only.
pub(crate) fn is_hole(bytes: &[u8]) -> bool {
    bytes.chunks(ZEROS.len()).all(|piece| piece == &ZEROS[..piece.len()])
}

/// The values of the blocks of one file, merged as far as they meet: with blocks that come about in order it stays small.
#[derive(Debug, Default)]
pub(crate) struct BlockTree {
    /// By level and number within the level: level 0 are blocks, each level above has pairs of those below. Nothing that
    /// begins at block 0 is merged before the end, because it may be the whole file, which merges differently.
    nodes: BTreeMap<(u8, u64), Hash>,
    levels: u8,
    blocks: u64,
}

impl BlockTree {
    /// Takes the value of a block. Says whether it was new.
    pub(crate) fn insert(&mut self, block: u64, value: Hash) -> bool {
        if self.covers(block) {
            return false;
        }
        self.blocks += 1;
        let (mut level, mut index, mut value) = (0_u8, block, value);
        while index > 1 {
            let Some(sibling) = self.nodes.remove(&(level, index ^ 1)) else { break };
            let (left, right) = if index & 1 == 0 { (value, sibling) } else { (sibling, value) };
            value = merge_subtrees_non_root(&left, &right, Mode::Hash);
            (level, index) = (level + 1, index >> 1);
        }
        self.levels = self.levels.max(level + 1);
        self.nodes.insert((level, index), value);
        true
    }

    /// Blocks taken so far.
    pub(crate) fn blocks(&self) -> u64 {
        self.blocks
    }

    /// The digest of the file of so many blocks; `None` unless all are here and there are at least two.
    pub(crate) fn root(&self, blocks: u64) -> Option<Hash> {
        if blocks < 2 || blocks != self.blocks {
            return None;
        }
        let left = largest_power_below(blocks);
        let (left, right) = (self.value(0, left)?, self.value(left, blocks - left)?);
        Some(*merge_subtrees_root(&left, &right, Mode::Hash).as_bytes())
    }

    fn value(&self, first: u64, count: u64) -> Option<Hash> {
        if count.is_power_of_two() {
            let level = count.trailing_zeros() as u8;
            if let Some(value) = self.nodes.get(&(level, first >> level)) {
                return Some(*value);
            }
        }
        if count < 2 {
            return None;
        }
        let left = largest_power_below(count);
        let (left, right) = (self.value(first, left)?, self.value(first + left, count - left)?);
        Some(merge_subtrees_non_root(&left, &right, Mode::Hash))
    }

    fn covers(&self, block: u64) -> bool {
        (0..self.levels).any(|level| self.nodes.contains_key(&(level, block >> level)))
    }
}

/// The largest power of two below a number that is at least 2.
fn largest_power_below(number: u64) -> u64 {
    1 << (63 - (number - 1).leading_zeros())
}

impl Default for ManifestDigest {
    fn default() -> Self {
        Self { hasher: Hasher::new_derive_key(CONTEXT), entries: 0, only: None, files: 0, bytes: 0 }
    }
}

/// The digest of everything in a transfer, entry by entry in the order of the manifest.
#[derive(Debug)]
pub(crate) struct ManifestDigest {
    hasher: Hasher,
    entries: u64,
    only: Option<Hash>,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

impl ManifestDigest {
    /// Takes the next entry: a file with its size and digest, or a directory.
    pub(crate) fn add(&mut self, entry: &Entry, file: Option<(u64, Hash)>) {
        self.entries += 1;
        self.only = file.map(|(_, digest)| digest);
        let (size, digest) = file.unwrap_or_default();
        let (seconds, nanos) = entry.mtime;
        self.hasher
            .update(&[u8::from(entry.dir)])
            .update(&(entry.path.len() as u64).to_le_bytes())
            .update(entry.path.as_bytes())
            .update(&entry.mode.to_le_bytes())
            .update(&seconds.to_le_bytes())
            .update(&nanos.to_le_bytes())
            .update(&size.to_le_bytes())
            .update(&digest);
        if file.is_some() {
            self.files += 1;
            self.bytes = self.bytes.saturating_add(size);
        }
    }

    /// Of one file its own digest; else that of all entries.
    pub(crate) fn finish(&self) -> Hash {
        match self.only {
            Some(digest) if self.entries == 1 => digest,
            _ => self.hasher.finalize().into(),
        }
    }
}

const CONTEXT: &str = "cellnet transfer 2026 manifest of files and directories";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BLOCK: usize = 64 << 10;

    fn content(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at / 777 + at * 31) as u8).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn blocks_in_any_order_give_the_digest_of_the_file(
            blocks in 2_usize..24, short in 0..BLOCK, seed in any::<u64>(),
        ) {
            let content = content(blocks * BLOCK - short);
            let mut order: Vec<_> = content.chunks(BLOCK).enumerate().collect();
            order.sort_by_key(|(at, _)| (*at as u64 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut tree = BlockTree::default();
            for (at, block) in order {
                prop_assert_eq!(tree.root(blocks as u64), None);
                let value = block_value((at * BLOCK) as u64, block);
                prop_assert!(tree.insert(at as u64, value));
                prop_assert!(!tree.insert(at as u64, value));
            }
            prop_assert_eq!(tree.root(blocks as u64), Some(blake3::hash(&content).into()));
        }
    }

    #[test]
    fn blocks_in_order_take_no_room() {
        let mut tree = BlockTree::default();
        for block in 0..100_000 {
            tree.insert(block, [1; 32]);
            assert!(tree.nodes.len() < 64);
        }
    }

    #[test]
    fn holes_have_the_digest_of_zeros() {
        let zeros = vec![0; BLOCK + 5];
        assert!(is_hole(&zeros));
        assert_eq!(hole_value(BLOCK as u64, BLOCK), block_value(BLOCK as u64, &zeros[..BLOCK]));
        assert_eq!(hole_digest(zeros.len()), *blake3::hash(&zeros).as_bytes());
        let mut almost = zeros;
        *almost.last_mut().unwrap() = 1;
        assert!(!is_hole(&almost));
    }
}
