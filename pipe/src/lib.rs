//! Pipes between two processes of a site, and the routing policy of the fabric.
//!
//! A [`CellPipe`] links two processes through the cells between them; a [`PipeHandler`] adds heartbeats, resends and
//! the news that the peer is gone. [`download`] moves arrays and files that messages refer to. [`TreePolicy`] routes messages through the tree of cells.

mod activity;
mod cell_pipe;
pub mod download;
#[cfg(feature = "flare")]
pub mod flare;
mod handler;
mod host;
mod inbox;
mod memory_pipe;
mod message;
mod name;
mod pipe;
mod place;
mod resolve;
mod topic;

pub use cell_pipe::{CellPipe, CellPipeBuilder};
pub use handler::{HandlerConfig, HandlerConfigError, PipeEvent, PipeHandler, SendError};
pub use host::{Credentials, PipeHost};
pub use inbox::InboxLimits;
pub use memory_pipe::MemoryPipe;
pub use message::{MessageType, PipeMessage, text_payload};
pub use name::{Mode, ModeError, PipeNameError, pipe_fqcn};
pub use pipe::{
    CELL_PIPE_CLASS, DEFAULT_TIMEOUT, Delivery, OpenError, Pipe, PipeArgs, PipeError, PipeExport, Side,
};
pub use place::{
    ConnectionProperties, ConnectionSecurity, ConnectionSecurityError, Place, PlaceError, UnknownUrl,
};
pub use resolve::{TreePolicy, next_hop};
pub use topic::{Topic, TopicError};
