//! What a client covers its bytes with.

/// The key of one frame, turned to where the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mask([u8; 4]);

impl Mask {
    pub(crate) fn new(key: [u8; 4]) -> Self {
        Self(key)
    }

    /// A key that nobody can foresee, as RFC 6455 asks (5.3).
    pub(crate) fn random() -> Self {
        Self(rand::random())
    }

    pub(crate) fn key(self) -> [u8; 4] {
        self.0
    }

    /// The key for what follows `len` bytes.
    pub(crate) fn after(mut self, len: usize) -> Self {
        self.0.rotate_left(len % 4);
        self
    }

    /// Covers or uncovers the next bytes of the frame.
    pub(crate) fn apply(&mut self, bytes: &mut [u8]) {
        let [a, b, c, d] = self.0;
        let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
        let (words, rest) = bytes.as_chunks_mut::<8>();
        for word in words {
            *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
        }
        for (byte, key) in rest.iter_mut().zip(self.0.iter().cycle()) {
            *byte ^= key;
        }
        *self = self.after(rest.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_every_length_are_masked_as_the_whole() {
        let key = [1, 20, 77, 255];
        let plain: Vec<u8> = (0..=255).collect();
        let expected: Vec<u8> = plain.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
        for step in 1..40 {
            let (mut mask, mut masked) = (Mask::new(key), plain.clone());
            masked.chunks_mut(step).for_each(|part| mask.apply(part));
            assert_eq!(masked, expected, "in steps of {step}");
        }
    }
}
