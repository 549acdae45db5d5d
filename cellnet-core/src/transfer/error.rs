//! Why transfers end early.

use std::{fmt, io};

use bytestring::ByteString;

use crate::{fqcn::Fqcn, message::ReturnCode};

/// Why a transfer ended without a receipt. Both ends get the same [`reason`](Self::reason).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// It failed on this side.
    #[error("{text}")]
    Here {
        /// What kind of failure.
        reason: Reason,
        /// What happened, in words.
        text: ByteString,
    },
    /// The other side gave it up and said why.
    #[error("'{cell}': {text}")]
    Peer {
        /// Who gave it up.
        cell: Fqcn,
        /// What kind of failure.
        reason: Reason,
        /// What happened, in words.
        text: ByteString,
    },
}

impl TransferError {
    /// A failure of this side. The text may have names in it that another cell gave: what moves a cursor is escaped.
    pub fn here(reason: Reason, text: impl Into<ByteString>) -> Self {
        Self::Here { reason, text: plain(text.into()) }
    }

    /// A failure of this side that the system reported.
    pub(crate) fn io(what: impl fmt::Display, error: &io::Error) -> Self {
        Self::here(Reason::of_io(error), format!("{what}: {error}"))
    }

    /// What another cell says. It is kept for a while and shown on terminals, so only the beginning of it counts, and
    /// what moves a cursor is escaped.
    pub(crate) fn peer(cell: &Fqcn, reason: Reason, text: impl AsRef<str>) -> Self {
        let text: String = text.as_ref().chars().take(MAX_TEXT).collect();
        Self::Peer { cell: cell.clone(), reason, text: plain(text.into()) }
    }

    /// What kind of failure it is.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Here { reason, .. } | Self::Peer { reason, .. } => *reason,
        }
    }

    /// What happened, in words, without saying where.
    pub fn text(&self) -> &str {
        match self {
            Self::Here { text, .. } | Self::Peer { text, .. } => text,
        }
    }
}

/// A text as it may be shown: `\n` for a line feed, `\u{202e}` for what turns the writing round.
fn plain(text: ByteString) -> ByteString {
    let moves = |char: char| {
        char.is_control()
            || matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    if !text.contains(moves) {
        return text;
    }
    let mut plain = String::with_capacity(text.len());
    for char in text.chars() {
        if moves(char) { plain.extend(char.escape_debug()) } else { plain.push(char) }
    }
    plain.into()
}

/// Characters that are kept of what another cell says.
const MAX_TEXT: usize = 500;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// What kind of failure ended a transfer. Each has a stable word, which is what travels.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            const ALL: &[Self] = &[$(Self::$name),*];

            /// The stable word.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }
        }
    };
}

reasons! {
    /// No space is left at the receiver.
    DiskFull = "disk_full",
    /// The system does not allow it.
    PermissionDenied = "permission_denied",
    /// The path leads out of the inbox.
    OutsideInbox = "outside_inbox",
    /// A path or a name that cannot be taken: empty, too long, not UTF-8, reserved.
    InvalidPath = "invalid_path",
    /// Something has that name already, and it was not asked to overwrite it.
    Exists = "exists",
    /// Another transfer writes there.
    Busy = "busy",
    /// More than the inbox may hold.
    Quota = "quota",
    /// The source is not what it was when the transfer began.
    SourceChanged = "source_changed",
    /// Bytes are not those that the source has.
    Corrupt = "corrupt",
    /// Sizes do not add up to what was announced.
    SizeMismatch = "size_mismatch",
    /// Who asks was offered nothing, or the offer is over.
    Stranger = "stranger",
    /// No progress for the whole patience.
    Stalled = "stalled",
    /// Nothing has that name at the source.
    NotFound = "not_found",
    /// Neither a file nor a directory, or a version or a size that this cell does not do.
    Unsupported = "unsupported",
    /// More files, or more transfers, than there may be.
    TooMany = "too_many",
    /// The cell takes no files, or gives none.
    NoInbox = "no_inbox",
    /// A side gave up on purpose.
    Cancelled = "cancelled",
    /// A side stops.
    ShuttingDown = "shutting_down",
    /// The system failed in some other way.
    Io = "io",
    /// A message that makes no sense.
    Protocol = "protocol",
}

impl Reason {
    /// The reason with this word; [`Protocol`](Self::Protocol) if nobody knows it.
    pub fn parse(word: &str) -> Self {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == word).unwrap_or(Self::Protocol)
    }

    /// What a failure of the system means.
    pub fn of_io(error: &io::Error) -> Self {
        // A symbolic link where none is followed.
        if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
            return Self::OutsideInbox;
        }
        match error.kind() {
            // The last is how a limit of the process for its files shows.
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::DiskFull
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::PermissionDenied,
            io::ErrorKind::AlreadyExists => Self::Exists,
            io::ErrorKind::NotFound => Self::NotFound,
            io::ErrorKind::InvalidFilename => Self::InvalidPath,
            _ => Self::Io,
        }
    }

    /// The return code that a refusal for this reason carries.
    pub fn code(self) -> ReturnCode {
        match self {
            Self::DiskFull
            | Self::Busy
            | Self::Quota
            | Self::TooMany
            | Self::NoInbox
            | Self::ShuttingDown => ReturnCode::SERVICE_UNAVAILABLE,
            Self::PermissionDenied | Self::Stranger => ReturnCode::AUTHENTICATION_ERROR,
            Self::OutsideInbox
            | Self::InvalidPath
            | Self::Exists
            | Self::NotFound
            | Self::Unsupported
            | Self::Protocol => ReturnCode::INVALID_REQUEST,
            _ => ReturnCode::PROCESS_EXCEPTION,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_back() {
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()), *reason);
        }
        assert_eq!(Reason::parse("something new"), Reason::Protocol);
    }

    #[test]
    fn of_what_others_say_only_so_much_is_kept_and_nothing_that_moves_a_cursor() {
        let text = format!("\u{1b}[2J{}", "ä".repeat(1 << 20));
        let error = TransferError::peer(&Fqcn::server(), Reason::Io, text);
        assert_eq!(error.text(), format!("\\u{{1b}}[2J{}", "ä".repeat(496)));
    }

    #[test]
    fn names_in_texts_are_shown_on_one_line() {
        let name = "a\nERROR forged\r\u{202e}b\\ é'";
        let shown = "'a\\nERROR forged\\r\\u{202e}b\\ é''";
        let error = TransferError::here(Reason::Exists, format!("'{name}'"));
        assert_eq!(error.text(), shown);
        // Told and told again, it stays the same.
        assert_eq!(TransferError::peer(&Fqcn::server(), Reason::Exists, error.text()).text(), shown);
        let io = TransferError::io(format_args!("'{name}'"), &io::ErrorKind::NotFound.into());
        assert!(io.text().starts_with(shown), "{io}");
    }

    #[test]
    fn failures_of_the_system_have_a_reason() {
        for (number, reason) in [
            (28, Reason::DiskFull),
            (122, Reason::DiskFull),
            (27, Reason::DiskFull),
            (13, Reason::PermissionDenied),
            (30, Reason::PermissionDenied),
            (2, Reason::NotFound),
            (5, Reason::Io),
        ] {
            assert_eq!(Reason::of_io(&io::Error::from_raw_os_error(number)), reason, "{number}");
        }
    }
}
