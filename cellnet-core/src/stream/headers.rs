//! The headers of stream messages: data with the application's, and what ends say to one another.

use std::sync::Arc;

use bytestring::ByteString;
use smallvec::SmallVec;

use super::{ChunkHeader, SendChunk};
use crate::{
    cell::{Inner, Passing, Stage, name},
    fqcn::Fqcn,
    link::{Fresh, Letter, Link, freshen},
    message::{Message, MessageKind, Payload, unix_time},
    wire::{
        Headers, Value,
        keys::{cn, sm},
    },
};

/// What all chunks of one stream say.
#[derive(Debug)]
pub(super) struct Envelope<'a> {
    pub(super) id: u64,
    pub(super) target: &'a Fqcn,
    pub(super) channel: ByteString,
    pub(super) topic: ByteString,
    pub(super) request_id: Option<ByteString>,
    /// None for a byte stream.
    pub(super) encoding: Option<&'static str>,
    /// 0 if unknown.
    pub(super) size: u64,
    pub(super) optional: bool,
}

impl Envelope<'_> {
    /// The headers of the first chunk, complete if it is the only one. The application's go on every chunk, as in the
    /// reference, and do not replace ours. `link` is the one that it is going to take, if that is known.
    pub(super) fn seal(self, inner: &Inner, link: Option<&Link>, mut own: Headers) -> Headers {
        // Headers of a message that came from elsewhere must not pass for this stream's.
        for stale in [sm::REQ_ID, sm::ERROR, sm::PAYLOAD_ENCODING] {
            own.remove(stale);
        }
        let (optional, secure) = (own.flag(cn::OPTIONAL), own.flag(cn::SECURE));
        let letter = Letter {
            kind: if self.optional { "optional data" } else { "data" },
            target: self.target.as_str(),
            channel: &self.channel,
            topic: &self.topic,
            encoding: self.encoding.unwrap_or_default(),
            code: "",
            expects: Some(self.request_id.is_some()),
            secure,
            optional,
        };
        let write = || {
            let mut headers = Headers::new();
            let header = ChunkHeader {
                size: self.size,
                channel: Some(self.channel.clone()),
                topic: Some(self.topic.clone()),
                encoding: self.encoding.map(ByteString::from_static),
                optional: self.optional,
                req_id: self.request_id.clone(),
                ..ChunkHeader::data(self.id, 0, 0, true)
            };
            header.write(&mut headers);
            headers.set(cn::OPTIONAL, optional);
            headers.set(cn::SECURE, secure);
            carry(&mut headers, sm::DATA_TOPIC, "bytes");
            let mut headers = inner.headers(MessageKind::Request, self.target, headers);
            if let Some(link) = link {
                // So that they have their places: the values are those of when it is sent.
                inner.hop(link, 0, 0.0).address(&mut headers);
            }
            headers
        };
        let mut values = SmallVec::<[_; 4]>::from_slice(&[
            (sm::ID, Fresh::Uint(self.id)),
            (sm::SIZE, Fresh::Uint(self.size)),
            (cn::ROUTE, Fresh::Route(inner.me(), unix_time())),
        ]);
        values.extend(self.request_id.as_deref().map(|id| (sm::REQ_ID, Fresh::Text(id))));
        match link {
            Some(link) => link.drafts.headers(&letter, &values, &own, write),
            None => {
                let mut headers = write();
                freshen(&mut headers, &values);
                headers.extend_absent(&own);
                headers
            }
        }
    }
}

/// Turns the headers of one chunk into those of another of the same stream.
pub(super) fn place(headers: &mut Headers, chunk: &SendChunk) {
    let header = ChunkHeader::data(0, chunk.sequence, chunk.offset, chunk.last);
    headers.set(sm::DATA_TYPE, i64::from(header.kind.code()));
    headers.set(sm::SEQUENCE, chunk.sequence);
    headers.set(sm::OFFSET, chunk.offset);
}

/// The headers of an answer blob to a request that is refused on its way.
pub(crate) fn refusal(
    inner: &Arc<Inner>,
    origin: &Fqcn,
    request: &Headers,
    chunk: &ChunkHeader,
    id: ByteString,
    failure: Message,
) -> Headers {
    let text = |text: &Option<ByteString>| text.clone().unwrap_or_default();
    let (channel, topic) = (text(&chunk.channel), text(&chunk.topic));
    let mut own = failure.headers;
    own.set(cn::REQ_ID, request.shared_text(cn::REQ_ID).unwrap_or_default());
    for kept in [cn::SECURE, cn::OPTIONAL] {
        own.set(kept, request.flag(kept));
    }
    if let Some(features) = request.get(cn::CELLNET) {
        own.set(cn::CELLNET, features.clone());
    }
    let envelope = Envelope {
        id: inner.streams.next_id(),
        target: origin,
        channel: name(sm::RETURN_ONLY),
        topic: format!("{channel}:{topic}").into(),
        request_id: Some(id),
        encoding: Some(Payload::None.encoding()),
        size: 0,
        optional: chunk.optional,
    };
    envelope.seal(inner, None, own)
}

/// The headers of an ERROR about a stream, by `topic` towards its sender or its receiver.
pub(crate) fn error_headers(
    inner: &Arc<Inner>,
    target: &Fqcn,
    topic: &'static str,
    chunk: &ChunkHeader,
    text: &str,
) -> Headers {
    let mut headers = Headers::new();
    ChunkHeader::failure(chunk.id, 0, super::params::clipped(text)).write(&mut headers);
    carry(&mut headers, topic, "none");
    inner.headers(MessageKind::Request, target, headers)
}

