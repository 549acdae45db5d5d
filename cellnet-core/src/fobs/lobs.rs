//! The sections of a payload.
//!
//! ```text
//!  0        1     2         10
//!  | marker | dot | size    | size bytes, of a datum 16 for its id first       big-endian
//! ```
//! The main section comes first and once. Source: `fuel/utils/fobs/lobs.py`.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use bytestring::ByteString;
use uuid::Uuid;

use super::datum::{Datum, DatumValue};

/// Cuts a payload into its main section and the datums, without copying.
pub(super) fn decode(payload: &Bytes, max_datums: usize) -> Result<(Bytes, Vec<Datum>), LobsError> {
    let mut rest = payload.clone();
    let main = match section(&mut rest)?.ok_or(LobsError::NoMain)? {
        Section { marker: MAIN, dot: 0, body } => body,
        Section { marker: MAIN, dot, .. } => return Err(LobsError::MainDot(dot)),
        Section { marker, .. } => return Err(LobsError::NotMain(marker)),
    };
    let mut datums = Vec::new();
    while let Some(section) = section(&mut rest)? {
        if datums.len() == max_datums {
            return Err(LobsError::TooMany(max_datums));
        }
        datums.push(section.datum()?);
    }
    Ok((main, datums))
}

/// Puts a payload together; `main` appends the main value.
pub(super) fn encode(main: impl FnOnce(&mut BytesMut), datums: &[Datum]) -> Bytes {
    let mut out = BytesMut::new();
    header(&mut out, MAIN, 0, 0);
    main(&mut out);
    let size = (out.len() - HEADER_LEN) as u64;
    out[HEADER_LEN - size_of::<u64>()..HEADER_LEN].copy_from_slice(&size.to_be_bytes());

    out.reserve(datums.iter().map(|datum| HEADER_LEN + ID_LEN + datum.value().as_bytes().len()).sum());
    for datum in datums {
        let value = datum.value().as_bytes();
        header(&mut out, marker(datum.value()), datum.dot(), (ID_LEN + value.len()) as u64);
        out.put_slice(datum.id().as_bytes());
        out.put_slice(value);
    }
    out.freeze()
}

/// Why a payload cannot be cut into sections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LobsError {
    /// No bytes at all.
    #[error("there is no main section")]
    NoMain,
    /// Fewer bytes left than a section's header has.
    #[error("{0} bytes are left where a section should start")]
    Header(usize),
    /// Fewer bytes left than a section claims.
    #[error("a section of {size} bytes has {left}")]
    Truncated {
        /// Bytes claimed.
        size: u64,
        /// Bytes there.
        left: usize,
    },
    /// A section without content.
    #[error("a section is empty")]
    Empty,
    /// The first section is not the main one.
    #[error("the first section is {0}, not main")]
    NotMain(u8),
    /// The main section claims to be for a handler.
    #[error("the main section has datum object type {0}")]
    MainDot(u8),
    /// A later section that is no datum.
    #[error("section {0} is no datum")]
    Marker(u8),
    /// A text datum that is no text.
    #[error("text datum {0} is not UTF-8")]
    Utf8(Uuid),
    /// More datums than accepted.
    #[error("more than {0} datums")]
    TooMany(usize),
}

struct Section {
    marker: u8,
    dot: u8,
    body: Bytes,
}

impl Section {
    fn datum(mut self) -> Result<Datum, LobsError> {
        if !matches!(self.marker, TEXT | BLOB | FILE) {
            return Err(LobsError::Marker(self.marker));
        }
        let Some(id) = self.body.first_chunk::<ID_LEN>().map(|&id| Uuid::from_bytes(id)) else {
            return Err(LobsError::Truncated { size: ID_LEN as u64, left: self.body.len() });
        };
        self.body.advance(ID_LEN);
        let value = match self.marker {
            TEXT => DatumValue::Text(ByteString::try_from(self.body).map_err(|_| LobsError::Utf8(id))?),
            BLOB => DatumValue::Blob(self.body),
            _ => DatumValue::File(self.body),
        };
        Datum::with_id(id, self.dot, value).map_err(|_| LobsError::Empty)
    }
}

/// The next section, or `None` at the end.
fn section(rest: &mut Bytes) -> Result<Option<Section>, LobsError> {
    match rest.len() {
        0 => return Ok(None),
        left if left < HEADER_LEN => return Err(LobsError::Header(left)),
        _ => {}
    }
    let (marker, dot, size) = (rest.get_u8(), rest.get_u8(), rest.get_u64());
    let truncated = LobsError::Truncated { size, left: rest.len() };
    match usize::try_from(size) {
        Ok(0) => Err(LobsError::Empty),
        Ok(len) if len <= rest.len() => Ok(Some(Section { marker, dot, body: rest.split_to(len) })),
        _ => Err(truncated),
    }
}

fn header(out: &mut BytesMut, marker: u8, dot: u8, size: u64) {
    out.put_u8(marker);
    out.put_u8(dot);
    out.put_u64(size);
}

fn marker(value: &DatumValue) -> u8 {
    match value {
        DatumValue::Text(_) => TEXT,
        DatumValue::Blob(_) => BLOB,
        DatumValue::File(_) => FILE,
    }
}

const HEADER_LEN: usize = 10;
const ID_LEN: usize = 16;

const MAIN: u8 = 100;
const TEXT: u8 = 101;
const BLOB: u8 = 102;
const FILE: u8 = 103;

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(bytes: &[u8]) -> Result<(Bytes, Vec<Datum>), LobsError> {
        decode(&Bytes::copy_from_slice(bytes), 1)
    }

    #[test]
    fn a_claimed_size_beyond_the_end_is_refused() {
        let bytes = b"\x64\0\xff\xff\xff\xff\xff\xff\xff\xff\xc0";
        assert_eq!(cut(bytes), Err(LobsError::Truncated { size: u64::MAX, left: 1 }));
    }

    #[test]
    fn main_comes_first_and_once() {
        let main = b"\x64\0\0\0\0\0\0\0\0\x01\xc0";
        assert_eq!(cut(b"\x66\0\0\0\0\0\0\0\0\x01\xc0"), Err(LobsError::NotMain(102)));
        assert_eq!(cut(&[&main[..], main].concat()), Err(LobsError::Marker(100)));
        assert_eq!(cut(b"\x64\x03\0\0\0\0\0\0\0\x01\xc0"), Err(LobsError::MainDot(3)));
    }

    #[test]
    fn datums_end_at_the_limit() {
        let datum = Datum::new(DatumValue::Blob(Bytes::from_static(b"x"))).unwrap();
        let payload = encode(|out| out.put_u8(0xc0), &[datum.clone(), datum]);
        assert_eq!(decode(&payload, 1), Err(LobsError::TooMany(1)));
        assert_eq!(decode(&payload, 2).unwrap().1.len(), 2);
    }
}
