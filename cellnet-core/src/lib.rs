//! Cells, links, streams and the wire protocol of cellnet.
//!
//! A row knows only the rows below it:
//!
//! ```text
//! transfer            one file or tree               what is missing, what is safe
//! cell · stream       one identity · one blob            who gets this message, what was asked
//! link                one neighbour                      handshake, queues, writer, reader
//! transport           frames in batches                  traits and registry; drivers are crates of their own
//! wire · fqcn · url   bytes and names                    no tasks, no clock, no sockets
//! ```
//!
//! Most programs use the facade crate `cellnet`, which adds the routing policy and the drivers.

pub mod cell;
pub mod fobs;
pub mod fqcn;
pub mod identity;
pub mod link;
pub mod message;
pub mod route;
mod spare;
pub mod stats;
pub mod stream;
pub mod tls;
#[cfg(unix)]
pub mod transfer;
pub mod transport;
pub mod url;
pub mod wire;

pub use fqcn::{Fqcn, FqcnError};
pub use url::{CellUrl, Scheme, UrlError};

#[cfg(feature = "testkit")]
pub mod testkit;
