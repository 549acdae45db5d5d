//! The content of a message, as it travels.

use bytes::Bytes;

/// The content of a message in its encoded form. It is decoded by whom it is for, on demand, so relays and echoes
/// never look inside.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Payload {
    /// Nothing.
    #[default]
    None,
    /// Bytes as they are.
    Bytes(Bytes),
    /// An object in the encoding of [`crate::fobs`].
    Fobs(Bytes),
}

impl Payload {
    /// What `cn__payload_encoding` and `sm__pe` call this.
    pub fn encoding(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Bytes(_) => "bytes",
            Self::Fobs(_) => "fobs",
        }
    }

    /// A payload as it arrived. `none` discards any bytes, and an unknown encoding means bytes, as in the reference.
    pub fn from_wire(encoding: Option<&str>, bytes: Bytes) -> Self {
        match encoding {
            Some("none") => Self::None,
            Some("fobs") => Self::Fobs(bytes),
            _ => Self::Bytes(bytes),
        }
    }

    /// The encoded bytes; none for [`Payload::None`].
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::None => &[],
            Self::Bytes(bytes) | Self::Fobs(bytes) => bytes,
        }
    }

    /// The encoded bytes, shared.
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Self::None => Bytes::new(),
            Self::Bytes(bytes) | Self::Fobs(bytes) => bytes.clone(),
        }
    }

    /// Encoded bytes.
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T: Into<Bytes>> From<T> for Payload {
    fn from(bytes: T) -> Self {
        Self::Bytes(bytes.into())
    }
}
