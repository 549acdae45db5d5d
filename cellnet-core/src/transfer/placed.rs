//! What an error says of files that have their names already.

use super::TransferError;

/// What has its name already while the rest is given theirs.
#[derive(Debug, Default)]
pub(crate) struct Placed {
    count: usize,
    first: Vec<String>,
}

impl Placed {
    pub(crate) fn add(&mut self, path: &str) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push(format!("'{path}'"));
        }
    }

    /// An error that says what was done before it.
    pub(crate) fn so_far(&self, error: TransferError) -> TransferError {
        if self.count == 0 {
            return error;
        }
        let names = self.first.join(", ");
        let more = if self.count > self.first.len() { ", …" } else { "" };
        let text = format!("{}; in place already: {} ({names}{more})", error.text(), self.count);
        TransferError::here(error.reason(), text)
    }
}

/// Names that an error says; the other side hears only the beginning of a long text.
const NAMED: usize = 5;
