//! What all tasks of a cell share.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, PoisonError, RwLock},
};

use bytes::Bytes;
use bytestring::ByteString;
use futures_util::FutureExt;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    CellConfig, Filter, RequestError,
    blocks::Blocks,
    events::EventSender,
    extensions::Extensions,
    filters::Filters,
    intake::{Intake, Job, Offered},
    pending::Pending,
    refuse::Discarded,
    registry::Registry,
    request::Handler,
};
use crate::{
    fqcn::Fqcn,
    link::{DialState, Fresh, Hop, Letter, Link, Links, Outgoing, PushError, Refused},
    message::{MessageKind, Payload, unix_time},
    route::{self, Resolver},
    stream::Streams,
    url::CellUrl,
    wire::{Headers, keys::cn},
};

/// What all tasks of a cell share.
pub(crate) struct Inner {
    pub(crate) config: CellConfig,
    pub(crate) links: Arc<Links>,
    pub(crate) resolver: Box<dyn Resolver>,
    pub(crate) pending: Pending,
    pub(crate) handlers: RwLock<Registry<Handler>>,
    pub(crate) filters: Filters,
    pub(crate) interceptor: RwLock<Option<Interceptor>>,
    pub(crate) intake: Intake,
    pub(crate) streams: Streams,
    pub(crate) discarded: Discarded,
    pub(crate) blocks: Blocks,
    pub(crate) events: EventSender,
    pub(crate) extensions: Extensions,
    pub(crate) listening: Vec<CellUrl>,
    pub(crate) dialled: Vec<Vec<CellUrl>>,
    pub(crate) dials: Vec<watch::Receiver<DialState>>,
    /// Handlers and streams.
    pub(crate) tasks: TaskTracker,
    /// Ends handlers, streams and links at once.
    pub(crate) kill: CancellationToken,
}

/// Looks at requests in passing.
#[derive(Clone)]
pub(crate) struct Interceptor(pub(crate) Filter);

impl std::fmt::Debug for Interceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Interceptor")
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("me", self.me()).finish_non_exhaustive()
    }
}

impl Inner {
    pub(crate) fn me(&self) -> &Fqcn {
        &self.links.identity.me
    }

    /// The link that leads to a target right now.
    pub(crate) fn next_hop(&self, target: &Fqcn) -> Option<Arc<Link>> {
        let hop = self.resolver.next_hop(self.me(), target, &self.links.table)?;
        self.links.table.get(&hop)
    }

    /// The headers that every message of this cell begins with.
    pub(crate) fn headers(&self, kind: MessageKind, destination: &Fqcn, own: Headers) -> Headers {
        let mut headers = own;
        headers.set_text(cn::DESTINATION, destination.as_str());
        headers.set_text(cn::ORIGIN, self.me().as_str());
        headers.set_text(cn::MSG_TYPE, kind.as_str());
        headers.remove(cn::ROUTE);
        route::record(&mut headers, self.me(), unix_time());
        headers
    }

    /// A letter that goes out by a link, with the headers of the application. Theirs do not replace ours.
    pub(crate) fn letter(
        &self,
        link: &Link,
        letter: &Letter<&str>,
        id: &str,
        own: &Headers,
        body: Bytes,
    ) -> Result<Outgoing, RequestError> {
        let time = unix_time();
        let values = [
            (cn::REQ_ID, Fresh::Text(id)),
            (cn::ROUTE, Fresh::Route(self.me(), time)),
            (cn::PAYLOAD_LEN, Fresh::Uint(body.len() as u64)),
            (cn::SEND_TIME, Fresh::Time(time)),
        ];
        let headers = link.drafts.headers(letter, &values, own, || {
            let mut headers = Headers::new();
            if !letter.code.is_empty() {
                headers.set_text(cn::RETURN_CODE, letter.code);
            }
            headers.set_text(cn::CHANNEL, letter.channel);
            headers.set_text(cn::TOPIC, letter.topic);
            headers.set_text(cn::DESTINATION, letter.target);
            headers.set_text(cn::PAYLOAD_ENCODING, letter.encoding);
            headers.set_text(cn::REQ_ID, id);
            if let Some(expected) = letter.expects {
                headers.set(cn::REPLY_EXPECTED, expected);
            }
            headers.set(cn::SECURE, letter.secure);
            headers.set(cn::OPTIONAL, letter.optional);
            headers.set_text(cn::ORIGIN, self.me().as_str());
            headers.set_text(cn::MSG_TYPE, letter.kind);
            route::record(&mut headers, self.me(), time);
            self.hop(link, body.len(), time).address(&mut headers);
            headers
        });
        self.check(link, &headers, &body)?;
        Ok(Outgoing::new(headers, body))
    }

    /// The hop of a message to a neighbour.
    pub(crate) fn hop<'a>(&'a self, link: &'a Link, body: usize, time: f64) -> Hop<'a> {
        Hop { me: self.me(), next: &link.peer, time, body }
    }

    /// Makes a message ready for a link, or says why it cannot travel by it.
    pub(crate) fn outgoing(
        &self,
        link: &Link,
        mut headers: Headers,
        body: Bytes,
    ) -> Result<Outgoing, RequestError> {
        self.check(link, &headers, &body)?;
        self.hop(link, body.len(), unix_time()).address(&mut headers);
        Ok(Outgoing::new(headers, body))
    }

