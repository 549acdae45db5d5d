//! What the two sides of a pipe say to one another.

use std::{fmt, time::SystemTime};

use cellnet_core::{
    fobs,
    message::{Message, Payload},
    wire::{
        Headers,
        keys::pipe::{MSG_ID, MSG_TYPE, REQ_ID, START},
    },
};
use uuid::Uuid;

use crate::Topic;

/// A message of a pipe. Its content is already encoded, so sending it again costs no second encoding, and a clone shares
/// it.
///
/// ```
/// # use cellnet_pipe::PipeMessage;
/// let ask = PipeMessage::new_request("train".parse()?, "weights");
/// let answer = PipeMessage::new_reply(&ask, "better weights");
/// assert_eq!(answer.req_id.as_ref(), Some(&ask.msg_id));
/// # Ok::<_, cellnet_pipe::TopicError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PipeMessage {
    /// Whether it asks or answers. An answer is a message of its own, not the acknowledgement of a request.
    pub msg_type: MessageType,
    /// What it is about.
    pub topic: Topic,
    /// Identifies the message, however often it is sent. The reference uses UUIDs and ids of tasks.
    pub msg_id: String,
    /// On an answer, the id of the request.
    pub req_id: Option<String>,
    /// The content.
    pub data: Payload,
    /// When it was made, in Unix seconds. For information only.
    pub start: f64,
    /// Other headers. Those of a received message are all that came; those of one to send go with it, except names
    /// that belong to the pipe or the protocol.
    pub headers: Headers,
}

/// Whether a message asks or answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageType {
    /// Asks.
    Request,
    /// Answers a request.
    Reply,
}

impl PipeMessage {
    /// A message that asks, with a new id.
    pub fn new_request(topic: Topic, data: impl Into<Payload>) -> Self {
        Self {
            msg_type: MessageType::Request,
            topic,
            msg_id: Uuid::new_v4().to_string(),
            req_id: None,
            data: data.into(),
            start: unix_time(),
            headers: Headers::new(),
        }
    }

    /// A message that answers `request` under the same topic, with a new id.
    pub fn new_reply(request: &Self, data: impl Into<Payload>) -> Self {
        let mut reply = Self::new_request(request.topic.clone(), data);
        reply.msg_type = MessageType::Reply;
        reply.req_id = Some(request.msg_id.clone());
        reply
    }

    /// A heartbeat, which has an empty text as its content.
    pub fn heartbeat() -> Self {
        Self::new_request(Topic::HEARTBEAT, text_payload(""))
    }

    /// Tells the peer that this side is done.
    pub fn end(data: Payload) -> Self {
        Self::new_request(Topic::END, data)
    }

    /// Tells the peer that this side gives up.
    pub fn abort(data: Payload) -> Self {
        Self::new_request(Topic::ABORT, data)
    }

    /// Gives the message an id of the application's choice.
    #[must_use]
    pub fn with_id(mut self, msg_id: impl Into<String>) -> Self {
        self.msg_id = msg_id.into();
        self
    }

    /// Reads a message that came through a cell.
    ///
    /// # Errors
    ///
    /// If a header is missing or makes no sense.
    pub(crate) fn from_wire(topic: &str, message: Message) -> Result<Self, BadMessage> {
        let Message { headers, payload } = message;
        // Owned, so that what is remembered of a message does not hold the frame it came in.
        let text = |key| headers.text(key).map(|text| text.to_string());
        let msg_type = text(MSG_TYPE).ok_or(BadMessage::Missing(MSG_TYPE))?;
        let found = Self {
            msg_type: MessageType::parse(&msg_type).ok_or(BadMessage::Type(msg_type))?,
            topic: topic.parse()?,
            msg_id: text(MSG_ID).ok_or(BadMessage::Missing(MSG_ID))?,
            req_id: text(REQ_ID),
            start: headers.number(START).unwrap_or_default(),
            data: payload,
            headers,
        };
        let longest = found.msg_id.len().max(found.req_id.as_ref().map_or(0, String::len));
        match found.topic {
            _ if longest > MAX_ID => Err(BadMessage::LongId(longest)),
            ref topic if *topic == Topic::PEER_GONE => Err(BadMessage::Local),
            _ => Ok(found),
        }
    }

