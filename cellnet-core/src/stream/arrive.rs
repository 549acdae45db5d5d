//! What becomes of blobs and streams that arrive: who they are for, and what their sender is told if nobody is.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use tokio::sync::Notify;
use uuid::Uuid;

use super::{ChunkHeader, ChunkKind, SendError, StreamError, headers, incoming::Incoming, params::clipped};
use crate::{
    cell::{About, Handler, Inner, MESSAGE_COST, Passing, ReplyTo, RequestError, Stage, StreamHandler},
    fqcn::Fqcn,
    link::Link,
    message::{Message, MessageKind, Payload, ReturnCode},
    wire::{
        Headers,
        keys::{channel_streams, sm},
    },
};

/// Takes a chunk. Gives it back if it tells a handler something, all of them are busy and nobody waits for an answer.
pub(super) fn deliver(
    inner: &Arc<Inner>,
    link: &Arc<Link>,
    room: &Arc<Notify>,
    origin: Fqcn,
    chunk: ChunkHeader,
    headers: Headers,
    body: Bytes,
) -> Result<(), (Headers, Bytes)> {
    let key = (origin.as_text().clone(), chunk.id);
    if let Some(incoming) = inner.streams.find_incoming(&key) {
        incoming.take(inner, link, chunk, headers, body);
        return Ok(());
    }
    let whole = chunk.sequence == 0 && chunk.kind == ChunkKind::Final;
    if !whole && inner.discarded.holds(&key.0, key.1) {
        inner.links.counters.dropped.add(1);
        return Ok(());
    }
    let arrival = Arrival { inner, link, origin, chunk, headers };
    if arrival.chunk.sequence > 0 {
        // Whose it is says chunk 0 for certain.
        arrival.begin(None, body);
        return Ok(());
    }
    match arrival.purpose() {
        Err(refusal) => arrival.turn_away(refusal),
        Ok(Purpose::Stream(_)) if !inner.intake.has_room(link.id, MESSAGE_COST, room) => {
            return Err((arrival.headers, body));
        }
        Ok(Purpose::Stream(handler)) => arrival.begin(Some(Purpose::Stream(handler)), body),
        Ok(purpose) if !whole => arrival.begin(Some(purpose), body),
        Ok(purpose) => return arrival.take_whole(&purpose, room, body),
    }
    Ok(())
}

/// What a stream is good for.
pub(super) enum Purpose {
    /// Completes this request.
    Reply(Uuid),
    /// Becomes a message for a handler.
    Message,
    /// Is read while it arrives.
    Stream(StreamHandler),
}

/// Why a stream is not taken.
pub(super) struct Refusal {
    code: ReturnCode,
    text: ByteString,
}

impl Refusal {
    pub(super) fn new(code: ReturnCode, text: impl AsRef<str>) -> Self {
        Self { code, text: clipped(text.as_ref()) }
    }
}

/// A chunk 0 with all that is known about it.
pub(super) struct Arrival<'a> {
    pub(super) inner: &'a Arc<Inner>,
    pub(super) link: &'a Arc<Link>,
    pub(super) origin: Fqcn,
    pub(super) chunk: ChunkHeader,
    pub(super) headers: Headers,
}

