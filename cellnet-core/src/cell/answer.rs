//! Replies: where they go and how they get there.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytestring::ByteString;
use futures_util::{FutureExt, future::BoxFuture};
use uuid::Uuid;

use super::{
    Answer, HandlerError, Inner, RequestError,
    filters::{Passing, Stage},
    inner::{name, set_encoding},
    request::{MessageHandler, QuickHandler, Request, RequestId},
};
use crate::{
    fqcn::Fqcn,
    link::{Letter, Link, Outgoing},
    message::{Message, MessageKind, ReturnCode},
    stream::Blob,
    wire::{
        Headers, Value,
        keys::{cn, sm},
    },
};

/// Where the reply to a request goes.
#[derive(Debug, Clone)]
pub(crate) enum ReplyTo {
    /// Nobody waits.
    Nobody,
    /// To a plain request: back by the link it came from.
    Plain { link: Arc<Link>, about: About },
    /// To a request that came as a blob: a new blob, routed by name.
    Stream { id: ByteString, about: About },
    /// To this cell itself.
    Local(Uuid),
}

/// What a reply takes over from its request.
#[derive(Debug, Clone, Default)]
pub(crate) struct About {
    pub(crate) channel: ByteString,
    pub(crate) topic: ByteString,
    request_id: ByteString,
    optional: bool,
    secure: bool,
    /// End-to-end features of the requester, which a replier echoes.
    cellnet: Option<Value>,
}

impl About {
    /// Takes over from the headers of a request; channel and topic are the application's.
    pub(crate) fn new(headers: &Headers, channel: ByteString, topic: ByteString) -> Self {
        let address = headers.address();
        Self {
            channel,
            topic,
            request_id: headers.shared_text(cn::REQ_ID).unwrap_or_default(),
            optional: address.optional,
            secure: address.secure,
            cellnet: if address.cellnet { headers.get(cn::CELLNET) } else { None },
        }
    }

    /// Puts it into the headers of the reply.
    pub(super) fn put(&self, headers: &mut Headers) {
        headers.set(cn::SECURE, self.secure);
        headers.set(cn::OPTIONAL, self.optional);
        if let Some(cellnet) = &self.cellnet {
            headers.set(cn::CELLNET, cellnet.clone());
        }
    }
}

/// Runs a handler and sends what it says. A panic is answered like a failure.
pub(crate) async fn serve(inner: Arc<Inner>, request: Request, handler: MessageHandler) {
    let (origin, reply_to) = (request.origin.clone(), request.reply_to.clone());
    let (channel, topic) = (request.channel.clone(), request.topic.clone());
    let outcome = match handler {
        MessageHandler::Patient(handler) => {
            AssertUnwindSafe(async { handler(request).await }).catch_unwind().await
        }
        MessageHandler::Quick(handler) => match serve_now(&inner, request, &handler) {
            Some(rest) => return rest.await,
            None => return,
        },
    };
    if let Some(reply) = said(outcome, &origin, &channel, &topic) {
        inner.reply(&origin, &reply_to, reply).await;
    }
}

/// Runs a quick handler and gives what remains to be done: to wait for room for its reply.
pub(crate) fn serve_now(
    inner: &Arc<Inner>,
    request: Request,
    handler: &QuickHandler,
) -> Option<BoxFuture<'static, ()>> {
    let (origin, reply_to) = (request.origin.clone(), request.reply_to.clone());
    let (channel, topic) = (request.channel.clone(), request.topic.clone());
    let outcome = catch_unwind(AssertUnwindSafe(|| handler(request)));
    let reply = said(outcome, &origin, &channel, &topic)?;
    if matches!(reply_to, ReplyTo::Nobody) {
        return None;
    }
    let inner = inner.clone();
    let mut run = Box::pin(async move { inner.reply(&origin, &reply_to, reply).await });
    match run.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(()) => None,
        Poll::Pending => Some(run),
    }
}

/// What is to be replied; nothing if the handler does so later.
fn said(
    outcome: std::thread::Result<Result<Answer, HandlerError>>,
    origin: &Fqcn,
    channel: &str,
    topic: &str,
) -> Option<Message> {
    Some(match outcome {
        Ok(Ok(Answer::Deferred)) => return None,
        Ok(Ok(Answer::Reply(message))) => message,
        Ok(Err(error)) => {
            tracing::debug!(%channel, %topic, %origin, %error, "handler failed");
            error.into_message()
        }
        Err(_) => {
            tracing::error!(%channel, %topic, %origin, "handler panicked");
            HandlerError::failed("handler panicked").into_message()
        }
    })
}

impl Inner {
    /// Sends a handler's reply, after the filters. What cannot be sent is counted and logged.
    pub(crate) async fn reply(self: &Arc<Self>, origin: &Fqcn, to: &ReplyTo, reply: Message) {
        // Whoever cares what became of it has answered by himself.
        let _ = self.answer(origin, to, reply).await;
    }

