//! What happens to messages that cannot go on: somebody is told.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use bytestring::ByteString;
use lru::LruCache;

use super::{Inner, inner::set_encoding};
use crate::{
    fqcn::Fqcn,
    link::Link,
    message::{Message, MessageKind, ReturnCode},
    stream::{ChunkHeader, ChunkKind},
    wire::{
        Headers, Value,
        keys::{cn, sm},
    },
};

/// Streams that were given up here: the rest of their chunks is dropped without a word.
#[derive(Debug)]
pub(crate) struct Discarded(Mutex<LruCache<(ByteString, u64), ()>>);

/// A relay under attack forgets the oldest; the receiver then reports the gap.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

impl Default for Discarded {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(REMEMBERED)))
    }
}

impl Discarded {
    /// Whether a chunk belongs to a stream that was given up.
    pub(crate) fn holds(&self, origin: &str, id: u64) -> bool {
        let streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        !streams.is_empty() && streams.contains(&(origin.into(), id))
    }

    /// Remembers a stream. Whether it was not known before.
    pub(crate) fn insert(&self, origin: ByteString, id: u64) -> bool {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        streams.put((origin, id), ()).is_none()
    }
}

/// Why a RETURN is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReturnReason {
    CannotForward,
    Intercepted,
}

impl ReturnReason {
    fn as_str(self) -> &'static str {
        match self {
            Self::CannotForward => "cant_forward",
            Self::Intercepted => "intercept",
        }
    }
}

impl Inner {
    /// Tells whoever should know that a message goes no further. `via` is the link it came by, if
    /// that is known.
    ///
    /// A request gets a RETURN, or a reply if it was for this cell; a stream gets a reply blob or errors at both ends;
    /// anything else is dropped. All of it is counted.
    pub(crate) fn refuse(
        self: &Arc<Self>,
        headers: &Headers,
        via: Option<&Arc<Link>>,
        reason: ReturnReason,
        failure: Message,
    ) {
        self.links.counters.dropped.add(1);
        let code = failure.code().unwrap_or(ReturnCode::COMM_ERROR);
        let text = failure.error().unwrap_or_default().to_owned();
        let channel = headers.shared_text(cn::CHANNEL).unwrap_or_default();
        let Some(origin) = headers.fqcn(cn::ORIGIN) else {
            return;
        };
        let kind = headers.text(cn::MSG_TYPE).and_then(MessageKind::parse);
        let loud = self.links.noise.allows();
        if kind != Some(MessageKind::Request) {
            tracing::debug!(%origin, from = ?via.map(|via| &via.peer), %code, text, "reply dropped");
        } else if *channel == *sm::STREAM_CHANNEL {
            self.refuse_stream(headers, &origin, via, failure, &text);
        } else if headers.flag(cn::REPLY_EXPECTED) {
            tracing::debug!(%origin, from = ?via.map(|via| &via.peer), %code, text, "request refused");
            self.answer_now(headers, &origin, via, reason, failure);
        } else if loud {
            tracing::warn!(%origin, from = ?via.map(|via| &via.peer), %channel, %code, text, "message dropped");
        }
    }

    /// Answers a request from within a reader: with a reply if it was for this cell, else with a RETURN.
    pub(super) fn answer_now(
        self: &Arc<Self>,
        headers: &Headers,
        origin: &Fqcn,
        via: Option<&Arc<Link>>,
        reason: ReturnReason,
        mut failure: Message,
    ) {
        let id = headers.shared_text(cn::REQ_ID).unwrap_or_default();
        let mine = headers.text(cn::DESTINATION) == Some(self.me().as_str());
        let kind = if mine && reason == ReturnReason::CannotForward {
            failure.headers.set(cn::REQ_ID, id);
            MessageKind::Reply
        } else {
            failure.headers.set(cn::REQ_ID, vec![Value::Str(id)]);
            failure.headers.set(cn::RETURN_REASON, Value::text(reason.as_str()));
            failure.headers.set(cn::ORIGINAL_HEADERS, original(headers));
            MessageKind::Return
        };
        set_encoding(&mut failure.headers, &failure.payload);
        let answer = self.headers(kind, origin, failure.headers);
        self.tell(origin, via, answer, failure.payload.to_bytes());
    }

    fn refuse_stream(
        self: &Arc<Self>,
        headers: &Headers,
        origin: &Fqcn,
        via: Option<&Arc<Link>>,
        failure: Message,
        text: &str,
    ) {
        let Ok(chunk) = ChunkHeader::parse(headers) else { return };
        if !chunk.kind.is_data() {
            tracing::debug!(%origin, from = ?via.map(|via| &via.peer), kind = ?chunk.kind, "stream control message dropped");
            return;
        }
        if !self.discarded.insert(origin.as_text().clone(), chunk.id) {
            return;
        }
        if self.links.noise.allows() {
            tracing::warn!(%origin, from = ?via.map(|via| &via.peer), stream = chunk.id, text, "stream given up");
        }
        let returns = chunk.channel.as_deref() == Some(sm::RETURN_ONLY);
        let wants_reply = chunk.sequence == 0 && !returns;
        if let Some(request) = chunk.req_id.clone().filter(|_| wants_reply) {
            let answer = crate::stream::refusal(self, origin, headers, &chunk, request, failure);
            self.tell(origin, via, answer, Bytes::new());
        }
        if !(wants_reply && chunk.req_id.is_some() && chunk.kind == ChunkKind::Final) {
            let error = crate::stream::error_headers(self, origin, sm::ACK_TOPIC, &chunk, text);
            self.tell(origin, via, error, Bytes::new());
        }
        let target = headers.fqcn(cn::DESTINATION);
        if let Some(target) = target.filter(|target| chunk.sequence > 0 && target != self.me())
            && let Some(hop) = self.next_hop(&target)
        {
            // As the sender would have said it: the receiver knows the stream by its origin.
            let mut error = crate::stream::error_headers(self, &target, sm::DATA_TOPIC, &chunk, text);
            error.set(cn::ORIGIN, origin);
            self.tell(&target, Some(&hop), error, Bytes::new());
        }
    }

    /// Sends by the link a message came from, or by name if that is gone. Readers call this, so it does not wait.
    fn tell(self: &Arc<Self>, target: &Fqcn, via: Option<&Arc<Link>>, headers: Headers, body: Bytes) {
        if target == self.me() {
            return self.receive_own(via, headers, body);
        }
        let via = via.filter(|via| !via.end.is_cancelled()).cloned();
        let link = via.or_else(|| self.next_hop(target));
        let sent = link.map(|link| self.send_now(&link, headers, body));
        if !matches!(sent, Some(Ok(()))) {
            tracing::warn!(%target, "nobody could be told about a failure");
        }
    }
}

/// Those headers of a failed request that its origin needs; all of them may not fit into one header block.
fn original(headers: &Headers) -> Value {
    let known =
        |key: &Value| key.as_str().is_some_and(|key| key.starts_with("cn__") || key.starts_with("sm__"));
    let kept = headers.iter().filter(|(key, _)| known(key)).map(|(key, value)| (key.clone(), value.clone()));
    Value::Map(kept.collect())
}
