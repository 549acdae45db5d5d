//! Heads as they travel: the header map as the reference writes it, or a short form between cells that both know it.
//!
//! Most messages of a lane look like an earlier one in all but a few headers: an id, times, sizes, numbers of chunks.
//! So the two ends of a lane share a table of heads, as HPACK's ends do. A head in full may come with the command to
//! enter it into the table; a short one names an entry and has only the values that [vary](Varying).
//!
//! | first byte | what follows |
//! | --- | --- |
//! | a map of MessagePack | the head in full |
//! | `0xc1` | an index below [`TABLE`], one byte; the head in full, which becomes that entry |
//! | an index below [`TABLE`] | the values of the headers that vary, in the order of the entry |
//!
//! A value is MessagePack, or the byte `0xc1` and a form of its own: 16 bytes for an id that is a UUID; for the route as many
//! times as the entry's has hops, 8 bytes each, with the names of those hops; nothing for the length of a payload
//! that is the length of the body, and for a send time that is the last of the route.
//!
//! Each lane has its tables, because lanes have no mutual order. What is written is read in order and nothing is lost in
//! between, or the lane ends; so the tables never differ.

mod decode;
mod encode;

pub(crate) use decode::{HeadDecoder, HeadError};
pub(crate) use encode::HeadEncoder;

use super::{
    Headers, Limits, Scanner, Shape,
    keys::{cn, sm},
};

/// What a cell that reads short heads says of itself in HELLO and READY.
pub const COMPACT_HEADS: &str = "compact-heads/1";

/// Entries of a table.
const TABLE: usize = 32;

/// The longest head that may be entered.
const MAX_ENTRY: usize = 1024;

/// Where no value of MessagePack begins.
const SPECIAL: u8 = 0xc1;

/// A head that both ends of a lane know.
#[derive(Debug)]
struct Entry {
    headers: Headers,
    /// Of each header, how its value travels if it may be another one.
    varying: Box<[Option<Varying>]>,
}

/// Headers that have another value in nearly every message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Varying {
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

impl Entry {
    /// Keeps a copy.
    fn new(headers: &Headers) -> Self {
        let varying = headers.parts().map(|(key, ..)| Varying::of(key)).collect();
        Self { headers: headers.detached(), varying }
    }
}

impl Varying {
    fn of(key: &[u8]) -> Option<Self> {
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
        ];
        // Cheaper than ten comparisons: what the keys have in common, and nearly no other has.
        if !matches!(key.len(), 6 | 9 | 10 | 13 | 15) {
            return None;
        }
        known.into_iter().find(|(known, _)| known.as_bytes() == key).map(|(_, varying)| varying)
    }
}

/// Where in an encoded route the times of its hops are, 8 bytes each. `None` if it is no list, and in the place of a
/// hop that is no name with such a time.
fn times(route: &[u8]) -> Option<impl Iterator<Item = Option<usize>>> {
    let mut scanner = Scanner::new(route, Limits::SMALL);
    let Ok(Shape::Array(len)) = scanner.step() else { return None };
    Some((0..len).map(move |_| {
        let Ok(Shape::Array(2)) = scanner.step() else { return None };
        let Ok(Shape::Text(_)) = scanner.step() else { return None };
        let Ok(Shape::F64(_)) = scanner.step() else { return None };
        Some(scanner.at() - TIME)
    }))
}

/// The last time of an encoded route.
fn last_time(route: &[u8]) -> Option<[u8; TIME]> {
    route.get(times(route)?.last()??..)?.first_chunk().copied()
}

/// The length of a body as it is usually written, in `space`.
fn length(space: &mut [u8; 9], body: usize) -> &[u8] {
    let mut rest = &mut space[..];
    rmp::encode::write_uint(&mut rest, body as u64).expect("no number is longer");
    let left = rest.len();
    &space[..9 - left]
}

/// Bytes of a time without its marker.
const TIME: usize = 8;

/// The marker of a time.
const F64: u8 = 0xcb;

#[cfg(test)]
mod tests;
