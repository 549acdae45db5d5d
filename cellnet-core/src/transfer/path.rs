//! Paths that another cell gives: below some directory, and nowhere else.

use std::fmt;

use bytestring::ByteString;

use super::{Reason, TransferError};

/// Names with `/` between them, none of which leads anywhere but down. May be empty: the directory itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct RelPath(ByteString);

/// The end of names of files and directories that are not complete.
pub(crate) const PARTIAL: &str = ".cellnet-partial";
/// The end of names of files that say what is known of a partial one.
pub(crate) const JOURNAL: &str = ".cellnet-journal";

impl RelPath {
    /// Reads a path. Slashes at its end, doubled ones and `.` mean nothing.
    pub(crate) fn parse(text: &str) -> Result<Self, TransferError> {
        if text.len() > MAX_PATH {
            return Err(TransferError::here(Reason::InvalidPath, format!("path of {} bytes", text.len())));
        }
        if text.starts_with('/') {
            return Err(outside(text));
        }
        let names: Vec<_> = text.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
        if names.contains(&"..") {
            return Err(outside(text));
        }
        let invalid = |name: &&str| {
            name.len() > MAX_NAME || name.contains('\0') || name.ends_with(PARTIAL) || name.ends_with(JOURNAL)
        };
        if let Some(name) = names.iter().copied().find(invalid) {
            let text = format!("'{}' is too long or reserved for partial files", name.escape_default());
            return Err(TransferError::here(Reason::InvalidPath, text));
        }
        if names.len() > MAX_DEPTH {
            return Err(TransferError::here(Reason::InvalidPath, format!("path of {} names", names.len())));
        }
        Ok(Self(names.join("/").into()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn names(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/').filter(|name| !name.is_empty())
    }

    /// The directory and the last name; `None` if it is empty.
    pub(crate) fn split_last(&self) -> Option<(Self, &str)> {
        match self.0.rsplit_once('/') {
            Some((dir, name)) => Some((Self(dir.into()), name)),
            None if self.is_empty() => None,
            None => Some((Self::default(), &self.0)),
        }
    }

    /// The first name and what is below it; `None` if it is empty.
    pub(crate) fn split_first(&self) -> Option<(&str, Self)> {
        match self.0.split_once('/') {
            Some((name, rest)) => Some((name, Self(rest.into()))),
            None if self.is_empty() => None,
            None => Some((&self.0, Self::default())),
        }
    }

    /// This below another path.
    pub(crate) fn below(&self, dir: &Self) -> Self {
        match (dir.is_empty(), self.is_empty()) {
            (true, _) => self.clone(),
            (_, true) => dir.clone(),
            _ => Self(format!("{}/{}", dir.0, self.0).into()),
        }
    }
}

fn outside(text: &str) -> TransferError {
    TransferError::here(
        Reason::OutsideInbox,
        format!("'{}' leads out of the directory", text.escape_default()),
    )
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Longest path: what most systems take.
const MAX_PATH: usize = 4095;
/// Longest name: what file systems take, less the ends of partial files.
const MAX_NAME: usize = 255 - PARTIAL.len();
/// Deepest path.
const MAX_DEPTH: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_down_only() {
        for (text, path) in
            [("", ""), ("a", "a"), ("a/b/", "a/b"), ("./a//b/.", "a/b"), ("a/..b/...", "a/..b/...")]
        {
            assert_eq!(RelPath::parse(text).unwrap().as_str(), path, "{text}");
        }
        for text in ["..", "a/../b", "/", "/etc/passwd", "a/..", "../a", "./.."] {
            assert_eq!(RelPath::parse(text).unwrap_err().reason(), Reason::OutsideInbox, "{text}");
        }
        let long = "n".repeat(256);
        for text in ["a\0b", "x.cellnet-partial", "x.cellnet-journal/y", &*long, &*"a/".repeat(3000)] {
            assert_eq!(RelPath::parse(text).unwrap_err().reason(), Reason::InvalidPath, "{text}");
        }
    }

    #[test]
    fn paths_come_apart_and_together() {
        let path = RelPath::parse("a/b/c").unwrap();
        let (dir, name) = path.split_last().unwrap();
        assert_eq!((dir.as_str(), name), ("a/b", "c"));
        let (first, rest) = path.split_first().unwrap();
        assert_eq!((first, rest.as_str()), ("a", "b/c"));
        assert_eq!(rest.below(&RelPath::parse("x").unwrap()).as_str(), "x/b/c");
    }
}
