//! A link between two processes, whatever carries it.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use cellnet_core::{
    cell::{RequestError, StartError},
    message::ReturnCode,
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::PipeMessage;

/// One side of a link between two processes. All methods take `&self`: one task may send while another receives.
#[async_trait]
pub trait Pipe: fmt::Debug + Send + Sync + 'static {
    /// Opens the side under a name that both sides use. From then on messages are received.
    ///
    /// A dropped future may leave the pipe opened or not; [`close`](Self::close) puts that right.
    async fn open(&self, name: &str) -> Result<(), OpenError>;

    /// Sends a message and waits until the peer took it, that is, until it waits in the peer's process.
    ///
    /// `timeout` counts from the last progress and is [`DEFAULT_TIMEOUT`] if there is none. A heartbeat does not wait
    /// for the peer and says [`Delivery::Taken`] once it is on its way. A message that is sent again with the same id
    /// is delivered once, so whoever does not know may send again.
    ///
    /// A dropped future gives up; the peer may have taken the message.
    ///
    /// # Errors
    ///
    /// If this side is not open. What goes wrong on the way is a [`Delivery`].
    async fn send(&self, message: &PipeMessage, timeout: Option<Duration>) -> Result<Delivery, PipeError>;

    /// The next message; `Ok(None)` if none comes within `timeout`, or ever if there is none. Heartbeats are not
    /// delivered; they show in [`last_peer_active`](Self::last_peer_active). Cancel safe.
    ///
    /// # Errors
    ///
    /// If this side is not open, or is closed and everything that arrived before was received.
    async fn receive(&self, timeout: Option<Duration>) -> Result<Option<PipeMessage>, PipeError>;

    /// Forgets what has arrived and was not received.
    fn clear(&self);

    /// Closes this side. The peer is not told. What it was told is taken can still be received, until this side is
    /// opened again. A dropped future leaves the rest of the work to a task.
    async fn close(&self);

    /// Whether a message that was not taken may be sent again.
    fn can_resend(&self) -> bool {
        true
    }

    /// Lets go of what is kept to send this message again.
    fn release_send_cache(&self, _message: &PipeMessage) {}

    /// When something last came from the peer's cell: a message, a heartbeat, an acknowledgement, a part of one.
    fn last_peer_active(&self) -> Option<Instant>;

    /// What a process must know to open a side of this pipe; `None` if that cannot be in another process.
    fn export(&self, side: Side) -> Option<PipeExport>;
}

/// How long a message may take without progress if its sender does not say, as END and ABORT in the reference.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// What became of a message that was sent.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Delivery {
    /// The peer has it.
    #[error("taken")]
    Taken,
    /// The peer, or a cell on the way, said no.
    #[error("refused: {code} {text}")]
    Refused {
        /// Why, for programs.
        code: ReturnCode,
        /// Why, in words; may be empty.
        text: String,
    },
    /// Nobody knows. The peer may have it.
    #[error("not acknowledged")]
    Lost(#[source] RequestError),
}

impl Delivery {
    /// Whether the peer has the message.
    pub fn is_taken(&self) -> bool {
        matches!(self, Self::Taken)
    }

    /// The outcome as a return code.
    pub fn code(&self) -> ReturnCode {
        match self {
            Self::Taken => ReturnCode::OK,
            Self::Refused { code, .. } => code.clone(),
            Self::Lost(error) => error.code(),
        }
    }
}

/// Why a pipe did not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// It is open.
    #[error("the pipe is open already")]
    Already,
    /// Another pipe of this cell has that name.
    #[error("'{cell}' has an open pipe '{name}' already")]
    NameTaken {
        /// The name of the cell.
        cell: String,
        /// The name of the pipe.
        name: String,
    },
    /// The name of a pipe becomes part of a channel.
    #[error("'{0}' is no name for a pipe; use at most 256 letters, digits, '_', '-' and '.'")]
    Name(String),
    /// Pipes of the same cell differ in where they attach, or in their credentials.
    #[error("'{0}' is in use with other settings")]
    Conflict(String),
    /// The cell did not start.
    #[error("the cell of the pipe did not start")]
    Start(#[from] StartError),
}

/// Why a pipe neither sends nor receives.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PipeError {
    /// It was not opened, or it was closed.
    #[error("the pipe is not open")]
    NotOpen,
}

/// A side of a pipe as seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// This one.
    Own,
    /// The other one.
    Peer,
}

/// What a process must know to open a side of a pipe; serializes as the reference exports it, a class and its arguments
/// (`fuel/utils/pipe/cell_pipe.py`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipeExport {
    /// The reference's class, by name.
    pub class: String,
    /// What the class is made from.
    pub args: PipeArgs,
}

/// The arguments of the reference's `CellPipe`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipeArgs {
    /// `ACTIVE` or `PASSIVE`.
    pub mode: String,
    /// The site.
    pub site_name: String,
    /// What both sides of the pipe know.
    pub token: String,
    /// The URL of the cell it attaches to.
    #[serde(default)]
    pub root_url: String,
    /// Whether the connection is secured.
    pub secure_mode: bool,
    /// The folder with certificates; may be empty.
    #[serde(default)]
    pub workspace_dir: String,
}

/// The reference's name for a pipe through cells.
pub const CELL_PIPE_CLASS: &str = "nvflare.fuel.utils.pipe.cell_pipe.CellPipe";
