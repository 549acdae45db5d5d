//! A request as its handler sees it, and what the handler says.

use std::{fmt, sync::Arc};

use super::{HandlerError, answer::ReplyTo};
use crate::{
    fqcn::Fqcn,
    link::{Link, Links},
    message::Message,
    stream::IncomingStream,
};
use bytestring::ByteString;
use futures_util::future::BoxFuture;

/// A request that arrived.
#[derive(Debug)]
#[non_exhaustive]
pub struct Request {
    /// Headers and payload.
    pub message: Message,
    /// Who asks, as the message says.
    pub origin: Fqcn,
    /// The channel it came on.
    pub channel: ByteString,
    /// The topic it came on.
    pub topic: ByteString,
    pub(crate) reply_to: ReplyTo,
    pub(crate) link: Option<Arc<Link>>,
    pub(crate) links: Arc<Links>,
}

impl Request {
    /// Whether anybody waits for a reply.
    pub fn expects_reply(&self) -> bool {
        !matches!(self.reply_to, ReplyTo::Nobody)
    }

    /// What to give to [`send_reply`](super::Cell::send_reply) after the handler said [`Answer::Deferred`].
    pub fn id(&self) -> RequestId {
        RequestId(self.reply_to.clone())
    }

    /// Completes when an answer has become useless: the link it came by is lost, or this cell stops. Cancel safe.
    pub async fn cancelled(&self) {
        let lost = async {
            match &self.link {
                Some(link) => link.end.cancelled().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = lost => {}
            () = self.links.stop.cancelled() => {}
        }
    }
}

/// Identifies a request whose reply was deferred.
#[derive(Debug, Clone)]
pub struct RequestId(pub(crate) ReplyTo);

/// What a handler says.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Answer {
    /// This is the reply; it reports `ok` if it has no code.
    Reply(Message),
    /// The reply comes later, by [`send_reply`](super::Cell::send_reply).
    Deferred,
}

impl From<Message> for Answer {
    fn from(message: Message) -> Self {
        Self::Reply(message)
    }
}

/// What is registered for a channel and a topic.
#[derive(Clone)]
pub(crate) enum Handler {
    /// Takes whole messages.
    Message(MessageHandler),
    /// Reads streams as they arrive.
    Stream(StreamHandler),
}

/// What takes whole messages.
#[derive(Clone)]
pub(crate) enum MessageHandler {
    /// It may wait.
    Patient(Arc<dyn Fn(Request) -> BoxFuture<'static, Result<Answer, HandlerError>> + Send + Sync>),
    /// It does not.
    Quick(QuickHandler),
}

pub(crate) type QuickHandler = Arc<dyn Fn(Request) -> Result<Answer, HandlerError> + Send + Sync>;

pub(crate) type StreamHandler =
    Arc<dyn Fn(IncomingStream) -> BoxFuture<'static, Result<(), HandlerError>> + Send + Sync>;

impl Handler {
    pub(crate) fn message<F, Fut, A>(handler: F) -> Self
    where
        F: Fn(Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<A, HandlerError>> + Send + 'static,
        A: Into<Answer>,
    {
        Self::Message(MessageHandler::Patient(Arc::new(move |request| {
            let answer = handler(request);
            Box::pin(async move { answer.await.map(Into::into) })
        })))
    }

    pub(crate) fn quick<F, A>(handler: F) -> Self
    where
        F: Fn(Request) -> Result<A, HandlerError> + Send + Sync + 'static,
        A: Into<Answer>,
    {
        Self::Message(MessageHandler::Quick(Arc::new(move |request| handler(request).map(Into::into))))
    }

    pub(crate) fn stream<F, Fut>(handler: F) -> Self
    where
        F: Fn(IncomingStream) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        Self::Stream(Arc::new(move |stream| Box::pin(handler(stream))))
    }
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Message(_) => "Handler::Message",
            Self::Stream(_) => "Handler::Stream",
        })
    }
}
