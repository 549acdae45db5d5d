//! The `.npz` format of numpy: a zip archive of `.npy` files that are stored as they are.
//!
//! Source: `app_common/np/np_downloader.py`, `numpy/lib/_npyio_impl.py`, Python's `zipfile`.

use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;
use rawzip::{CompressionMethod, ZipArchive};

use super::{
    Array,
    npy::{self, NpyError},
};

/// An archive with one array per name, byte for byte what numpy writes into memory.
pub fn encode<'a>(members: impl IntoIterator<Item = (&'a str, &'a Array)>) -> Result<Bytes, NpzError> {
    let members: Vec<_> =
        members.into_iter().map(|(name, array)| (format!("{name}{SUFFIX}"), npy::parts(array))).collect();
    if let Some((name, _)) = members.iter().find(|(name, _)| name.len() > usize::from(u16::MAX)) {
        return Err(NpzError::Name(name.len()));
    }
    let size = |(name, (head, data)): &(String, (Vec<u8>, &Bytes))| {
        (LOCAL_LEN + CENTRAL_LEN + 2 * name.len()) as u64 + (head.len() + data.len()) as u64
    };
    let total = members.iter().map(size).sum::<u64>() + END_LEN as u64;
    if total >= MAX_SIZE || members.len() > usize::from(u16::MAX) {
        return Err(NpzError::Large(total));
    }
    let mut out = BytesMut::with_capacity(total as usize);
    let mut directory = BytesMut::new();
    for (name, (head, data)) in &members {
        let mut crc = crc32fast::Hasher::new();
        crc.update(head);
        crc.update(data);
        let member =
            Member { name, crc: crc.finalize(), len: (head.len() + data.len()) as u32, at: out.len() as u32 };
        member.local(&mut out);
        out.put_slice(head);
        out.put_slice(data);
        member.central(&mut directory);
    }
    let (count, at) = (members.len() as u16, out.len() as u32);
    out.put_slice(&directory);
    out.put_u32_le(END_SIGNATURE);
    out.put_u32_le(0);
    out.put_u16_le(count);
    out.put_u16_le(count);
    out.put_u32_le(directory.len() as u32);
    out.put_u32_le(at);
    out.put_u16_le(0);
    Ok(out.freeze())
}

/// The arrays of an archive with their names, sharing its bytes.
///
/// At most `max` members. ZIP64 is read, compression is not; checksums are checked.
pub fn decode(archive: &Bytes, max: usize) -> Result<Vec<(ByteString, Array)>, NpzError> {
    let zip = ZipArchive::from_slice(archive).map_err(NpzError::zip)?;
    let mut entries = zip.entries();
    let mut arrays = Vec::new();
    let mut left = archive.len();
    while let Some(entry) = entries.next_entry().map_err(NpzError::zip)? {
        if arrays.len() == max {
            return Err(NpzError::TooMany(max));
        }
        let path = std::str::from_utf8(entry.file_path().as_bytes()).map_err(|_| NpzError::Utf8)?;
        let name = ByteString::from(path.strip_suffix(SUFFIX).unwrap_or(path));
        if entry.compression_method() != CompressionMethod::STORE {
            return Err(NpzError::Compressed(name));
        }
        let local = zip.get_entry(entry.wayfinder()).map_err(NpzError::zip)?;
        let data = local.data();
        // Members that lie upon one another would take far longer to check than the archive to send.
        left = left.checked_sub(data.len()).ok_or_else(|| NpzError::Overlap(name.clone()))?;
        let claim = local.claim_verifier();
        if claim.uncompressed_size != data.len() as u64 || claim.crc != crc32fast::hash(data) {
            return Err(NpzError::Damaged(name));
        }
        match npy::decode(&archive.slice_ref(data)) {
            Ok(array) => arrays.push((name, array)),
            Err(source) => return Err(NpzError::Member { name, source }),
        }
    }
    Ok(arrays)
}

/// Why an archive of arrays cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NpzError {
    /// It is no zip archive.
    #[error("broken zip archive")]
    Zip(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A member's name is no text.
    #[error("a member's name is not UTF-8")]
    Utf8,
    /// More members than accepted.
    #[error("more than {0} members")]
    TooMany(usize),
    /// A member is compressed.
    #[error("member {0} is compressed")]
    Compressed(ByteString),
    /// A member shares bytes with others.
    #[error("member {0} overlaps others")]
    Overlap(ByteString),
    /// A member does not have the length or the checksum it claims.
    #[error("member {0} is damaged")]
    Damaged(ByteString),
    /// A member is no array.
    #[error("member {name} is no array")]
    Member {
        /// The member.
        name: ByteString,
        /// Why not.
        source: NpyError,
    },
    /// A name that does not fit.
    #[error("a name of {0} bytes is too long")]
    Name(usize),
    /// The arrays do not fit into one archive.
    #[error("an archive of {0} bytes is too large")]
    Large(u64),
}

impl NpzError {
    fn zip(error: rawzip::Error) -> Self {
        Self::Zip(error.into())
    }
}

/// A member as the headers describe it.
struct Member<'a> {
    name: &'a str,
    crc: u32,
    len: u32,
    at: u32,
}

impl Member<'_> {
    /// With the sizes in a ZIP64 field, as `numpy.savez` asks for.
    fn local(&self, out: &mut BytesMut) {
        out.put_u32_le(LOCAL_SIGNATURE);
        self.common(out, u32::MAX, ZIP64_LEN as u16);
        out.put_slice(self.name.as_bytes());
        out.put_u16_le(ZIP64_ID);
        out.put_u16_le(16);
        out.put_u64_le(self.len.into());
        out.put_u64_le(self.len.into());
    }

    fn central(&self, out: &mut BytesMut) {
        out.put_u32_le(CENTRAL_SIGNATURE);
        out.put_u16_le(UNIX | VERSION);
        self.common(out, self.len, 0);
        out.put_slice(&[0; 6]);
        out.put_u32_le(PERMISSIONS << 16);
        out.put_u32_le(self.at);
        out.put_slice(self.name.as_bytes());
    }

    fn common(&self, out: &mut BytesMut, len: u32, extra: u16) {
        out.put_u16_le(VERSION);
        out.put_u16_le(if self.name.is_ascii() { 0 } else { UTF8 });
        out.put_u16_le(0);
        out.put_u32_le(FIRST_DAY);
        out.put_u32_le(self.crc);
        out.put_u32_le(len);
        out.put_u32_le(len);
        out.put_u16_le(self.name.len() as u16);
        out.put_u16_le(extra);
    }
}

const SUFFIX: &str = ".npy";

const LOCAL_SIGNATURE: u32 = 0x0403_4b50;
const CENTRAL_SIGNATURE: u32 = 0x0201_4b50;
const END_SIGNATURE: u32 = 0x0605_4b50;
const LOCAL_LEN: usize = 30 + ZIP64_LEN;
const CENTRAL_LEN: usize = 46;
const END_LEN: usize = 22;
const ZIP64_LEN: usize = 20;
const ZIP64_ID: u16 = 1;
/// The one that knows ZIP64.
const VERSION: u16 = 45;
const UNIX: u16 = 3 << 8;
const UTF8: u16 = 0x800;
/// 1 January 1980, the first that zip can say; time and then date.
const FIRST_DAY: u32 = 0x21 << 16;
const PERMISSIONS: u32 = 0o600;
/// All offsets stay below the mark for ZIP64.
const MAX_SIZE: u64 = u32::MAX as u64;
