//! What a message of a pipe is about.

use std::{borrow::Cow, fmt, str::FromStr};

/// A topic: one or more letters, digits and underscores, at most 256 of them.
///
/// Source: `fuel/utils/pipe/pipe.py`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Topic(Cow<'static, str>);

impl Topic {
    /// A sign of life. Never delivered.
    pub const HEARTBEAT: Self = Self(Cow::Borrowed("_HEARTBEAT_"));
    /// The sender is done.
    pub const END: Self = Self(Cow::Borrowed("_END_"));
    /// The sender gives up.
    pub const ABORT: Self = Self(Cow::Borrowed("_ABORT_"));
    /// The peer was silent for too long. Made locally, never sent.
    pub const PEER_GONE: Self = Self(Cow::Borrowed("_PEER_GONE_"));

    /// The topic as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it belongs to the pipe itself.
    pub fn is_reserved(&self) -> bool {
        [Self::HEARTBEAT, Self::END, Self::ABORT, Self::PEER_GONE].contains(self)
    }

    /// Whether it ends the conversation.
    pub(crate) fn is_last(&self) -> bool {
        *self == Self::END || *self == Self::ABORT
    }
}

impl FromStr for Topic {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if text.len() > MAX_LEN {
            return Err(TopicError::Long(text.len()));
        }
        if text.is_empty() || !text.bytes().all(valid) {
            return Err(TopicError::Form(text.into()));
        }
        Ok(Self(Cow::Owned(text.into())))
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A text is not a topic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// It has other characters than topics have, or none.
    #[error("'{0}' is no topic; use letters, digits and underscores")]
    Form(String),
    /// It is too long.
    #[error("a topic of {0} bytes is longer than {MAX_LEN}")]
    Long(usize),
}

/// Longer than anything that people write; what was delivered is remembered by topic.
const MAX_LEN: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_letters_digits_and_underscores() {
        for text in ["train", "_", "A_1", "_END_"] {
            assert_eq!(text.parse::<Topic>().unwrap().as_str(), text);
        }
        for text in ["", "a b", "a.b", "a-b", "é", "a\n"] {
            assert_eq!(text.parse::<Topic>(), Err(TopicError::Form(text.into())));
        }
        assert_eq!("x".repeat(257).parse::<Topic>(), Err(TopicError::Long(257)));
    }

    #[test]
    fn a_reserved_topic_is_known_however_it_came() {
        assert_eq!("_END_".parse(), Ok(Topic::END));
        assert!("_PEER_GONE_".parse::<Topic>().unwrap().is_reserved());
        assert!(!"END".parse::<Topic>().unwrap().is_reserved());
    }
}
