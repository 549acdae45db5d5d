//! Short values of MessagePack, written and read faster than by its library.

use bytes::BufMut;

/// Appends text with its marker.
#[inline]
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    match text.len() {
        len @ ..32 => out.push(0xa0 | len as u8),
        len @ 32..256 => out.extend_from_slice(&[0xd9, len as u8]),
        _ => {
            return rmp::encode::write_str(&mut out.writer(), text)
                .expect("a buffer in memory takes everything");
        }
    }
    out.extend_from_slice(text.as_bytes());
}

/// Appends a number that need not be whole.
#[inline]
pub(crate) fn put_f64(out: &mut Vec<u8>, value: f64) {
    let mut bytes = [rmp::Marker::F64.to_u8(); 9];
    bytes[1..].copy_from_slice(&value.to_be_bytes());
    out.extend_from_slice(&bytes);
}

/// Appends a number that is whole and not negative.
#[inline]
pub(crate) fn put_uint(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(uint(&mut [0; 9], value));
}

/// A number that is whole and not negative, in `space`.
#[inline]
pub(in crate::wire) fn uint(space: &mut [u8; 9], value: u64) -> &[u8] {
    if value < 128 {
        space[0] = value as u8;
        return &space[..1];
    }
    let mut rest = &mut space[..];
    rmp::encode::write_uint(&mut rest, value).expect("no number is longer");
    let left = rest.len();
    &space[..9 - left]
}

/// Appends the head of a list.
#[inline]
pub(crate) fn put_len(out: &mut Vec<u8>, len: u32) {
    if len < 16 {
        return out.push(0x90 | len as u8);
    }
    rmp::encode::write_array_len(&mut out.writer(), len).expect("a buffer in memory takes everything");
}

/// The text that is encoded; `None` for anything else.
pub(crate) fn text(value: &[u8]) -> Option<&str> {
    str::from_utf8(&value[text_marker(value)?..]).ok()
}

/// Bytes of the marker of a text; `None` for anything else.
pub(super) fn text_marker(value: &[u8]) -> Option<usize> {
    match value.first()? {
        0xa0..=0xbf => Some(1),
        0xd9 => Some(2),
        0xda => Some(3),
        0xdb => Some(5),
        _ => None,
    }
}
