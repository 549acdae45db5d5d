//! What the two processes say to one another, beside the messages that are measured.
//!
//! ```text
//! open    → a session, if nobody else has one          ends by `close`, or when nothing was heard for 10 s
//! attach  → the other end of a pipe                    once for each connection, for `pipe`
//! join    → from each cell that a broadcast is for     for `fan`
//! begin   → a round is counted from now on             the warm-up is a round, too
//! end     → what was counted in it                     waits until what was sent has arrived, or nothing comes any more
//! alive   → from time to time
//! close
//! ```
//! Everything is JSON, in requests on one channel.

use std::time::Duration;

use bytestring::ByteString;
use cellnet::{Cell, Fqcn, HandlerError, Message, ReturnCode};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::workload::Workload;
use crate::cli::status::{Failure, Status};

/// The channel of all this.
pub(super) const CONTROL: &str = "_bench";

pub(super) mod topic {
    pub(crate) const OPEN: &str = "open";
    pub(crate) const ATTACH: &str = "attach";
    pub(crate) const JOIN: &str = "join";
    pub(crate) const BEGIN: &str = "begin";
    pub(crate) const END: &str = "end";
    pub(crate) const ALIVE: &str = "alive";
    pub(crate) const CLOSE: &str = "close";
}

/// A channel whose messages do not stream.
const PLAIN: &str = "task";
/// One that carries them as blobs, as the channels of applications do.
const BLOBS: &str = "_bench_load";
/// The topic under which a broadcast reaches the cells that joined.
pub(super) const DELIVER: &str = "deliver";

/// Where the messages of a workload go.
pub(super) fn channel(workload: Workload) -> ByteString {
    ByteString::from_static(if workload.streams() { BLOBS } else { PLAIN })
}

/// Each round has a topic of its own, so that what comes late is not counted in the next.
pub(super) fn load_topic(workload: Workload, round: u32) -> ByteString {
    format!("{workload}.{round}").into()
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Open {
    pub(super) workload: Workload,
    /// How long the serving side waits where it asks others.
    pub(super) timeout_s: f64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Opened {
    pub(super) session: String,
}

/// Names the session, which is all that most need to say.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Named {
    pub(super) session: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Attach {
    pub(super) session: String,
    /// The site of both ends.
    pub(super) site: String,
    /// The cell that both ends attach to.
    pub(super) to: String,
    /// The transport that is to be used, if there is a choice.
    pub(super) scheme: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Attached {
    /// What both ends of the pipe know.
    pub(super) token: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Begin {
    pub(super) session: String,
    pub(super) round: u32,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) session: String,
    pub(super) round: u32,
    /// Messages that should arrive.
    pub(super) sent: u64,
}

/// What the serving process saw of a round.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Seen {
    /// Messages that arrived, where it receives them.
    pub(super) received: Option<u64>,
    /// From the first to the last of them.
    pub(super) seconds: f64,
    pub(super) cpu_s: Option<f64>,
    pub(super) peak_mib: Option<f64>,
    /// What its memory has grown by since the session began, where connections are only held.
    pub(super) grown_mib: Option<f64>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Nothing {}

/// Asks the serving process.
pub(super) async fn ask<T: DeserializeOwned>(
    cell: &Cell,
    target: &Fqcn,
    topic: &'static str,
    words: &(impl Serialize + Sync),
    timeout: Duration,
) -> Result<T, Failure> {
    let words = serde_json::to_vec(words).expect("words are structs of text and numbers");
    let reply = cell.request(target, CONTROL, topic, Message::new(words)).timeout(timeout).await?;
    let code = reply.code();
    if let Some(status) = Status::of_reply(code.as_ref()) {
        let code = code.unwrap_or(ReturnCode::PROCESS_EXCEPTION);
        let why = reply.error().unwrap_or_default();
        let advice = if code == ReturnCode::PROCESS_EXCEPTION {
            "; check that it is 'cellnet bench serve'"
        } else {
            ""
        };
        return Err(
            Failure::new(status, format!("'{target}' refused to {topic}: {why}{advice}")).with_code(code)
        );
    }
    let strange = |error| format!("'{target}' answered '{topic}' in a way that is not understood: {error}");
    serde_json::from_slice(reply.payload.as_bytes())
        .map_err(|error| Failure::new(Status::Failed, strange(error)))
}

/// Reads what was asked.
pub(super) fn read<T: DeserializeOwned>(message: &Message) -> Result<T, HandlerError> {
    let words = message.payload.as_bytes();
    if words.len() > MAX_WORDS {
        return Err(HandlerError::invalid_request(format!("{} bytes are too many words", words.len())));
    }
    serde_json::from_slice(words).map_err(|error| HandlerError::invalid_request(error.to_string()))
}

/// Answers.
pub(super) fn write(words: &impl Serialize) -> Message {
    Message::new(serde_json::to_vec(words).expect("words are structs of text and numbers"))
}

/// Names of cells are the longest words, with 1 KiB each.
const MAX_WORDS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_were_written_and_others_are_refused() {
        let seen =
            Seen { received: Some(3), seconds: 0.5, cpu_s: None, peak_mib: Some(7.5), grown_mib: Some(1.5) };
        assert_eq!(read::<Seen>(&write(&seen)).unwrap(), seen);
        for words in ["", "{}", "[1", "{\"workload\": \"fly\", \"timeout_s\": 1}"] {
            let refused = read::<Open>(&Message::new(words)).unwrap_err();
            assert_eq!(refused.code, ReturnCode::INVALID_REQUEST, "{words}");
        }
        assert!(read::<Named>(&Message::new(vec![b' '; MAX_WORDS + 1])).is_err());
    }

    #[test]
    fn what_is_measured_as_blobs_takes_a_channel_that_streams() {
        use clap::ValueEnum;
        for &workload in Workload::value_variants() {
            let streams = cellnet::wire::keys::channel_streams(&channel(workload));
            assert!(streams == workload.streams(), "{workload}");
        }
    }
}
