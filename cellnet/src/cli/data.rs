//! Where the payload of a command comes from.

use std::{convert::Infallible, fs, io::Read, path::PathBuf, str::FromStr};

use bytes::Bytes;
use cellnet::Payload;

use super::status::Failure;

/// `DATA`, `@FILE` or `-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Text(String),
    File(PathBuf),
    Stdin,
}

impl FromStr for Source {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text.strip_prefix('@') {
            Some(path) => Self::File(path.into()),
            None if text == "-" => Self::Stdin,
            None => Self::Text(text.into()),
        })
    }
}

impl Source {
    /// Reads all of it.
    pub(crate) fn read(self) -> Result<Bytes, Failure> {
        match self {
            Self::Text(text) => Ok(text.into()),
            Self::File(path) => read_file(&path),
            Self::Stdin => {
                let mut bytes = Vec::new();
                let read = std::io::stdin().lock().read_to_end(&mut bytes);
                read.map_err(|error| Failure::usage(format!("cannot read standard input: {error}")))?;
                Ok(bytes.into())
            }
        }
    }
}

/// The payload of an optional source; without one there is none.
pub(crate) fn payload(source: Option<Source>) -> Result<Payload, Failure> {
    Ok(match source {
        Some(source) => Payload::Bytes(source.read()?),
        None => Payload::None,
    })
}

/// The content of a file.
pub(crate) fn read_file(path: &std::path::Path) -> Result<Bytes, Failure> {
    let read = fs::read(path).map(Bytes::from);
    read.map_err(|error| {
        let text = format!("cannot read the payload file '{}': {error}; check the path", path.display());
        Failure::usage(text)
    })
}

/// Bytes that look random, do not compress, and are the same for the same seed.
pub(crate) fn noise(size: usize, seed: u64) -> Bytes {
    let mut state = seed;
    let words = std::iter::repeat_with(|| {
        // SplitMix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    });
    let mut bytes = Vec::with_capacity(size.next_multiple_of(8));
    words.take(size.div_ceil(8)).for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
    bytes.truncate(size);
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_character_tells_the_source() {
        let table = [
            ("hi", Source::Text("hi".into())),
            ("", Source::Text(String::new())),
            ("a@b", Source::Text("a@b".into())),
            ("@a b", Source::File("a b".into())),
            ("-", Source::Stdin),
            ("-x", Source::Text("-x".into())),
        ];
        for (text, source) in table {
            assert_eq!(text.parse(), Ok(source), "{text}");
        }
    }

    #[test]
    fn no_source_means_no_payload_and_an_empty_text_means_no_bytes() {
        assert_eq!(payload(None).unwrap(), Payload::None);
        assert_eq!(payload(Some(Source::Text(String::new()))).unwrap(), Payload::Bytes(Bytes::new()));
    }

    #[test]
    fn a_missing_file_is_named() {
        let failure = payload(Some(Source::File("no/such file".into()))).unwrap_err();
        assert!(failure.to_string().contains("'no/such file'"), "{failure}");
    }

    #[test]
    fn noise_has_its_size_and_depends_on_the_seed_only() {
        for size in [0, 1, 8, 13] {
            assert_eq!(noise(size, 1).len(), size);
        }
        assert_eq!(noise(100, 1), noise(100, 1));
        assert_ne!(noise(100, 1), noise(100, 2));
    }
}
