//! Heads as they travel: the header map as the reference writes it, or a short form between cells that both know it.
//!
//! Most messages of a lane look like an earlier one in all but a few headers: an id, times, sizes, numbers of chunks.
//! So the two ends of a lane share a table of heads, as HPACK's ends do. A head in full may come with the command to
//! enter it into the table; a short one names an entry and has only the values that [vary](super::headers::Varying).
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
    DecodeError, Headers,
    hops::{F64, Hops, TIME},
};

/// What a cell that reads short heads says of itself in HELLO and READY.
pub const COMPACT_HEADS: &str = "compact-heads/1";

/// Entries of a table.
const TABLE: usize = 32;

/// The longest head that may be entered, in bytes and headers. What is known of a header takes memory too, so an entry is
/// some 3 KiB at most.
const MAX_ENTRY: usize = 1024;
const MAX_ENTRY_HEADERS: usize = 64;

/// What the headers of an entry may take in memory, in bytes.
const MAX_ENTRY_MEMORY: usize = 4 * 1024;

/// Where no value of MessagePack begins.
const SPECIAL: u8 = 0xc1;

/// Whether a head may be entered.
fn may_enter(headers: &Headers, bytes: usize) -> Result<(), DecodeError> {
    match (bytes, headers.len()) {
        (..=MAX_ENTRY, ..=MAX_ENTRY_HEADERS) => Ok(()),
        (..=MAX_ENTRY, _) => Err(DecodeError::TooMany(MAX_ENTRY_HEADERS)),
        _ => Err(DecodeError::TooLong(MAX_ENTRY)),
    }
}

/// The last time of an encoded route.
fn last_time(route: &[u8]) -> Option<[u8; TIME]> {
    let at = Hops::of(route)?.last()??.time?;
    route.get(at..)?.first_chunk().copied()
}

/// The marker of a UUID as text.
const UUID_MARKER: [u8; 2] = [0xd9, 36];

#[cfg(test)]
mod tests;
