//! Frames over any byte stream.
//!
//! A driver that has a reader and a writer of bytes gets its lane from [`lane`]:
//!
//! ```
//! use cellnet_core::{stats::Budget, transport::{ConnectionInfo, framed}};
//!
//! let (here, _there) = tokio::io::duplex(64 * 1024);
//! let (read, write) = tokio::io::split(here);
//! let info = ConnectionInfo::new("here", "there");
//! let lane = framed::lane(read, write, &info, Budget::new(16 << 20));
//! # drop(lane);
//! ```
//!
//! Frames follow one another without padding, as on the reference's TCP connections (`fuel/f3/sfm/sfm_conn.py`).

mod pieces;
mod recv;
mod send;

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{ConnectionInfo, Lane};
use crate::stats::Budget;
pub use pieces::Pieces;
pub use recv::FramedReceiver;
pub(crate) use recv::{FIRST_BUFFER, READ_BUFFER};
pub use send::{FramedSender, Share};

/// A lane over two byte streams.
///
/// Both halves count into `info.meter` and name `info.remote` in their errors. Memory of a half-read frame beyond
/// 64 KiB is taken from `budget` until the last use of its body is gone.
pub fn lane<R, W>(read: R, write: W, info: &ConnectionInfo, budget: Arc<Budget>) -> Lane
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    Lane {
        tx: Box::new(FramedSender::new(write, info)),
        rx: Box::new(FramedReceiver::new(read, info, budget)),
    }
}

#[cfg(test)]
mod tests;
