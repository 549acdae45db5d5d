//! What a stream may use, and what it says in headers.

use std::time::Duration;

use bytestring::ByteString;

use crate::wire::{Headers, Value, keys::sm};

const MIB: u64 = 1024 * 1024;

/// How much memory and patience a stream has. Sizes are in bytes.
///
/// Any value is safe: the state machines round what makes no sense to the nearest that does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamConfig {
    /// Bytes of a full chunk; 1 MiB as in the reference (`streaming_chunk_size`). At least 1.
    pub chunk_size: usize,
    /// Another chunk goes out while at most this much is not acknowledged, so one chunk more may be on its way;
    /// 16 MiB as in the reference (`streaming_window_size`). A receiver that acknowledges more seldom than this stalls
    /// the stream, so below 8 MiB it has to know: see [`towards_stranger`](Self::towards_stranger).
    pub send_window: u64,
    /// Bytes that a receiver holds for an application that does not read, chunks in order and out of order together.
    /// One chunk more is tolerated, as senders keep their window that way. 16 MiB; the reference has no such bound,
    /// so a peer with a larger `streaming_window_size` needs a larger value here.
    pub recv_window: u64,
    /// Largest chunk that a receiver takes; 16 MiB. The reference takes any and sends 1 MiB.
    pub max_chunk: usize,
    /// The receiver acknowledges when the application has used this much since the last ACK; 4 MiB as in the
    /// reference (`streaming_ack_interval`), which however waits for more than that. Never above a quarter of
    /// [`recv_window`](Self::recv_window). What was used is acknowledged after a second even if it is less.
    pub ack_interval: u64,
    /// A sender that waits for an ACK gives up when none has moved forward for so long; 60 s
    /// (`streaming_ack_progress_timeout`). The clock starts with the wait; the reference starts it with the stream.
    pub ack_patience: Duration,
    /// A receiver that has nothing left to hand out gives up when no new chunk came for so long; 300 s
    /// (`streaming_read_timeout`), as the source of a byte stream may pause for good reasons.
    pub idle_patience: Duration,
    /// Largest blob that is collected in memory; 2 GiB. Byte streams have no such limit.
    pub max_blob: u64,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            chunk_size: MIB as usize,
            send_window: 16 * MIB,
            recv_window: 16 * MIB,
            max_chunk: 16 * MIB as usize,
            ack_interval: 4 * MIB,
            ack_patience: Duration::from_secs(60),
            idle_patience: Duration::from_secs(300),
            max_blob: 2048 * MIB,
        }
    }
}

/// Smallest send window towards a cell of the reference: it acknowledges only after more than 4 MiB was used, and only
/// at the end of a chunk.
pub const MIN_STRANGER_WINDOW: u64 = 8 * MIB;

/// Smallest window that a peer can ask for; a smaller one would cost an ACK per packet.
const MIN_AGREED_WINDOW: u64 = 64 * 1024;

/// Bytes of a frame that are not chunk: the prefix and the largest header block.
const FRAME_OVERHEAD: usize = crate::wire::PREFIX_LEN + crate::wire::MAX_HEADERS;

impl StreamConfig {
    /// The same towards a cell of the reference: the send window is at least [`MIN_STRANGER_WINDOW`].
    pub fn towards_stranger(mut self) -> Self {
        self.send_window = self.send_window.max(MIN_STRANGER_WINDOW);
        self
    }

    /// The same with a send window that the receiver asked for: between 64 KiB and our own.
    pub fn with_asked_window(mut self, asked: u64) -> Self {
        self.send_window = asked.clamp(MIN_AGREED_WINDOW.min(self.send_window), self.send_window);
        self
    }

    /// The same with chunks that fit into frames of `max_frame` bytes, whatever their headers.
    pub fn with_max_frame(mut self, max_frame: usize) -> Self {
        self.chunk_size = self.chunk_size.min(max_frame.saturating_sub(FRAME_OVERHEAD)).max(1);
        self
    }

    /// Bytes to reserve for a stream that announces `size` bytes, 0 if unknown, before its first chunk is taken.
    pub fn admission(&self, size: u64) -> u64 {
        match size {
            0 => self.recv_window,
            size => size.min(self.recv_window),
        }
    }

