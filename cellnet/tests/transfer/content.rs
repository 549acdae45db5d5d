//! Large files whose every word follows from its place, so that they are made and checked without a second copy.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

/// What is in a file: so many bytes that look random and depend on the seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Content {
    pub(crate) seed: u64,
    pub(crate) bytes: u64,
}

impl Content {
    /// Writes the file; gives its BLAKE3 in hexadecimal.
    pub(crate) fn write(&self, path: &Path) -> String {
        let write = || -> io::Result<String> {
            let mut file = File::create(path)?;
            let mut hasher = blake3::Hasher::new();
            let mut piece = vec![0; PIECE];
            for at in (0..self.bytes).step_by(PIECE) {
                let piece = self.fill(&mut piece, at);
                hasher.update(piece);
                file.write_all(piece)?;
            }
            Ok(hasher.finalize().to_hex().to_string())
        };
        write().unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()))
    }

    /// The file has exactly this content.
    #[track_caller]
    pub(crate) fn check(&self, path: &Path) {
        let mut file = File::open(path).unwrap_or_else(|error| panic!("no {}: {error}", path.display()));
        let length = file.metadata().expect("an open file has metadata").len();
        assert_eq!(length, self.bytes, "the length of {}", path.display());
        let (mut wanted, mut found) = (vec![0; PIECE], vec![0; PIECE]);
        for at in (0..self.bytes).step_by(PIECE) {
            let wanted = self.fill(&mut wanted, at);
            let found = &mut found[..wanted.len()];
            file.read_exact(found).expect("a file as long as it says");
            let same = wanted == found;
            assert!(same, "{} differs in the {PIECE} bytes from {at}", path.display());
        }
    }

    /// The eight bytes at a place that is a multiple of eight.
    pub(crate) fn word(&self, at: u64) -> [u8; 8] {
        // SplitMix64, whose n-th number needs none of those before.
        let mut word = self.seed.wrapping_add((at / 8 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)).to_le_bytes()
    }

    /// What stands from `at` on, as much as there is and `piece` holds.
    fn fill<'a>(&self, piece: &'a mut [u8], at: u64) -> &'a mut [u8] {
        for (word, at) in piece.chunks_exact_mut(8).zip((at..).step_by(8)) {
            word.copy_from_slice(&self.word(at));
        }
        let left = usize::try_from(self.bytes - at).unwrap_or(usize::MAX).min(piece.len());
        &mut piece[..left]
    }
}

/// What is made at a time; a multiple of eight.
const PIECE: usize = 1 << 20;

#[test]
fn a_file_passes_its_own_check_and_fails_it_with_one_byte_changed() {
    let scratch = crate::scratch::Scratch::new();
    let path = scratch.path("file");
    let content = Content { seed: 7, bytes: (PIECE + 13) as u64 };
    let hash = content.write(&path);
    content.check(&path);
    let mut bytes = std::fs::read(&path).unwrap();
    assert_eq!(hash, blake3::hash(&bytes).to_hex().to_string());
    assert_eq!(bytes[PIECE - 8..PIECE], content.word(PIECE as u64 - 8));
    bytes[PIECE + 1] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert!(std::panic::catch_unwind(|| content.check(&path)).is_err());
}
