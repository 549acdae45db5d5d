//! Reads heads.

use std::{collections::VecDeque, fmt};

use bytes::Bytes;
use uuid::Uuid;

use super::{Entry, F64, MAX_ENTRY, SPECIAL, TABLE, TIME, Varying, last_time, length, times};
use crate::wire::{DecodeError, Headers, Limits, Scanner};

/// Reads the heads of one lane.
#[derive(Default)]
pub(crate) struct HeadDecoder {
    /// Heads that came in full not long ago, newest first: one that is like them needs no look at all of it.
    recent: VecDeque<Headers>,
    /// `None` where short heads were not agreed.
    table: Option<Vec<Entry>>,
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
        if head.len() <= MAX_ENTRY && !head.is_empty() {
            self.recent.truncate(RECENT - 1);
            self.recent.push_front(headers.detached());
        }
        Ok(headers)
    }
}

/// A head in full that becomes an entry. The table grows by one entry at a time.
fn enter(table: &mut Vec<Entry>, head: &Bytes) -> Result<Headers, DecodeError> {
    let at = usize::from(*head.get(1).ok_or(DecodeError::Truncated)?);
    let full = head.slice(2..);
    if full.len() > MAX_ENTRY {
        return Err(DecodeError::TooLong(MAX_ENTRY));
    }
    let headers = Headers::decode(&full)?;
    let entry = Entry::new(&headers);
    match at {
        _ if at < table.len() => table[at] = entry,
        _ if at == table.len() && at < TABLE => table.push(entry),
        _ => return Err(DecodeError::Expected("the next index of the table")),
    }
    Ok(headers)
}

/// The headers of an entry with the values that are in `rest`.
fn lengthen(entry: &Entry, mut rest: &[u8], body: usize) -> Result<Headers, DecodeError> {
    let mut last: Option<[u8; TIME]> = None;
    let headers = entry.headers.revised(&entry.varying, |varying, before, out| {
        let start = out.len();
        match rest.split_first() {
            Some((&SPECIAL, short)) => {
                rest = short;
                match varying {
                    Varying::Id => {
                        let id = Uuid::from_bytes(*take::<16>(&mut rest)?);
                        out.extend_from_slice(&[0xd9, 36]);
                        out.extend_from_slice(id.hyphenated().encode_lower(&mut [0; 36]).as_bytes());
                    }
                    Varying::Route => {
                        out.extend_from_slice(before);
                        for at in times(before).ok_or(NO_ROUTE)? {
                            let at = start + at.ok_or(NO_ROUTE)?;
                            out[at..at + TIME].copy_from_slice(take::<TIME>(&mut rest)?);
                        }
                    }
                    Varying::SendTime => {
                        out.push(F64);
                        out.extend_from_slice(&last.ok_or(NO_ROUTE)?);
                    }
                    Varying::Length => out.extend_from_slice(length(&mut [0; 9], body)),
                    Varying::Number => return Err(DecodeError::Reserved),
                }
            }
            _ => {
                let mut scanner = Scanner::new(rest, Limits::HEADERS);
                scanner.skip(1)?;
                let (value, left) = rest.split_at(scanner.at());
                out.extend_from_slice(value);
                rest = left;
            }
        }
        if varying == Varying::Route {
            last = last_time(&out[start..]);
        }
        Ok(())
    })?;
    match rest.len() {
        0 => Ok(headers),
        left => Err(DecodeError::Trailing(left)),
    }
}

const NO_ROUTE: DecodeError = DecodeError::Expected("a route with times before it");

/// The first bytes of what is left.
fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Result<&'a [u8; N], DecodeError> {
    let (taken, left) = rest.split_first_chunk().ok_or(DecodeError::Truncated)?;
    *rest = left;
    Ok(taken)
}

impl fmt::Debug for HeadDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.table.as_ref().map(Vec::len);
        f.debug_struct("HeadDecoder").field("entries", &entries).finish_non_exhaustive()
    }
}
