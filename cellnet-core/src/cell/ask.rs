//! Requests that this cell makes.

use std::{fmt, future::IntoFuture, sync::Arc, time::Duration};

use bytestring::ByteString;
use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::{
    Inner, RequestError,
    answer::ReplyTo,
    filters::{Passing, Stage},
    intake::Job,
    request::Request,
};
use crate::{
    fqcn::Fqcn,
    link::{Letter, Link, Outgoing, Refused},
    message::{Message, MessageKind, ReturnCode},
    stream::Progress,
    wire::keys::{channel_streams, cn},
};

/// A request that is about to be made; await it for the reply.
///
/// What another cell answered, even a failure, is `Ok`: look at [`Message::code`].
#[must_use = "a request is only made when it is awaited"]
pub struct Ask {
    pub(crate) inner: Arc<Inner>,
    pub(crate) target: Fqcn,
    pub(crate) channel: ByteString,
    pub(crate) topic: ByteString,
    pub(crate) message: Message,
    pub(crate) timeout: Duration,
    pub(crate) optional: bool,
    pub(crate) plain_only: bool,
    pub(crate) id: Uuid,
    pub(crate) on_progress: Option<OnProgress>,
}

/// Told about the bytes of a request and its reply.
pub(crate) type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

impl Ask {
    pub(crate) fn new(
        inner: Arc<Inner>,
        target: Fqcn,
        channel: ByteString,
        topic: ByteString,
        message: Message,
    ) -> Self {
        let timeout = inner.config.timeout;
        let id = Uuid::new_v4();
        Self {
            inner,
            target,
            channel,
            topic,
            message,
            timeout,
            optional: false,
            plain_only: false,
            id,
            on_progress: None,
        }
    }

    /// How long to wait. A request or reply that streams counts from the last progress, a plain one from now.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Marks the request as one whose failure is no news.
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// Calls `told` whenever bytes of the request or its reply have moved. It must not block. Plain requests move in
    /// one piece and do not tell.
    pub fn on_progress(mut self, told: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.on_progress = Some(Arc::new(told));
        self
    }

    /// Never streams, whatever the channel.
    pub(super) fn plain_only(mut self) -> Self {
        self.plain_only = true;
        self
    }

    fn streams(&self) -> bool {
        !self.plain_only && channel_streams(&self.channel)
    }

    pub(super) fn under(mut self, id: Uuid) -> Self {
        self.id = id;
        self
    }

    /// Makes the request and does not wait for a reply.
    pub async fn tell(mut self) -> Result<(), RequestError> {
        self.filter()?;
        if self.target == *self.inner.me() {
            return self.run_locally(ReplyTo::Nobody);
        }
        if self.streams() {
            return crate::stream::tell(self).await;
        }
        // Who tells without end lets others have their turn.
        tokio::task::coop::consume_budget().await;
        let link = self.next_hop()?;
        let message = self.plain(&link, false)?;
        match link.outbox.try_push(message) {
            Ok(()) => Ok(()),
            Err(Refused::Closed(_)) => Err(self.inner.link_lost(&link)),
            Err(Refused::Full(message)) => {
                tokio::time::timeout(self.timeout, self.inner.push(&link, message))
                    .await
                    .unwrap_or(Err(RequestError::Timeout(self.timeout)))
            }
        }
    }

    /// Makes the request and waits for the reply.
    async fn ask(mut self) -> Result<Message, RequestError> {
        if self.inner.links.stop.is_cancelled() {
            return Err(RequestError::ShuttingDown);
        }
        self.filter()?;
        if self.target == *self.inner.me() {
            return self.ask_locally().await;
        }
        if self.streams() {
            return crate::stream::ask(self).await;
        }
        let link = self.next_hop()?;
        let inner = self.inner.clone();
        let message = self.plain(&link, true)?;
        let mut ticket = inner.pending.begin(self.id, Some(self.target.clone()), link.id)?;
        let asked = async {
            inner.push(&link, message).await?;
            ticket.outcome().await
        };
        tokio::time::timeout(self.timeout, asked).await.unwrap_or(Err(RequestError::Timeout(self.timeout)))
    }

