//! Bytes on the wire: frames, their prefix and headers, and the payloads of the handshake.
//!
//! Pure: no tasks, no clock, no sockets. Decoding is total: every input gives a value or a typed error, and nothing is
//! allocated from a length that the input only claims.

mod frame;
mod headers;
mod heads;
pub mod hello;
mod hops;
pub mod keys;
mod prefix;
mod scan;
mod value;

pub use frame::Frame;
pub use headers::{Headers, HeadersError};
pub(crate) use headers::{Kind, Template, Varying, encoded_text, put_f64, put_len, put_text, put_uint};
pub use heads::COMPACT_HEADS;
pub(crate) use heads::{HeadDecoder, HeadEncoder, HeadError};
pub(crate) use hops::{Hops, PAIR};
pub use prefix::{FrameKind, MAX_FRAME, MAX_HEADERS, PREFIX_LEN, Prefix, PrefixError};
pub(crate) use scan::{Scanner, Shape};
pub use value::{DecodeError, Limits, Value};
