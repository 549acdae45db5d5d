//! Where the keys of a header map are.

/// Where keys are: a small hash table of positions, each plus one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Marks<const PLACES: usize>([u8; PLACES]);

/// Several keys, or one too far behind: one has to look.
pub(super) const SOMEWHERE: u8 = u8::MAX;

impl<const PLACES: usize> Marks<PLACES> {
    pub(super) const fn none() -> Self {
        Self([0; PLACES])
    }

    /// Notes that a key is at a position.
    pub(super) fn add(&mut self, key: &[u8], at: usize) {
        let mark = &mut self.0[Self::place(key)];
        *mark = if *mark == 0 { u8::try_from(at + 1).unwrap_or(SOMEWHERE) } else { SOMEWHERE };
    }

    /// A position plus one; 0 if the key is not there, or [`SOMEWHERE`].
    #[inline]
    pub(super) fn of(&self, key: &[u8]) -> u8 {
        self.0[Self::place(key)]
    }

    /// By what the names of the protocol differ in. The factors were tried out: of 128 places only two names have the
    /// same.
    #[inline]
    fn place(key: &[u8]) -> usize {
        let [before, last] = *key.last_chunk().unwrap_or(&[0; 2]);
        let middle = key.get(key.len() / 2).copied().unwrap_or_default();
        let hash = u32::from(u16::from_le_bytes([before, last]))
            .wrapping_mul(2_538_853_175)
            .wrapping_add((key.len() as u32).wrapping_mul(1_109_299_643))
            .wrapping_add(u32::from(middle).wrapping_mul(3_516_157_023));
        ((u64::from(hash) * PLACES as u64) >> 32) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_where_it_was_put_or_has_to_be_looked_for() {
        let mut marks = Marks::<16>::none();
        for at in 0..300 {
            let key = format!("key-{at}");
            marks.add(key.as_bytes(), at);
            let mark = marks.of(key.as_bytes());
            assert!(mark == SOMEWHERE || usize::from(mark) == at + 1);
        }
        assert_eq!(Marks::<16>::none().of(b""), 0);
    }
}
