//! What the demo tells while it runs.

use std::{
    io::{self, Write},
    time::Duration,
};

use sha2::{Digest, Sha256};

use crate::cli::status::Failure;

/// Goes to standard output, or to standard error if that is for JSON.
#[derive(Debug)]
pub(super) struct Account {
    aside: bool,
}

impl Account {
    pub(super) fn new(aside: bool) -> Self {
        Self { aside }
    }

    /// Begins a chapter.
    pub(super) fn title(&mut self, text: &str) -> Result<(), Failure> {
        self.write(&format!("\n{text}\n"))
    }

    pub(super) fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.write(&format!("  {text}\n"))
    }

    pub(super) fn lines(&mut self, text: &str) -> Result<(), Failure> {
        text.lines().try_for_each(|line| self.line(line))
    }

    fn write(&mut self, text: &str) -> Result<(), Failure> {
        let written = if self.aside {
            io::stderr().lock().write_all(text.as_bytes())
        } else {
            let mut out = io::stdout().lock();
            out.write_all(text.as_bytes()).and_then(|()| out.flush())
        };
        Ok(written?)
    }
}

/// The SHA-256 of some bytes, in hexadecimal digits.
pub(super) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A time for people.
pub(super) fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// A size for people.
pub(super) fn bytes(size: usize) -> String {
    if size < 1 << 20 {
        format!("{size} bytes")
    } else {
        format!("{:.1} MiB", size as f64 / (1 << 20) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_standard() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest(b"abc"), abc);
    }

    #[test]
    fn sizes_are_readable() {
        assert_eq!((bytes(10).as_str(), bytes(4 << 20).as_str()), ("10 bytes", "4.0 MiB"));
    }
}
