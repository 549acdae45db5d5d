//! What most readers ask of headers.

use std::cell::Cell;

use bytestring::ByteString;

use super::Headers;
use crate::{Fqcn, wire::keys::cn};

/// From whom a message is, for whom, and what for. It is the same for all messages of a kind, and so is read once for
/// all of them.
#[derive(Debug)]
pub(crate) struct Address {
    /// `cn__msg_type`.
    pub(crate) kind: Option<ByteString>,
    /// None if it is missing or no name, as below.
    pub(crate) destination: Option<Fqcn>,
    pub(crate) origin: Option<Fqcn>,
    /// Empty if there is none, as below.
    pub(crate) channel: ByteString,
    pub(crate) topic: ByteString,
    pub(crate) encoding: Option<ByteString>,
    pub(crate) reply_expected: bool,
    pub(crate) optional: bool,
    pub(crate) secure: bool,
    /// Whether there is anything under `cellnet`.
    pub(crate) cellnet: bool,
    /// Bytes of memory.
    pub(super) memory: usize,
}

impl Address {
    /// Keeps copies, so that one message does not keep the memory of another.
    pub(super) fn of(headers: &Headers) -> Self {
        let memory = Cell::new(size_of::<Self>());
        let text = |key| {
            let text = headers.text(key)?;
            memory.set(memory.get() + text.len());
            Some(ByteString::from(text))
        };
        let name = |key| text(key).and_then(|name| Fqcn::parse(name).ok());
        Self {
            kind: text(cn::MSG_TYPE),
            destination: name(cn::DESTINATION),
            origin: name(cn::ORIGIN),
            channel: text(cn::CHANNEL).unwrap_or_default(),
            topic: text(cn::TOPIC).unwrap_or_default(),
            encoding: text(cn::PAYLOAD_ENCODING),
            reply_expected: headers.flag(cn::REPLY_EXPECTED),
            optional: headers.flag(cn::OPTIONAL),
            secure: headers.flag(cn::SECURE),
            cellnet: headers.contains(cn::CELLNET),
            memory: memory.get(),
        }
    }
}