    /// Used bytes that make an ACK due: [`ack_interval`](Self::ack_interval), at most a quarter of the receive window.
    pub(super) fn ack_due(&self) -> u64 {
        self.ack_interval.min(self.recv_window / 4).max(1)
    }
}

/// What a stream message is. Source: `fuel/f3/streaming/stream_const.py`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChunkKind {
    /// Data, and more to come.
    Chunk,
    /// The last data; may be empty.
    Final,
    /// So many bytes are used.
    Ack,
    /// Reserved; the reference never sends it.
    Resume,
    /// Reserved; the reference never sends it.
    ResumeAck,
    /// The stream has failed.
    Error,
}

impl ChunkKind {
    /// The number on the wire.
    pub fn code(self) -> u8 {
        match self {
            Self::Chunk => 1,
            Self::Final => 2,
            Self::Ack => 3,
            Self::Resume => 4,
            Self::ResumeAck => 5,
            Self::Error => 6,
        }
    }

    /// Whether it carries data.
    pub fn is_data(self) -> bool {
        matches!(self, Self::Chunk | Self::Final)
    }

    fn from_code(code: u64) -> Option<Self> {
        let all = [Self::Chunk, Self::Final, Self::Ack, Self::Resume, Self::ResumeAck, Self::Error];
        all.into_iter().find(|kind| u64::from(kind.code()) == code)
    }
}

/// The `sm__` headers of one message of a stream.
///
/// Only those of chunk 0 say where a stream goes and how long it is; later chunks may leave them out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkHeader {
    /// The stream; unique per origin.
    pub id: u64,
    /// What the message is.
    pub kind: ChunkKind,
    /// Number of the chunk, from 0. 0 if the message is no data.
    pub sequence: u64,
    /// Bytes used (ACK) or sent (ERROR by the sender). Bytes before a chunk, but a receiver never relies on that.
    pub offset: u64,
    /// Bytes of the whole stream; 0 if unknown.
    pub size: u64,
    /// Channel of the application.
    pub channel: Option<ByteString>,
    /// Topic of the application.
    pub topic: Option<ByteString>,
    /// Matches the reply to the request; none if no reply is wanted.
    pub req_id: Option<ByteString>,
    /// Encoding of the whole blob: `none`, `bytes` or `fobs`; none for a byte stream.
    pub encoding: Option<ByteString>,
    /// Failure is no news.
    pub optional: bool,
    /// What went wrong.
    pub error: Option<ByteString>,
}