    /// Whether a message can travel by a link at all.
    pub(crate) fn check(&self, link: &Link, headers: &Headers, body: &Bytes) -> Result<(), RequestError> {
        let size = headers.encoded_len() + HOP_HEADERS;
        let limit = match link.info.legacy_max_frame.filter(|_| link.cellnet.is_none()) {
            Some(frame) => self.config.max_message.min(frame.saturating_sub(crate::wire::PREFIX_LEN + size)),
            None => self.config.max_message,
        };
        if body.len() > limit {
            return Err(RequestError::TooBig { size: body.len(), limit });
        }
        if size > crate::wire::MAX_HEADERS { Err(RequestError::HeadersTooBig(size)) } else { Ok(()) }
    }

    /// Sends a message towards its destination as soon as there is room. Gives the link it took. A dropped future
    /// sends nothing.
    pub(crate) async fn send(
        &self,
        target: &Fqcn,
        headers: Headers,
        body: Bytes,
    ) -> Result<Arc<Link>, RequestError> {
        let link = self.next_hop(target).ok_or_else(|| RequestError::Unreachable(target.clone()))?;
        self.send_by(&link, headers, body).await?;
        Ok(link)
    }

    /// [`send`](Self::send) by a link that is known.
    pub(crate) async fn send_by(
        &self,
        link: &Arc<Link>,
        headers: Headers,
        body: Bytes,
    ) -> Result<(), RequestError> {
        let message = self.outgoing(link, headers, body)?;
        self.push(link, message).await
    }

    /// Hands a message to a link as soon as that has room. A dropped future sends nothing.
    pub(crate) async fn push(&self, link: &Link, message: Outgoing) -> Result<(), RequestError> {
        let patience = self.config.link.patience;
        link.outbox.push(message, patience).await.map_err(|error| match error {
            PushError::Closed => self.link_lost(link),
            PushError::Full => RequestError::NoRoom { hop: link.peer.clone(), patience },
        })
    }

    /// Sends a message now or not at all, for readers, who never wait.
    pub(crate) fn send_now(
        &self,
        link: &Arc<Link>,
        headers: Headers,
        body: Bytes,
    ) -> Result<(), RequestError> {
        let message = self.outgoing(link, headers, body)?;
        link.outbox.try_push(message).map_err(|refused| match refused {
            Refused::Closed(_) => self.link_lost(link),
            Refused::Full(_) => {
                RequestError::NoRoom { hop: link.peer.clone(), patience: std::time::Duration::ZERO }
            }
        })
    }

    pub(crate) fn link_lost(&self, link: &Link) -> RequestError {
        RequestError::LinkLost { peer: link.peer.clone(), reason: crate::link::chain(&*link.reason()) }
    }

    pub(crate) fn register(&self, channel: &str, topic: &str, handler: Handler) {
        let mut handlers = self.handlers.write().unwrap_or_else(PoisonError::into_inner);
        handlers.insert(channel, topic, handler);
    }

    pub(crate) fn unregister(&self, channel: &str, topic: &str) {
        let mut handlers = self.handlers.write().unwrap_or_else(PoisonError::into_inner);
        handlers.remove(channel, topic);
    }

    pub(crate) fn handler(&self, channel: &str, topic: &str) -> Option<Handler> {
        self.handlers.read().unwrap_or_else(PoisonError::into_inner).find(channel, topic).cloned()
    }

    pub(crate) fn set_interceptor(&self, interceptor: Filter) {
        *self.interceptor.write().unwrap_or_else(PoisonError::into_inner) = Some(Interceptor(interceptor));
    }

    /// Runs a job now or when it is its turn.
    pub(crate) fn start(self: &Arc<Self>, link: u64, job: Job) {
        if let Offered::Run(job) = self.intake.offer(link, job) {
            let inner = self.clone();
            self.tasks.spawn(async move {
                let mut next = Some((link, job));
                while let Some((link, job)) = next {
                    tokio::select! {
                        biased;
                        () = inner.kill.cancelled() => {}
                        ended = AssertUnwindSafe(job.run).catch_unwind() => if ended.is_err() {
                            tracing::error!("a handler's job panicked");
                        },
                    }
                    next = inner.intake.next(link);
                }
            });
        }
    }

    /// Ends all tasks at once.
    pub(crate) fn cancel(&self) {
        self.links.stop.cancel();
        self.kill.cancel();
        self.links.kill.cancel();
    }
}

/// What a hop adds to the headers at most: its own name and the next one's, times and sizes.
const HOP_HEADERS: usize = 2 * crate::fqcn::MAX_LEN + 256;

/// A header's name without a copy.
pub(crate) fn name(text: &'static str) -> ByteString {
    ByteString::from_static(text)
}

/// Puts how a payload is encoded into the headers of the message that carries it plainly.
pub(crate) fn set_encoding(headers: &mut Headers, payload: &Payload) {
    headers.set_text(cn::PAYLOAD_ENCODING, payload.encoding());
}
