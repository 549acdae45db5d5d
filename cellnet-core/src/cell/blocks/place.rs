//! Where a block is in its transfer.

use crate::transfer::BlockAsk;

/// A block of a transfer. Receivers ask in this order, more or less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) file: u32,
    pub(crate) block: u64,
}

impl Place {
    /// How many blocks `other` is ahead, at least: nobody here knows how long files are.
    pub(crate) fn ahead(self, other: Self) -> u64 {
        match other.file.checked_sub(self.file) {
            Some(0) => other.block.saturating_sub(self.block),
            Some(files) => other.block.saturating_add(files.into()),
            None => 0,
        }
    }
}

impl From<&BlockAsk> for Place {
    fn from(ask: &BlockAsk) -> Self {
        Self { file: ask.file, block: ask.block }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_a_later_file_is_at_least_as_many_files_ahead() {
        let place = |file, block| Place { file, block };
        for (from, to, ahead) in [
            (place(0, 5), place(0, 9), 4),
            (place(0, 5), place(0, 5), 0),
            (place(0, 5), place(0, 2), 0),
            (place(0, 5), place(2, 3), 5),
            (place(1, 0), place(0, 9), 0),
            (place(0, 0), place(u32::MAX, u64::MAX), u64::MAX),
        ] {
            assert_eq!(from.ahead(to), ahead, "{from:?} {to:?}");
        }
    }
}