/// Why a message belongs to no stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// A header that every such message has.
    #[error("header {0} is missing")]
    Missing(&'static str),
    /// A number that is negative or none at all.
    #[error("header {0} is no whole number from 0: {1}")]
    Number(&'static str, String),
    /// A kind that nobody knows.
    #[error("header sm__dt is {0}, which is no kind of stream message")]
    Kind(u64),
}

impl ChunkHeader {
    /// A message with data; the fields for the first chunk are empty.
    pub fn data(id: u64, sequence: u64, offset: u64, last: bool) -> Self {
        let kind = if last { ChunkKind::Final } else { ChunkKind::Chunk };
        Self { sequence, offset, ..Self::bare(id, kind) }
    }

    /// `offset` bytes are used.
    pub fn ack(id: u64, offset: u64) -> Self {
        Self { offset, ..Self::bare(id, ChunkKind::Ack) }
    }

    /// The stream has failed, in either direction. `offset` is what was sent or used.
    pub fn failure(id: u64, offset: u64, text: impl Into<ByteString>) -> Self {
        Self { offset, error: Some(text.into()), ..Self::bare(id, ChunkKind::Error) }
    }

    fn bare(id: u64, kind: ChunkKind) -> Self {
        Self {
            id,
            kind,
            sequence: 0,
            offset: 0,
            size: 0,
            channel: None,
            topic: None,
            req_id: None,
            encoding: None,
            optional: false,
            error: None,
        }
    }

    /// Reads the headers of a message.
    ///
    /// As tolerant as the reference: `sm__os` of data may be anything, a missing `sm__sz` is 0, texts of another type
    /// are left out, and an ACK with `sm__em` is an ERROR. Stricter where the reference only fails late or by chance: an
    /// id that is missing or no number (its own always are numbers) and a missing kind are refused at once.
    pub fn parse(headers: &Headers) -> Result<Self, HeaderError> {
        let required = |key| number(headers, key)?.ok_or(HeaderError::Missing(key));
        let id = required(sm::ID)?;
        let code = required(sm::DATA_TYPE)?;
        let mut kind = ChunkKind::from_code(code).ok_or(HeaderError::Kind(code))?;
        let error = headers.shared_text(sm::ERROR);
        if kind == ChunkKind::Ack && error.is_some() {
            kind = ChunkKind::Error;
        }
        let sequence = match kind.is_data() {
            true => required(sm::SEQUENCE)?,
            false => 0,
        };
        let size = match kind.is_data() {
            true => number(headers, sm::SIZE)?.unwrap_or(0),
            false => 0,
        };
        let offset = match kind {
            ChunkKind::Ack => required(sm::OFFSET)?,
            _ => headers.uint(sm::OFFSET).unwrap_or(0),
        };
        Ok(Self {
            id,
            kind,
            sequence,
            offset,
            size,
            channel: headers.shared_text(sm::CHANNEL),
            topic: headers.shared_text(sm::TOPIC),
            req_id: headers.shared_text(sm::REQ_ID),
            encoding: headers.shared_text(sm::PAYLOAD_ENCODING),
            optional: headers.flag(sm::OPTIONAL),
            error,
        })
    }

    /// Sets the headers, those that the reference sends with this kind of message.
    pub fn write(&self, headers: &mut Headers) {
        let texts = [(sm::PAYLOAD_ENCODING, &self.encoding), (sm::REQ_ID, &self.req_id)];
        set_texts(headers, texts);
        if self.kind.is_data() {
            set_texts(headers, [(sm::CHANNEL, &self.channel), (sm::TOPIC, &self.topic)]);
            headers.set(ByteString::from_static(sm::SIZE), whole(self.size));
        }
        headers.set(ByteString::from_static(sm::ID), whole(self.id));
        headers.set(ByteString::from_static(sm::DATA_TYPE), whole(self.kind.code().into()));
        if self.kind.is_data() {
            headers.set(ByteString::from_static(sm::SEQUENCE), whole(self.sequence));
        }
        headers.set(ByteString::from_static(sm::OFFSET), whole(self.offset));
        if self.kind.is_data() {
            headers.set(ByteString::from_static(sm::OPTIONAL), Value::Bool(self.optional));
        }
        set_texts(headers, [(sm::ERROR, &self.error)]);
    }
}

/// The stream that a message names, even if the rest of its headers is nonsense: for whom to tell.
pub fn stream_id(headers: &Headers) -> Option<u64> {
    headers.get(sm::ID)?.as_u64()
}

/// The number under a key, none if there is nothing.
fn number(headers: &Headers, key: &'static str) -> Result<Option<u64>, HeaderError> {
    if let Some(number) = headers.uint(key) {
        return Ok(Some(number));
    }
    match headers.get(key) {
        None | Some(Value::Nil) => Ok(None),
        Some(other) => Err(HeaderError::Number(key, shown(&other))),
    }
}

/// A wrong value for an error text; a peer decides how long it is, so no more than its type unless it is a number.
fn shown(value: &Value) -> String {
    match value {
        Value::Int(value) => value.to_string(),
        Value::F64(value) => value.to_string(),
        Value::F32(value) => value.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Str(_) => "text".into(),
        Value::Bin(_) => "bytes".into(),
        _ => "another type".into(),
    }
}

fn whole(number: u64) -> Value {
    i64::try_from(number).map_or(Value::Uint(number), Value::Int)
}

fn set_texts<const N: usize>(headers: &mut Headers, texts: [(&'static str, &Option<ByteString>); N]) {
    for (key, text) in texts {
        if let Some(text) = text {
            headers.set(ByteString::from_static(key), Value::Str(text.clone()));
        }
    }
}

/// An error text of a peer, no longer than is good for a log.
pub(super) fn clipped(text: &str) -> ByteString {
    const MAX: usize = 1024;
    ByteString::from(&text[..text.floor_char_boundary(MAX)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first() -> ChunkHeader {
        ChunkHeader {
            size: 4_997_120,
            channel: Some("echo".into()),
            topic: Some("describe".into()),
            req_id: Some("928dafc8".into()),
            encoding: Some("bytes".into()),
            ..ChunkHeader::data(1_795_415_551_269_360, 1, 1_048_576, false)
        }
    }

    fn written(header: &ChunkHeader) -> Headers {
        let mut headers = Headers::new();
        header.write(&mut headers);
        headers
    }

    fn keys(headers: &Headers) -> Vec<&str> {
        headers.keys().collect()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let huge = ChunkHeader::data(u64::MAX, u64::MAX, u64::MAX, true);
        for header in [first(), huge, ChunkHeader::ack(7, 5), ChunkHeader::failure(7, 5, "boom")] {
            assert_eq!(ChunkHeader::parse(&written(&header)), Ok(header));
        }
    }

    #[test]
    fn messages_have_the_headers_that_the_reference_sends() {
        let data = [
            "sm__pe", "sm__ri", "sm__ch", "sm__tp", "sm__sz", "sm__id", "sm__dt", "sm__sq", "sm__os",
            "sm__op",
        ];
        assert_eq!(keys(&written(&first())), data);
        assert_eq!(keys(&written(&ChunkHeader::ack(1, 2))), ["sm__id", "sm__dt", "sm__os"]);
        assert_eq!(
            keys(&written(&ChunkHeader::failure(1, 2, "boom"))),
            ["sm__id", "sm__dt", "sm__os", "sm__em"]
        );
    }

    #[test]
    fn a_wrong_header_is_named() {
        let cases: [(&str, Option<Value>, &str); 8] = [
            (sm::ID, None, "header sm__id is missing"),
            (sm::ID, Some(Value::text("abc")), "header sm__id is no whole number from 0: text"),
            (sm::DATA_TYPE, None, "header sm__dt is missing"),
            (sm::DATA_TYPE, Some(Value::Int(7)), "header sm__dt is 7, which is no kind of stream message"),
            (sm::SEQUENCE, None, "header sm__sq is missing"),
            (sm::SEQUENCE, Some(Value::Int(-1)), "header sm__sq is no whole number from 0: -1"),
            (sm::SIZE, Some(Value::Int(-5)), "header sm__sz is no whole number from 0: -5"),
            (sm::SIZE, Some(Value::F64(0.5)), "header sm__sz is no whole number from 0: 0.5"),
        ];
        for (key, value, text) in cases {
            let mut headers = written(&first());
            match value {
                Some(value) => headers.set(key, value),
                None => drop(headers.remove(key)),
            }
            assert_eq!(ChunkHeader::parse(&headers).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn an_offset_matters_in_an_ack_only() {
        let mut data = written(&first());
        data.set(sm::OFFSET, Value::text("x"));
        assert_eq!(ChunkHeader::parse(&data).unwrap().offset, 0);
        let mut ack = written(&ChunkHeader::ack(1, 2));
        ack.set(sm::OFFSET, Value::Int(-2));
        assert!(ChunkHeader::parse(&ack).is_err());
        ack.remove(sm::OFFSET);
        assert_eq!(ChunkHeader::parse(&ack), Err(HeaderError::Missing(sm::OFFSET)));
    }

    #[test]
    fn an_ack_with_an_error_is_an_error() {
        let mut headers = written(&ChunkHeader::ack(1, 2));
        headers.set(sm::ERROR, Value::text("boom"));
        assert_eq!(ChunkHeader::parse(&headers), Ok(ChunkHeader::failure(1, 2, "boom")));
    }

    #[test]
    fn what_a_peer_asks_for_is_clamped() {
        let config = StreamConfig { send_window: 1, ..StreamConfig::default() };
        assert_eq!(config.towards_stranger().send_window, MIN_STRANGER_WINDOW);
        assert_eq!(config.with_asked_window(u64::MAX).send_window, 1);
        let config = StreamConfig::default();
        assert_eq!(config.with_asked_window(0).send_window, MIN_AGREED_WINDOW);
        assert_eq!(config.with_asked_window(u64::MAX).send_window, config.send_window);
        assert_eq!((config.admission(0), config.admission(5)), (config.recv_window, 5));
        assert_eq!(config.admission(1 << 40), config.recv_window);
        assert_eq!(config.with_max_frame(0).chunk_size, 1);
        assert_eq!(config.with_max_frame(4 << 20).chunk_size, 1 << 20);
    }

    #[test]
    fn a_peers_error_text_is_cut_between_characters() {
        let text = "ä".repeat(1000);
        assert_eq!(clipped(&text).len(), 1024);
        assert_eq!(clipped(&format!("x{text}")).len(), 1023);
    }
}
