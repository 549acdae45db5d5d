//! Blobs and byte streams.
//!
//! [`SendState`] and [`RecvState`] decide what a stream may do next; they know no tasks, no sockets and no clock.
//! [`ChunkHeader`] is what a stream says in the headers of its messages, [`StreamConfig`] what it may use.
//!
//! ```text
//! application --> SendState --- CHUNK, CHUNK, FINAL (sm__DATA) --> RecvState --> application
//!                     ^-------- ACK: so many bytes are used (sm__ACK) ---'
//! ```
//! Nothing is sent twice: a chunk that is lost ends the stream with an error at both ends.

mod params;
mod ready;
mod recv;
mod send;

pub use params::{ChunkHeader, ChunkKind, HeaderError, MIN_STRANGER_WINDOW, StreamConfig, stream_id};
pub use recv::{Arrival, MAX_AHEAD, RecvError, RecvState};
pub use send::{Input, Next, SendChunk, SendError, SendState};

mod acks;
mod arrive;
mod blob;
mod bytes;
mod collect;
mod error;
mod headers;
mod incoming;
mod outlet;
mod progress;
mod request;
mod table;
mod watchdog;
mod windows;

pub(crate) use self::{
    blob::{Blob, send_blob},
    headers::{error_headers, refusal},
    request::{ask, tell},
    table::Streams,
};
pub use self::{
    bytes::{IncomingStream, OutgoingStream},
    error::StreamError,
    progress::Progress,
};
