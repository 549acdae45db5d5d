//! How far a transfer is.

/// How far a transfer is. A value of [`Outgoing::progress`](super::Outgoing::progress) and
/// [`Incoming::progress`](super::Incoming::progress).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// What is going on.
    pub phase: Phase,
    /// Bytes that are safe at the receiver, of the files in this transfer. Never shrinks, except when the receiver finds
    /// that it has less than it thought.
    pub bytes: u64,
    /// All bytes; `None` if that is not known yet.
    pub total: Option<u64>,
    /// All files, once known.
    pub files: u64,
    /// Bytes that were at the receiver before this attempt.
    pub resumed_from: u64,
    /// The other side could not be reached the last time it was tried.
    pub waiting: bool,
}

/// What a transfer is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// The source is being looked at, and offered or asked for.
    #[default]
    Preparing,
    /// Bytes travel.
    Moving,
    /// All bytes are there; digests are compared and files put into place.
    Settling,
    /// It is over, well or not.
    Over,
}