    pub(crate) fn next_hop(&self) -> Result<Arc<Link>, RequestError> {
        self.inner.next_hop(&self.target).ok_or_else(|| RequestError::Unreachable(self.target.clone()))
    }

    /// Asks the outgoing filters, by the application's channel and topic.
    fn filter(&mut self) -> Result<(), RequestError> {
        if self.inner.filters.none(Stage::OutgoingRequest) {
            return Ok(());
        }
        self.address();
        let headers = &mut self.message.headers;
        let mut passing = Passing { headers, kind: Some(MessageKind::Request), from: None };
        let refused =
            |instead: Message| RequestError::Filtered(instead.error().unwrap_or_default().to_owned());
        self.inner
            .filters
            .pass(Stage::OutgoingRequest, &self.channel, &self.topic, &mut passing)
            .map_err(refused)
    }

    /// Puts into the headers what the message is for.
    fn address(&mut self) {
        let headers = &mut self.message.headers;
        headers.set_text(cn::CHANNEL, &self.channel);
        headers.set_text(cn::TOPIC, &self.topic);
        headers.set_text(cn::DESTINATION, self.target.as_str());
    }

    /// The message as it travels plainly.
    fn plain(&mut self, link: &Link, reply_expected: bool) -> Result<Outgoing, RequestError> {
        let own = std::mem::take(&mut self.message.headers);
        let filtered = !own.is_empty() && !self.inner.filters.none(Stage::OutgoingRequest);
        // A filter may have changed them.
        let name = |key, asked| if filtered { own.text(key).unwrap_or(asked) } else { asked };
        let letter = Letter {
            kind: MessageKind::Request.as_str(),
            target: self.target.as_str(),
            channel: name(cn::CHANNEL, &self.channel),
            topic: name(cn::TOPIC, &self.topic),
            encoding: self.message.payload.encoding(),
            code: "",
            expects: Some(reply_expected),
            secure: false,
            optional: self.optional,
        };
        let id = &mut Uuid::encode_buffer();
        let id = self.id.hyphenated().encode_lower(id);
        self.inner.letter(link, &letter, id, &own, self.message.payload.to_bytes())
    }

    async fn ask_locally(mut self) -> Result<Message, RequestError> {
        let inner = self.inner.clone();
        let mut ticket = inner.pending.begin(self.id, Some(self.target.clone()), LOCAL_LINK)?;
        self.run_locally(ReplyTo::Local(self.id))?;
        tokio::time::timeout(self.timeout, ticket.outcome())
            .await
            .unwrap_or(Err(RequestError::Timeout(self.timeout)))
    }

    /// Gives the request to a handler of this cell, if it may run or wait.
    fn run_locally(&mut self, reply_to: ReplyTo) -> Result<(), RequestError> {
        if self.inner.filters.none(Stage::OutgoingRequest) {
            // Filters have seen to that, and may have changed it.
            self.address();
        }
        let inner = self.inner.clone();
        let request = Request {
            message: std::mem::take(&mut self.message),
            origin: inner.me().clone(),
            channel: self.channel.clone(),
            topic: self.topic.clone(),
            reply_to: reply_to.clone(),
            link: None,
            links: inner.links.clone(),
        };
        match inner.handler(&self.channel, &self.topic) {
            Some(super::Handler::Message(handler)) => {
                let cost = request.message.payload.len() + request.message.headers.memory();
                if !inner.intake.has_room(LOCAL_LINK, cost, &Arc::default()) {
                    return Err(RequestError::NoRoom { hop: inner.me().clone(), patience: Duration::ZERO });
                }
                let run = Box::pin(super::answer::serve(inner.clone(), request, handler));
                inner.start(LOCAL_LINK, Job { run, cost });
            }
            Some(super::Handler::Stream(_)) | None => {
                let text = format!("no handler for '{}' '{}'", self.channel, self.topic);
                inner.reply_later(reply_to, Message::failure(ReturnCode::PROCESS_EXCEPTION, text));
            }
        }
        Ok(())
    }
}

/// Stands for "no link" where links are counted.
pub(crate) const LOCAL_LINK: u64 = 0;

impl IntoFuture for Ask {
    type Output = Result<Message, RequestError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.ask())
    }
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask")
            .field("target", &self.target)
            .field("channel", &self.channel)
            .field("topic", &self.topic)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