    /// The message as a cell sends it.
    pub(crate) fn to_wire(&self) -> Message {
        let own =
            |key: &str| key.starts_with("cell_pipe.") || key.starts_with("cn__") || key.starts_with("sm__");
        let mut headers = Headers::new();
        headers.set(MSG_TYPE, self.msg_type.as_str());
        headers.set(MSG_ID, self.msg_id.clone());
        headers.set(START, self.start);
        if let Some(req_id) = &self.req_id {
            headers.set(REQ_ID, req_id.clone());
        }
        for (key, value) in self.headers.iter() {
            if let Some(key) = key.as_text().filter(|key| !own(key)) {
                headers.set(key.clone(), value.clone());
            }
        }
        Message { headers, payload: self.data.clone() }
    }

    /// What the message occupies in a queue, in bytes.
    pub(crate) fn cost(&self) -> usize {
        self.data.len() + self.headers.memory() + self.msg_id.len() + COST
    }
}

impl MessageType {
    /// The type as it travels: `REQ` or `REP`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "REQ",
            Self::Reply => "REP",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Request, Self::Reply].into_iter().find(|known| known.as_str() == text)
    }
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why what arrived is no message of a pipe. Its sender is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadMessage {
    #[error("header '{0}' is missing or no text")]
    Missing(&'static str),
    #[error("'{0}' is no type of a pipe message; it is REQ or REP")]
    Type(String),
    #[error(transparent)]
    Topic(#[from] crate::TopicError),
    #[error("an id of {0} bytes is longer than {MAX_ID}")]
    LongId(usize),
    #[error("'_PEER_GONE_' is never sent")]
    Local,
}

/// A text as payload of a message, in the encoding that the reference expects for anything but bytes.
pub fn text_payload(text: &str) -> Payload {
    Payload::Fobs(fobs::encode(&fobs::Document::new(fobs::Object::Str(text.into()))))
}

fn unix_time() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Ids are UUIDs or names of tasks; longer ones would make the memory of what was delivered large.
const MAX_ID: usize = 256;
/// What a message occupies besides its content, about.
const COST: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_the_wire() {
        let mut sent = PipeMessage::new_request("train".parse().unwrap(), "abc").with_id("task-1");
        sent.headers.set("colour", "red");
        let reply = PipeMessage::new_reply(&sent, Payload::None);
        for message in [sent, reply] {
            let found = PipeMessage::from_wire(message.topic.as_str(), message.to_wire()).unwrap();
            assert_eq!(found.headers.text("colour"), message.headers.text("colour"));
            let (mut found, mut message) = (found, message);
            (found.headers, message.headers) = Default::default();
            assert_eq!(found, message);
        }
    }

    #[test]
    fn headers_of_the_protocol_are_not_the_applications() {
        let mut message = PipeMessage::new_request("train".parse().unwrap(), "abc");
        message.headers.set("cn__origin", "somebody");
        message.headers.set("cell_pipe.msg_id", "other");
        let wire = message.to_wire();
        assert_eq!(wire.headers.get("cn__origin"), None);
        assert_eq!(wire.headers.text(MSG_ID), Some(message.msg_id.as_str()));
    }

    #[test]
    fn what_is_no_pipe_message_is_named() {
        let good = PipeMessage::new_request("train".parse().unwrap(), "abc");
        let without = |key| {
            let mut wire = good.to_wire();
            wire.headers.remove(key);
            PipeMessage::from_wire("train", wire)
        };
        assert_eq!(without(MSG_TYPE), Err(BadMessage::Missing(MSG_TYPE)));
        assert_eq!(without(MSG_ID), Err(BadMessage::Missing(MSG_ID)));
        let odd = good.to_wire().with_header(MSG_TYPE, "ASK");
        assert_eq!(PipeMessage::from_wire("train", odd), Err(BadMessage::Type("ASK".into())));
        let long = good.to_wire().with_header(MSG_ID, "x".repeat(257));
        assert_eq!(PipeMessage::from_wire("train", long), Err(BadMessage::LongId(257)));
        assert_eq!(PipeMessage::from_wire("_PEER_GONE_", good.to_wire()), Err(BadMessage::Local));
        assert!(matches!(PipeMessage::from_wire("a b", good.to_wire()), Err(BadMessage::Topic(_))));
    }

    #[test]
    fn a_heartbeat_has_the_content_of_the_reference() {
        assert_eq!(PipeMessage::heartbeat().data.as_bytes(), b"\x64\0\0\0\0\0\0\0\0\x01\xa0");
    }
}
