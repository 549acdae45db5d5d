//! What a peer must not send.

use std::io;

use cellnet_core::wire::MAX_FRAME;

/// Why a connection was ended: RFC 6455 or the rule of one frame in each message was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    #[error("a reserved bit is set, but no extension was agreed on")]
    ReservedBit,
    #[error("opcode {0} is not defined")]
    Opcode(u8),
    #[error("a frame of a client is not masked")]
    Unmasked,
    #[error("a frame of a server is masked")]
    Masked,
    #[error("a control frame of {0} bytes, 125 are allowed")]
    LongControl(u64),
    #[error("a control frame is fragmented")]
    FragmentedControl,
    #[error("a message begins inside another one")]
    Interleaved,
    #[error("a continuation of no message")]
    Continuation,
    #[error("a close frame of one byte")]
    Close,
    #[error("a message of {0} bytes, {MAX_FRAME} are allowed")]
    TooLong(u64),
    #[error("a message of {message} bytes holds a frame of {frame}")]
    Size { message: u64, frame: u64 },
    #[error("a message of {0} bytes is no frame")]
    TooShort(u64),
    #[error("more than {0} fragments for a message of this size")]
    Fragments(u64),
    #[error("more than {0} frames in a row that carry nothing")]
    Noise(u32),
    #[error("more than {0} bytes of text")]
    Text(u64),
}

impl Violation {
    /// The status code to close with (RFC 6455, 7.4.1).
    pub(crate) fn code(self) -> u16 {
        match self {
            Self::TooLong(_) => 1009,
            Self::Size { .. } | Self::TooShort(_) => 1007,
            Self::Fragments(_) | Self::Noise(_) | Self::Text(_) => 1008,
            _ => 1002,
        }
    }
}

impl From<Violation> for io::Error {
    fn from(violation: Violation) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, violation)
    }
}