    /// [`reply`](Self::reply) for a handler that wants to know.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        origin: &Fqcn,
        to: &ReplyTo,
        mut reply: Message,
    ) -> Result<(), RequestError> {
        let (ReplyTo::Plain { about, .. } | ReplyTo::Stream { about, .. }) = to else {
            self.deliver_locally(to, reply);
            return Ok(());
        };
        let mut passing = Passing { headers: &mut reply.headers, kind: Some(MessageKind::Reply), from: None };
        if let Err(instead) =
            self.filters.pass(Stage::OutgoingReply, &about.channel, &about.topic, &mut passing)
        {
            reply = instead;
        }
        let sent = self.send_reply(origin, to, reply).await;
        let told = match &sent {
            Err(error @ (RequestError::TooBig { .. } | RequestError::HeadersTooBig(_))) => {
                let text = format!("the reply cannot be sent: {error}");
                &self.send_reply(origin, to, Message::failure(ReturnCode::MSG_TOO_BIG, text)).await
            }
            told => told,
        };
        if let Err(error) = told {
            self.links.counters.dropped.add(1);
            tracing::warn!(%origin, channel = %about.channel, error = crate::link::chain(error), "reply not sent");
        }
        sent
    }

    /// Answers a request of this cell to itself from where nothing may wait.
    pub(super) fn reply_later(self: &Arc<Self>, reply_to: ReplyTo, reply: Message) {
        let inner = self.clone();
        self.tasks.spawn(async move { inner.reply(inner.me(), &reply_to, reply).await });
    }

    fn deliver_locally(&self, to: &ReplyTo, reply: Message) {
        if let ReplyTo::Local(id) = to {
            let reply = if reply.code().is_none() { reply.with_code(ReturnCode::OK) } else { reply };
            if !self.pending.complete(*id, Some(self.me().clone()), Ok(reply)) {
                self.links.counters.late_replies.add(1);
            }
        }
    }

    /// Sends a reply as its request came. Without a code it reports `ok`: the reference reads none as `None`.
    pub(crate) async fn send_reply(
        self: &Arc<Self>,
        origin: &Fqcn,
        to: &ReplyTo,
        mut reply: Message,
    ) -> Result<(), RequestError> {
        match to {
            ReplyTo::Nobody => Ok(()),
            ReplyTo::Local(_) => {
                self.deliver_locally(to, reply);
                Ok(())
            }
            ReplyTo::Plain { link, about } => {
                if let Some(cellnet) = &about.cellnet {
                    reply.headers.set(cn::CELLNET, cellnet.clone());
                }
                let ok = ReturnCode::OK;
                let letter = Letter {
                    kind: MessageKind::Reply.as_str(),
                    target: origin.as_str(),
                    channel: &about.channel,
                    topic: &about.topic,
                    encoding: reply.payload.encoding(),
                    code: reply.headers.text(cn::RETURN_CODE).unwrap_or(ok.as_str()),
                    expects: None,
                    secure: about.secure,
                    optional: about.optional,
                };
                let body = reply.payload.to_bytes();
                let message = self.letter(link, &letter, &about.request_id, &reply.headers, body)?;
                self.send_back(origin, link, message).await
            }
            ReplyTo::Stream { id, about } => {
                if reply.code().is_none() {
                    reply = reply.with_code(ReturnCode::OK);
                }
                reply.headers.set(cn::REQ_ID, about.request_id.clone());
                about.put(&mut reply.headers);
                let blob = Blob {
                    target: origin.clone(),
                    channel: name(sm::RETURN_ONLY),
                    topic: format!("{}:{}", about.channel, about.topic).into(),
                    request_id: Some(id.clone()),
                    message: reply,
                };
                crate::stream::send_blob(self, blob).await.map(drop)
            }
        }
    }

    /// By the link that the request came from; by name if that is gone.
    async fn send_back(
        &self,
        origin: &Fqcn,
        link: &Arc<Link>,
        message: Outgoing,
    ) -> Result<(), RequestError> {
        if link.end.is_cancelled() {
            self.send(origin, message.headers, message.body).await.map(drop)
        } else {
            self.push(link, message).await
        }
    }

    /// Answers deferred requests: the plain ones with one message, as the reference does, the others one by one.
    pub(crate) async fn send_deferred(
        self: &Arc<Self>,
        target: &Fqcn,
        requests: &[RequestId],
        message: Message,
    ) -> Result<(), RequestError> {
        let mut plain: Option<(Arc<Link>, Vec<Value>)> = None;
        for RequestId(to) in requests {
            match to {
                ReplyTo::Plain { link, about } => {
                    let (_, ids) = plain.get_or_insert_with(|| (link.clone(), Vec::new()));
                    ids.push(Value::Str(about.request_id.clone()));
                }
                _ => self.send_reply(target, to, message.clone()).await?,
            }
        }
        let Some((link, ids)) = plain else { return Ok(()) };
        let mut reply = if message.code().is_none() { message.with_code(ReturnCode::OK) } else { message };
        reply.headers.set(cn::REQ_ID, ids);
        set_encoding(&mut reply.headers, &reply.payload);
        let headers = self.headers(MessageKind::Reply, target, reply.headers);
        let message = self.outgoing(&link, headers, reply.payload.to_bytes())?;
        self.send_back(target, &link, message).await
    }
}
