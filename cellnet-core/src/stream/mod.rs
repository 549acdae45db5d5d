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

mod blob;
mod table;

pub(crate) use blob::{Blob, ask, error_headers, refusal, send_blob, tell};
pub use blob::{IncomingStream, Progress, StreamError};
pub(crate) use table::Streams;
