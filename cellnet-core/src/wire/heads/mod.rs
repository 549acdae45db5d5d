//! Heads as they travel: the header map as the reference writes it, or a short form between cells that both know it.
//!
//! Most messages of a lane look like an earlier one in all but a few headers: an id, times, sizes, numbers of chunks.
//! So the two ends of a lane share a table of heads, as HPACK's ends do. A head in full may come with the command to
//! enter it into the table; a short one names an entry and has only the values that [vary](varies).
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
    Limits, Scanner, Shape,
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

/// Whether headers under this key have another value in nearly every message.
fn varies(key: &[u8]) -> bool {
    let varying = [
        cn::REQ_ID,
        cn::ROUTE,
        cn::SEND_TIME,
        cn::PAYLOAD_LEN,
        cn::MSG_ROOT_ID,
        sm::ID,
        sm::SEQUENCE,
        sm::OFFSET,
        sm::SIZE,
        sm::REQ_ID,
    ];
    // Cheaper than ten comparisons: what they have in common, and nearly nothing else has.
    matches!(key.len(), 6 | 9 | 10 | 13 | 15) && varying.iter().any(|known| known.as_bytes() == key)
}

/// Whether headers under this key are usually a UUID.
fn is_id(key: &[u8]) -> bool {
    [cn::REQ_ID, cn::MSG_ROOT_ID, sm::REQ_ID].iter().any(|known| known.as_bytes() == key)
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