/// The headers of an ACK or ERROR that this end of a stream sends. None if a filter refuses it.
pub(super) fn control(
    inner: &Inner,
    target: &Fqcn,
    topic: &'static str,
    header: &ChunkHeader,
    own: Headers,
) -> Option<Headers> {
    let mut headers = own;
    header.write(&mut headers);
    carry(&mut headers, topic, "none");
    let mut passing = Passing { headers: &mut headers, kind: Some(MessageKind::Request), from: None };
    let passed = inner.filters.pass(Stage::OutgoingRequest, sm::STREAM_CHANNEL, topic, &mut passing);
    if let Err(instead) = passed {
        tracing::debug!(%target, reason = instead.error(), "stream control message refused by a filter");
        return None;
    }
    Some(inner.headers(MessageKind::Request, target, headers))
}

/// Sends an ACK or ERROR now by the link of its stream, or by name if that is gone. False if there is no room now.
pub(super) fn tell(
    inner: &Inner,
    via: &Arc<Link>,
    target: &Fqcn,
    topic: &'static str,
    header: &ChunkHeader,
    own: Headers,
) -> bool {
    let Some(headers) = control(inner, target, topic, header, own) else { return true };
    let link = if via.end.is_cancelled() { inner.next_hop(target) } else { Some(via.clone()) };
    let Some(link) = link else { return true };
    match inner.send_now(&link, headers, bytes::Bytes::new()) {
        Ok(()) => true,
        Err(error) => {
            tracing::debug!(%target, %error, kind = ?header.kind, "stream control message not sent");
            false
        }
    }
}

/// What every stream message says.
fn carry(headers: &mut Headers, topic: &'static str, encoding: &'static str) {
    headers.set(cn::REPLY_EXPECTED, false);
    for flag in [cn::OPTIONAL, cn::SECURE] {
        if headers.get(flag).is_none() {
            headers.set(flag, false);
        }
    }
    headers.set(cn::TOPIC, Value::text(topic));
    headers.set(cn::CHANNEL, Value::text(sm::STREAM_CHANNEL));
    headers.set(cn::PAYLOAD_ENCODING, Value::text(encoding));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::Cell;

    /// The names of the headers that the reference was seen to send, and no others.
    fn assert_keys(headers: &Headers, expected: &[&str]) {
        let mut keys: Vec<_> = headers.keys().collect();
        // What the hop adds.
        keys.extend(["cn__from", "cn__payload_len", "cn__send_time", "cn__to"]);
        keys.sort_unstable();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(keys, expected);
    }

    const CARRIER: [&str; 14] = [
        "cn__channel",
        "cn__destination",
        "cn__from",
        "cn__msg_type",
        "cn__optional",
        "cn__origin",
        "cn__payload_encoding",
        "cn__payload_len",
        "cn__reply_expected",
        "cn__route",
        "cn__secure",
        "cn__send_time",
        "cn__to",
        "cn__topic",
    ];
    const DATA: [&str; 9] =
        ["sm__ch", "sm__dt", "sm__id", "sm__op", "sm__os", "sm__pe", "sm__sq", "sm__sz", "sm__tp"];

    fn envelope(target: &Fqcn) -> Envelope<'_> {
        Envelope {
            id: 7,
            target,
            channel: "echo".into(),
            topic: "x".into(),
            request_id: Some("e610a708".into()),
            encoding: Some("bytes"),
            size: 10,
            optional: false,
        }
    }

    #[tokio::test]
    async fn messages_carry_the_headers_of_the_reference() {
        let cell = Cell::builder("site-1".parse().unwrap()).start().await.unwrap();
        let inner = cell.inner();
        let server = Fqcn::server();
        let request = envelope(&server).seal(inner, None, Headers::new());
        assert_keys(&request, &[&CARRIER[..], &DATA[..], &["sm__ri"]].concat());
        assert_eq!(request.text(cn::PAYLOAD_ENCODING), Some("bytes"));
        let chunk = ChunkHeader::parse(&request).unwrap();
        let reply = refusal(
            inner,
            &server,
            &request,
            &chunk,
            "e610a708".into(),
            Message::failure("no".into(), "why"),
        );
        let codes = ["cn__req_id", "cn__return_code", "cn__error", "sm__ri"];
        assert_keys(&reply, &[&CARRIER[..], &DATA[..], &codes].concat());
        let error = error_headers(inner, &server, sm::ACK_TOPIC, &chunk, "boom");
        assert_keys(&error, &[&CARRIER[..], &["sm__dt", "sm__em", "sm__id", "sm__os"]].concat());
        let ack = control(inner, &server, sm::ACK_TOPIC, &ChunkHeader::ack(7, 3), Headers::new()).unwrap();
        assert_keys(&ack, &[&CARRIER[..], &["sm__dt", "sm__id", "sm__os"]].concat());
        assert_eq!(ack.text(cn::PAYLOAD_ENCODING), Some("none"));
    }

    #[tokio::test]
    async fn a_message_that_is_passed_on_takes_nothing_along_from_its_stream() {
        let cell = Cell::builder("site-1".parse().unwrap()).start().await.unwrap();
        let server = Fqcn::server();
        let old = envelope(&server).seal(cell.inner(), None, Headers::new());
        let told = Envelope { request_id: None, encoding: None, ..envelope(&server) };
        let told = told.seal(cell.inner(), None, old);
        let chunk = ChunkHeader::parse(&told).unwrap();
        assert_eq!((chunk.req_id, chunk.encoding), (None, None));
    }
}
