//! Where the keys of a header map are.

/// Where keys are: a small hash table of positions, each plus one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Marks([u8; PLACES]);

const PLACES: usize = 32;

/// Several keys, or one too far behind: one has to look.
pub(super) const SOMEWHERE: u8 = u8::MAX;

impl Marks {
    /// Notes that a key is at a position.
    pub(super) fn add(&mut self, key: &[u8], at: usize) {
        let mark = &mut self.0[Self::place(key)];
        *mark = if *mark == 0 { u8::try_from(at + 1).unwrap_or(SOMEWHERE) } else { SOMEWHERE };
    }

    /// A position plus one; 0 if the key is not there, or [`SOMEWHERE`].
    pub(super) fn of(&self, key: &[u8]) -> u8 {
        self.0[Self::place(key)]
    }

    /// By what the names of the protocol differ in, so chosen that each header of a plain message has a place of its own.
    fn place(key: &[u8]) -> usize {
        let [before, last] = *key.last_chunk().unwrap_or(&[0; 2]);
        (31 * key.len() + 19 * usize::from(last) + 10 * usize::from(before)) % PLACES
    }
}

impl Default for Marks {
    fn default() -> Self {
        Self([0; PLACES])
    }
}