impl Arrival<'_> {
    /// Finds out who the stream is for.
    pub(super) fn purpose(&self) -> Result<Purpose, Refusal> {
        let text = |text: &Option<ByteString>| text.clone().unwrap_or_default();
        let (channel, topic) = (text(&self.chunk.channel), text(&self.chunk.topic));
        if *channel == *sm::RETURN_ONLY {
            let request = self.chunk.req_id.as_deref().and_then(|id| Uuid::try_parse(id).ok());
            let request = request.filter(|request| self.inner.pending.is_waiting(*request, None));
            return request.map(Purpose::Reply).ok_or_else(|| {
                self.inner.links.counters.late_replies.add(1);
                Refusal::new(ReturnCode::INVALID_REQUEST, "nobody waits for this reply")
            });
        }
        let handler = if channel_streams(&channel) { self.inner.handler(&channel, &topic) } else { None };
        match handler {
            Some(Handler::Message(_)) => Ok(Purpose::Message),
            Some(Handler::Stream(handler)) => Ok(Purpose::Stream(handler)),
            None => {
                let text = format!("no handler for '{channel}' '{topic}'");
                Err(Refusal::new(ReturnCode::PROCESS_EXCEPTION, text))
            }
        }
    }

    fn begin(self, purpose: Option<Purpose>, body: Bytes) {
        let Self { inner, link, origin, chunk, headers } = self;
        match Incoming::begin(inner, link, origin.clone(), &chunk, purpose) {
            Ok(incoming) => incoming.take(inner, link, chunk, headers, body),
            Err(error) => {
                let refusal = Refusal::new(ReturnCode::SERVICE_UNAVAILABLE, error.told());
                Arrival { inner, link, origin, chunk, headers }.turn_away(refusal);
            }
        }
    }

    /// A blob in one chunk: no state, no task.
    fn take_whole(self, purpose: &Purpose, room: &Arc<Notify>, body: Bytes) -> Result<(), (Headers, Bytes)> {
        let (claimed, found) = (self.chunk.size, body.len() as u64);
        if claimed > 0 && claimed != found {
            let text = format!("stream has {found} bytes and announced {claimed}");
            if let Purpose::Reply(request) = purpose {
                let error = SendError::Peer(text.as_str().into());
                self.inner.pending.complete(*request, None, Err(StreamError::Send(error).into_request()));
            }
            self.turn_away(Refusal::new(ReturnCode::COMM_ERROR, text));
            return Ok(());
        }
        match purpose {
            Purpose::Reply(request) => self.complete(*request, body),
            _ => {
                let cost = body.len() + self.headers.memory();
                if !self.inner.intake.has_room(self.link.id, cost, room) {
                    if self.chunk.req_id.is_none() {
                        return Err((self.headers, body));
                    }
                    self.overloaded();
                } else {
                    self.dispatch(body, cost);
                }
            }
        }
        Ok(())
    }

    /// Gives a whole reply to whoever waits for it.
    pub(super) fn complete(mut self, request: Uuid, body: Bytes) {
        let asked = self.chunk.topic.as_deref().unwrap_or_default();
        let (channel, topic) = asked.split_once(':').unwrap_or((asked, ""));
        let kind = Some(MessageKind::Reply);
        let mut passing = Passing { headers: &mut self.headers, kind, from: Some(&self.link.peer) };
        let refused = self.inner.filters.pass(Stage::IncomingReply, channel, topic, &mut passing).err();
        let outcome = match refused {
            Some(instead) => Err(RequestError::Filtered(instead.error().unwrap_or_default().to_owned())),
            None => {
                let payload = Payload::from_wire(self.chunk.encoding.as_deref(), body);
                Ok(Message { headers: self.headers, payload })
            }
        };
        if !self.inner.pending.complete(request, None, outcome) {
            self.inner.links.counters.late_replies.add(1);
        }
    }

    /// Gives a whole request to its handler.
    pub(super) fn dispatch(self, body: Bytes, cost: usize) {
        let Self { inner, link, chunk, headers, .. } = self;
        let (channel, topic) = (chunk.channel.unwrap_or_default(), chunk.topic.unwrap_or_default());
        let reply_to = match chunk.req_id {
            Some(id) => ReplyTo::Stream { id, about: About::new(&headers, channel.clone(), topic.clone()) },
            None => ReplyTo::Nobody,
        };
        let payload = Payload::from_wire(chunk.encoding.as_deref(), body);
        inner.dispatch(Some(link), (channel, topic), reply_to, Message { headers, payload }, cost);
    }

    /// Answers that no handler can take the request.
    pub(super) fn overloaded(self) {
        self.inner.links.counters.overloaded.add(1);
        let text = format!("'{}' has too many requests waiting", self.inner.me());
        self.turn_away(Refusal::new(ReturnCode::SERVICE_UNAVAILABLE, text));
    }

    /// Tells the sender that the stream is not taken: with a reply if it waits for one, because the reference ignores
    /// an ERROR after the last chunk, and with an ERROR if it still sends or nobody waits for a reply.
    pub(super) fn turn_away(self, refusal: Refusal) {
        let Self { inner, link, origin, chunk, headers } = self;
        let Refusal { code, text } = refusal;
        tracing::debug!(%origin, stream = chunk.id, %code, %text, "stream refused");
        let returns = chunk.channel.as_deref() == Some(sm::RETURN_ONLY);
        let last = chunk.kind == ChunkKind::Final;
        let request = chunk.req_id.clone().filter(|_| !returns);
        let answered = request.is_some();
        if let Some(request) = request {
            let failure = Message::failure(code, text.clone());
            let answer = headers::refusal(inner, &origin, &headers, &chunk, request, failure);
            let link = if link.end.is_cancelled() { inner.next_hop(&origin) } else { Some(link.clone()) };
            let sent = link.map(|link| inner.send_now(&link, answer, Bytes::new()));
            if !matches!(sent, Some(Ok(()))) {
                tracing::warn!(%origin, "a requester could not be told about a failure");
            }
        } else {
            inner.links.counters.dropped.add(1);
        }
        if !(last && (answered || returns)) {
            let failure = ChunkHeader::failure(chunk.id, 0, text);
            headers::tell(inner, link, &origin, sm::ACK_TOPIC, &failure, Headers::new());
        }
        if !last {
            inner.discarded.insert(origin.as_text().clone(), chunk.id);
        }
    }
}
