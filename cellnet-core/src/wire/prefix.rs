//! The 16 bytes every frame starts with.
//!
//! ```text
//!  0       4     6   7   8     10    12     14     16
//!  | length | hlen | t | 0 | flags | app | stream | seq |      big-endian
//! ```
//! `length` counts these bytes too, so a valid one is never below 16. Source: `fuel/f3/sfm/prefix.py`.

use bytes::{BufMut, BytesMut};

/// Bytes of a prefix.
pub const PREFIX_LEN: usize = 16;

/// Largest header block a prefix can describe: its length field is a `u16`.
pub const MAX_HEADERS: usize = u16::MAX as usize;

/// Largest frame of the protocol, 2 GiB − 2 MiB. A longer claim ends the connection.
pub const MAX_FRAME: usize = 2_145_386_496;

/// What a frame starts with. Fields that the reference writes but never reads are kept as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Prefix {
    /// Bytes of the whole frame, these included.
    pub length: u32,
    /// Bytes of the header map that follows; 0 for none.
    pub header_len: u16,
    /// What the frame is, see [`FrameKind`].
    pub kind: u8,
    /// Always 0.
    pub reserved: u8,
    /// Always 0.
    pub flags: u16,
    /// 1 for messages of cells, 0 otherwise.
    pub app_id: u16,
    /// A counter of the sending endpoint; not interpreted.
    pub stream_id: u16,
    /// A counter of the connection; not interpreted.
    pub sequence: u16,
}

/// The frame types in use. 2 (FRAG) and 3 (ACK) are defined by the reference and never sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// A message of a cell.
    Data,
    /// First frame of the side that dialled.
    Hello,
    /// The answer to HELLO.
    Ready,
    /// Asks for a PONG.
    Ping,
    /// Answers a PING.
    Pong,
}

impl FrameKind {
    /// The number in the prefix.
    pub fn code(self) -> u8 {
        match self {
            Self::Data => 1,
            Self::Hello => 4,
            Self::Ready => 5,
            Self::Ping => 6,
            Self::Pong => 7,
        }
    }
}

impl Prefix {
    /// The application id of cell messages.
    pub const APP_CELL: u16 = 1;

    /// Reads a prefix. Fails only on a length that no frame can have.
    pub fn decode(bytes: &[u8; PREFIX_LEN]) -> Result<Self, PrefixError> {
        let u16_at = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let prefix = Self {
            length: u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            header_len: u16_at(4),
            kind: bytes[6],
            reserved: bytes[7],
            flags: u16_at(8),
            app_id: u16_at(10),
            stream_id: u16_at(12),
            sequence: u16_at(14),
        };
        match prefix.length as usize {
            length if length < PREFIX_LEN => Err(PrefixError::TooShort(length)),
            length if length > MAX_FRAME => Err(PrefixError::TooLong(length)),
            _ => Ok(prefix),
        }
    }

    /// Appends the 16 bytes.
    pub fn encode(&self, out: &mut BytesMut) {
        let mut bytes = [0; PREFIX_LEN];
        self.write_to(&mut bytes);
        out.put_slice(&bytes);
    }

    /// Writes the 16 bytes over others.
    pub fn write_to(&self, out: &mut [u8; PREFIX_LEN]) {
        let mut rest = &mut out[..];
        rest.put_u32(self.length);
        rest.put_u16(self.header_len);
        rest.put_u8(self.kind);
        rest.put_u8(self.reserved);
        rest.put_u16(self.flags);
        rest.put_u16(self.app_id);
        rest.put_u16(self.stream_id);
        rest.put_u16(self.sequence);
    }

    /// What the frame is; `None` for a type that nobody sends, which is dropped.
    pub fn frame_kind(&self) -> Option<FrameKind> {
        [FrameKind::Data, FrameKind::Hello, FrameKind::Ready, FrameKind::Ping, FrameKind::Pong]
            .into_iter()
            .find(|kind| kind.code() == self.kind)
    }
}

/// Why 16 bytes cannot start a frame. The byte stream is lost and the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrefixError {
    /// Shorter than its own prefix.
    #[error("frame length {0} is below {PREFIX_LEN}")]
    TooShort(usize),
    /// Longer than the protocol allows.
    #[error("frame length {0} is above {MAX_FRAME}")]
    TooLong(usize),
}
