//! Headers that have another value in nearly every message.

use crate::wire::keys::{cn, pipe, sm};

/// What kind of value another one takes the place of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Varying {
    /// Usually a UUID.
    Id,
    /// Who handled the message and when.
    Route,
    /// Usually the last time of the route, or a moment later.
    SendTime,
    /// Usually that of the body.
    Length,
    Number,
}

impl Varying {
    /// By the key; `None` for all that usually stay.
    pub(in crate::wire) fn of(key: &[u8]) -> Option<Self> {
        let known = [
            (cn::REQ_ID, Self::Id),
            (cn::MSG_ROOT_ID, Self::Id),
            (sm::REQ_ID, Self::Id),
            (cn::ROUTE, Self::Route),
            (cn::SEND_TIME, Self::SendTime),
            (cn::PAYLOAD_LEN, Self::Length),
            (sm::ID, Self::Number),
            (sm::SEQUENCE, Self::Number),
            (sm::OFFSET, Self::Number),
            (sm::SIZE, Self::Number),
            (pipe::MSG_ID, Self::Id),
            (pipe::REQ_ID, Self::Id),
            (pipe::START, Self::Number),
            (pipe::HB_SEQ, Self::Number),
        ];
        // Cheaper than all the comparisons: what these keys have in common, and few others have.
        if !matches!(key.len(), 6 | 9 | 10 | 13 | 15 | 16) {
            return None;
        }
        known.into_iter().find(|(known, _)| known.as_bytes() == key).map(|(_, varying)| varying)
    }
}
