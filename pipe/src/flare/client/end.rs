//! Why a trainer has nothing more to do.

use std::fmt;

use cellnet_core::{fobs, message::Payload};

/// How the conversation with the job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// The job is done, or this process has done the one task that it was started for.
    Done,
    /// The job gave up, or stopped waiting for the current task; in words, often the id of the task.
    Aborted(String),
    /// The job was silent for too long, or the pipe broke; in words.
    PeerGone(String),
    /// The process was asked to end (SIGTERM), or the program closed the client.
    Stopped,
}

impl End {
    /// With which status a process ends that did nothing wrong itself: 0 if the job was done, 7 if it is gone, 143 if the
    /// process was asked to end before that, 1 if the job gave up.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Aborted(_) => 1,
            Self::PeerGone(_) => 7,
            // What a shell says of a process that SIGTERM ended.
            Self::Stopped => 128 + 15,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("the job is done"),
            Self::Aborted(why) if why.is_empty() => f.write_str("the job was aborted"),
            Self::Aborted(why) => write!(f, "the job was aborted: {why}"),
            Self::PeerGone(why) => write!(f, "the job is gone: {why}"),
            Self::Stopped => f.write_str("asked to end"),
        }
    }
}

/// Of the pipe of tasks.
impl From<crate::PipeEvent> for End {
    fn from(event: crate::PipeEvent) -> Self {
        match event {
            crate::PipeEvent::Abort(message) => Self::Aborted(words(&message.data)),
            crate::PipeEvent::PeerGone(why) => Self::PeerGone(why),
            crate::PipeEvent::End(_) | crate::PipeEvent::Message(_) => Self::Done,
        }
    }
}

/// The text of a message, if it is one; the reference sends the id of a task.
fn words(data: &Payload) -> String {
    match data {
        Payload::Fobs(bytes) => fobs::from_bytes(bytes).unwrap_or_default(),
        other => String::from_utf8_lossy(other.as_bytes()).into_owned(),
    }
}
