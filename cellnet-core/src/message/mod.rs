//! What cells say to one another: headers with a meaning, a payload, return codes.

mod codes;
mod payload;

use bytestring::ByteString;

pub use codes::ReturnCode;
pub use payload::Payload;

use crate::{
    fqcn::Fqcn,
    wire::{Headers, Value, keys::cn},
};

/// Headers and a payload. What an application puts into `headers` travels end to end untouched, unless its name starts
/// with `cn__` or `sm__`: those belong to the protocol.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Message {
    /// Names and values.
    pub headers: Headers,
    /// The content.
    pub payload: Payload,
}

/// What a message is for. Source: `fuel/f3/cellnet/defs.py`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// Asks or tells.
    Request,
    /// Answers.
    Reply,
    /// Comes back because it could not be delivered.
    Return,
}

impl MessageKind {
    /// The text in `cn__msg_type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "req",
            Self::Reply => "reply",
            Self::Return => "return",
        }
    }

    /// Reads `cn__msg_type`.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Request, Self::Reply, Self::Return].into_iter().find(|kind| kind.as_str() == text)
    }
}

impl Message {
    /// A message without payload.
    pub fn empty() -> Self {
        Self::default()
    }

    /// A message with a payload.
    pub fn new(payload: impl Into<Payload>) -> Self {
        Self { headers: Headers::new(), payload: payload.into() }
    }

    /// A reply that says why there is no better one.
    pub fn failure(code: ReturnCode, text: impl Into<ByteString>) -> Self {
        let text: ByteString = text.into();
        let message = Self::empty().with_code(code);
        if text.is_empty() { message } else { message.with_header(cn::ERROR, text) }
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, key: impl AsRef<str>, value: impl Into<Value>) -> Self {
        self.headers.set(key, value);
        self
    }

    /// Sets the outcome that a reply reports; without one it reports [`ReturnCode::OK`].
    #[must_use]
    pub fn with_code(self, code: ReturnCode) -> Self {
        self.with_header(ByteString::from_static(cn::RETURN_CODE), Value::Str(code.into_text()))
    }

    /// The outcome that a reply reports. `None` if it has none, as replies of the reference may.
    pub fn code(&self) -> Option<ReturnCode> {
        self.headers.shared_text(cn::RETURN_CODE).map(ReturnCode::from)
    }

    /// Whether the reply reports success.
    pub fn is_ok(&self) -> bool {
        self.headers.text(cn::RETURN_CODE) == Some(ReturnCode::OK.as_str())
    }

    /// The outcome in words, for people.
    pub fn error(&self) -> Option<&str> {
        self.headers.text(cn::ERROR)
    }

    /// Who made the message, if it says so with a valid name.
    pub fn origin(&self) -> Option<Fqcn> {
        self.headers.fqcn(cn::ORIGIN)
    }
}

/// Now, as the wire writes times: Unix seconds.
pub(crate) fn unix_time() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
