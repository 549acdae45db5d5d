//! Fully qualified cell names.

use std::{fmt, str::FromStr};

use bytestring::ByteString;

/// The name of a cell: dot-separated parts, from the root of its family down, as in `relay-1.site-3.job-7`.
///
/// A value of this type is valid: its parts are not empty, hold only `[A-Za-z0-9_-]`, and no part stands twice.
/// Cloning is cheap. Names compare as text.
///
/// ```
/// # use cellnet_core::Fqcn;
/// let name: Fqcn = "site-1.job".parse()?;
/// assert_eq!(name.root(), "site-1");
/// assert!("site-1".parse::<Fqcn>()?.is_parent_of(&name));
/// # Ok::<_, cellnet_core::FqcnError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fqcn(ByteString);

/// The cell at the top of the tree.
pub const SERVER: &str = "server";

/// Longest name accepted, in bytes. The wire has no limit; a name is repeated in every head and route entry.
pub const MAX_LEN: usize = 1024;

impl Fqcn {
    /// The name of the root of the tree, `server`.
    pub fn server() -> Self {
        Self(ByteString::from_static(SERVER))
    }

    /// Checks `text` and makes it a name without copying it.
    pub fn parse(text: ByteString) -> Result<Self, FqcnError> {
        check(&text)?;
        Ok(Self(text))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as shared text, ready to be put into a header.
    pub fn as_text(&self) -> &ByteString {
        &self.0
    }

    /// The parts, root first.
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('.')
    }

    /// How many parts the name has; a root has one.
    pub fn generation(&self) -> usize {
        self.parts().count()
    }

    /// The first part, which names the family.
    pub fn root(&self) -> &str {
        self.parts().next().unwrap_or_default()
    }

    /// Whether this cell is `server` or below it.
    pub fn is_on_server(&self) -> bool {
        self.root() == SERVER
    }

    /// Whether this is the cell `server` itself.
    pub fn is_server(&self) -> bool {
        self.as_str() == SERVER
    }

    /// The name without its last part; `None` for a root.
    pub fn parent(&self) -> Option<Self> {
        let end = self.0.rfind('.')?;
        Some(Self(ByteString::from(&self.0[..end])))
    }

    /// The name and its ancestors, longest first.
    pub fn prefixes(&self) -> impl Iterator<Item = &str> {
        let name: &str = &self.0;
        std::iter::successors(Some(name), |longer| longer.rfind('.').map(|end| &longer[..end]))
    }

    /// A child of this cell.
    pub fn child(&self, part: &str) -> Result<Self, FqcnError> {
        format!("{self}.{part}").parse()
    }

    /// Whether `other` is exactly one part below.
    pub fn is_parent_of(&self, other: &Self) -> bool {
        other.below(self).is_some_and(|rest| !rest.contains('.'))
    }

    /// Whether `other` is anywhere below. A cell is not its own ancestor.
    pub fn is_ancestor_of(&self, other: &Self) -> bool {
        other.below(self).is_some()
    }

    /// Whether both names have the same root.
    pub fn same_family(&self, other: &Self) -> bool {
        self.root() == other.root()
    }

    fn below(&self, ancestor: &Self) -> Option<&str> {
        self.0.strip_prefix(ancestor.as_str())?.strip_prefix('.')
    }
}

/// Why a text is not a cell name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FqcnError {
    /// There is no text.
    #[error("cell name is empty")]
    Empty,
    /// A dot at an end, or two in a row.
    #[error("cell name '{0}' has an empty part")]
    EmptyPart(String),
    /// Something other than letters, digits, `_`, `-` and `.`.
    #[error("cell name '{name}' has the invalid character {found:?}; use letters, digits, '_', '-' and '.'")]
    InvalidChar {
        /// The text.
        name: String,
        /// The first offender.
        found: char,
    },
    /// One part stands twice.
    #[error("cell name '{name}' has the part '{part}' twice")]
    Duplicate {
        /// The text.
        name: String,
        /// The part.
        part: String,
    },
    /// Over [`MAX_LEN`] bytes.
    #[error("cell name of {0} bytes is longer than {MAX_LEN}")]
    TooLong(usize),
}

fn check(text: &str) -> Result<(), FqcnError> {
    if text.is_empty() {
        return Err(FqcnError::Empty);
    }
    if text.len() > MAX_LEN {
        return Err(FqcnError::TooLong(text.len()));
    }
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if let Some(found) = text.chars().find(|&c| !valid(c)) {
        return Err(FqcnError::InvalidChar { name: text.into(), found });
    }
    for (at, part) in text.split('.').enumerate() {
        if part.is_empty() {
            return Err(FqcnError::EmptyPart(text.into()));
        }
        if text.split('.').take(at).any(|earlier| earlier == part) {
            return Err(FqcnError::Duplicate { name: text.into(), part: part.into() });
        }
    }
    Ok(())
}

impl FromStr for Fqcn {
    type Err = FqcnError;

    fn from_str(text: &str) -> Result<Self, FqcnError> {
        check(text)?;
        Ok(Self(ByteString::from(text)))
    }
}

impl TryFrom<&str> for Fqcn {
    type Error = FqcnError;

    fn try_from(text: &str) -> Result<Self, FqcnError> {
        text.parse()
    }
}

impl fmt::Display for Fqcn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Fqcn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl std::borrow::Borrow<str> for Fqcn {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_longest_first() {
        let name: Fqcn = "a.b.c".parse().unwrap();
        assert_eq!(name.prefixes().collect::<Vec<_>>(), ["a.b.c", "a.b", "a"]);
        assert_eq!(name.parent().unwrap().as_str(), "a.b");
    }

    #[test]
    fn blanks_and_newlines_are_refused() {
        for text in ["", " ", " a", "a\n", "a b", "a..b", ".a", "a.", "a.b.a", "é", "a/b"] {
            assert!(text.parse::<Fqcn>().is_err(), "{text:?}");
        }
    }
}
