//! Reads heads.

use std::{collections::VecDeque, fmt};

use bytes::Bytes;
use uuid::Uuid;

use super::{F64, Hops, SPECIAL, TABLE, TIME, UUID_MARKER, last_time, may_enter};
use crate::wire::{
    DecodeError, Headers, Limits, MAX_HEADERS, Scanner,
    headers::{Varying, put_uint},
};

/// Reads the heads of one lane.
#[derive(Default)]
pub(crate) struct HeadDecoder {
    /// Heads that came in full not long ago, newest first: one that is like them needs no look at all of it.
    recent: VecDeque<Headers>,
    /// `None` where short heads were not agreed.
    table: Option<Vec<Headers>>,
}

/// Why a head cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeadError {
    /// It has no headers that can be read; others are not concerned.
    #[error(transparent)]
    Message(DecodeError),
    /// The two ends do not have the same table, so nothing that follows can be trusted.
    #[error("short head: {0}")]
    Table(DecodeError),
}

/// As many as a conversation has kinds of messages.
const RECENT: usize = 4;

impl HeadDecoder {
    /// Reads short heads too.
    pub(crate) fn compact() -> Self {
        Self { table: Some(Vec::new()), ..Self::default() }
    }

    /// Reads the head of a message with a body of `body` bytes. Every head must be read, in order.
    pub(crate) fn decode(&mut self, head: &Bytes, body: usize) -> Result<Headers, HeadError> {
        match (&mut self.table, head.first()) {
            (Some(table), Some(&SPECIAL)) => enter(table, head).map_err(HeadError::Table),
            (Some(table), Some(&at)) if usize::from(at) < TABLE => match table.get(usize::from(at)) {
                Some(entry) => lengthen(entry, &head[1..], body).map_err(HeadError::Message),
                None => Err(HeadError::Table(DecodeError::Expected("an index in the table"))),
            },
            _ => self.decode_full(head).map_err(HeadError::Message),
        }
    }

    /// Entries in the table.
    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        self.table.as_ref().map_or(0, Vec::len)
    }

    fn decode_full(&mut self, head: &Bytes) -> Result<Headers, DecodeError> {
        if let Some(headers) = self.recent.iter().find_map(|known| known.resembling(head)) {
            return Ok(headers);
        }
        let headers = Headers::decode(head)?;
        if may_enter(&headers, head.len()).is_ok() && !headers.is_empty() {
            self.recent.truncate(RECENT - 1);
            self.recent.push_front(headers.detached());
        }
        Ok(headers)
    }
}

/// A head in full that becomes an entry. The table grows by one entry at a time.
fn enter(table: &mut Vec<Headers>, head: &Bytes) -> Result<Headers, DecodeError> {
    let at = usize::from(*head.get(1).ok_or(DecodeError::Truncated)?);
    let full = head.slice(2..);
    let headers = Headers::decode(&full)?;
    may_enter(&headers, full.len())?;
    let entry = headers.detached();
    match at {
        _ if full.is_empty() => return Err(DecodeError::Truncated),
        _ if at < table.len() => table[at] = entry,
        _ if at == table.len() && at < TABLE => table.push(entry),
        _ => return Err(DecodeError::Expected("the next index of the table")),
    }
    Ok(headers)
}

/// The headers of an entry with the values that are in `rest`.
fn lengthen(entry: &Headers, rest: &[u8], body: usize) -> Result<Headers, DecodeError> {
    let mut last: Option<[u8; TIME]> = None;
    // One for all values, which together are what a head in full may have.
    let mut scanner = Scanner::new(rest, Limits::HEADERS);
    let headers = entry.revised(|varying, before, out| {
        let start = out.len();
        if scanner.rest().first() != Some(&SPECIAL) {
            let from = scanner.at();
            scanner.skip(1)?;
            out.extend_from_slice(&rest[from..scanner.at()]);
            if varying == Varying::Route {
                last = last_time(&out[start..]);
            }
            return Ok(());
        }
        scanner.fixed::<1>()?;
        match varying {
            Varying::Id => put_uuid(Uuid::from_bytes(scanner.fixed()?), out),
            Varying::Route => {
                out.extend_from_slice(before);
                last = None;
                for hop in Hops::of(before).ok_or(NO_ROUTE)? {
                    let at = start + hop.and_then(|hop| hop.time).ok_or(NO_ROUTE)?;
                    let time = scanner.fixed::<TIME>()?;
                    out[at..at + TIME].copy_from_slice(&time);
                    last = Some(time);
                }
            }
            Varying::SendTime => {
                out.push(F64);
                out.extend_from_slice(&last.ok_or(NO_ROUTE)?);
            }
            Varying::Length => put_uint(out, body as u64),
            Varying::Number => return Err(DecodeError::Reserved),
        }
        Ok(())
    })?;
    match scanner.rest().len() {
        0 if headers.encoded_len() <= MAX_HEADERS => Ok(headers),
        0 => Err(DecodeError::TooLong(MAX_HEADERS)),
        left => Err(DecodeError::Trailing(left)),
    }
}

/// Appends an id as it is usually written.
fn put_uuid(id: Uuid, out: &mut Vec<u8>) {
    out.extend_from_slice(&UUID_MARKER);
    out.extend_from_slice(id.hyphenated().encode_lower(&mut [0; 36]).as_bytes());
}

const NO_ROUTE: DecodeError = DecodeError::Expected("a route with times before it");

impl fmt::Debug for HeadDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.table.as_ref().map(Vec::len);
        f.debug_struct("HeadDecoder").field("entries", &entries).finish_non_exhaustive()
    }
}
