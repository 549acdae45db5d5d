//! One identity in the network: who gets a message, what was asked.

mod answer;
mod ask;
mod blocks;
mod broadcast;
mod builder;
mod bulk;
mod config;
mod error;
mod events;
mod extensions;
mod filters;
mod forward;
mod inbound;
mod inner;
mod intake;
mod pending;
mod refuse;
mod registry;
mod request;
mod shutdown;

use std::{
    any::Any,
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use bytestring::ByteString;

pub(crate) use self::{
    answer::{About, ReplyTo},
    ask::OnProgress,
    inbound::MESSAGE_COST,
    inner::{Inner, name},
    intake::Job,
    request::{Handler, StreamHandler},
};
pub use self::{
    ask::Ask,
    builder::{CellBuilder, SHUTDOWN},
    config::{CellConfig, OriginCheck},
    error::{HandlerError, RequestError, StartError},
    events::{CellEvent, Events},
    filters::{Filter, Passing, Stage},
    registry::ANY,
    request::{Answer, Request, RequestId},
};
use crate::{fqcn::Fqcn, link::DialError, message::Message, stats::Counters, tls::TlsMode, url::CellUrl};

/// A member of the network. Clones are the same cell.
///
/// A cell ends with [`shutdown`](Self::shutdown). Dropping the last clone only cancels its tasks.
///
/// ```no_run
/// # use cellnet_core::{cell::{Cell, HandlerError, Request}, message::Message, transport::mem::MemNet};
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let net = MemNet::new();
/// let server = Cell::builder("server".parse()?)
///     .transport(net.host("server"))
///     .listen("mem://hub".parse()?)
///     .start()
///     .await?;
/// server.handle("greeter", "*", |request: Request| async move {
///     Ok::<_, HandlerError>(Message::new(request.message.payload.to_bytes()))
/// });
/// let site = Cell::builder("site-1".parse()?).transport(net.host("site-1")).dial("mem://hub".parse()?).start().await?;
/// site.connected().await;
/// let reply = site.request(server.name(), "greeter", "hello", Message::new("hi")).await?;
/// assert!(reply.is_ok());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Cell {
    handle: Arc<Handle>,
}

/// Ends the cell's tasks with the last clone.
struct Handle {
    inner: Arc<Inner>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.inner.cancel();
    }
}

impl Cell {
    /// Begins to describe a cell.
    pub fn builder(name: Fqcn) -> CellBuilder {
        CellBuilder::new(name)
    }

    /// The cell's name.
    pub fn name(&self) -> &Fqcn {
        self.inner().me()
    }

    /// Where the cell listens, with real ports.
    pub fn listening(&self) -> &[CellUrl] {
        &self.inner().listening
    }

    /// The names that have a link right now.
    pub fn neighbours(&self) -> Vec<Fqcn> {
        self.inner().links.table.names()
    }

    /// The next hop to a target right now.
    pub fn route(&self, target: &Fqcn) -> Option<Fqcn> {
        self.inner().next_hop(target).map(|link| link.peer.clone())
    }

    /// Waits until every dialled cell has a link at least at this moment, by one of its URLs. Returns at once for a cell that dials
    /// nobody. Cancel safe.
    pub async fn connected(&self) {
        for dial in &self.inner().dials {
            let mut dial = dial.clone();
            // The sender lives as long as the dialling, which a waiting caller keeps alive.
            let _ = dial.wait_for(|state| state.peer.is_some()).await;
        }
    }

    /// Waits until one dialled cell has a link. Returns at once for a cell that dials nobody. Cancel safe.
    pub async fn connected_any(&self) {
        let dials = self.inner().dials.clone();
        if dials.is_empty() {
            return;
        }
        let waits = dials.into_iter().map(|mut dial| {
            Box::pin(async move {
                let _ = dial.wait_for(|state| state.peer.is_some()).await;
            })
        });
        futures_util::future::select_all(waits).await;
    }

    /// Why there is no link to a dialled cell, for each that has none now: what became of its URLs in the last round.
    pub fn dial_errors(&self) -> Vec<DialError> {
        self.inner().dials.iter().filter_map(|state| state.borrow().error.clone()).collect()
    }

    /// The cells that were dialled and have a link now, each with the URL that led to it.
    pub fn dialled(&self) -> Vec<(Fqcn, CellUrl)> {
        let states = self.inner().dials.iter().map(|state| state.borrow().clone());
        states.filter_map(|state| Some((state.peer?, state.url?))).collect()
    }

    /// How the link to a neighbour is protected; `None` if there is none.
    pub fn protection(&self, neighbour: &Fqcn) -> Option<TlsMode> {
        self.inner().links.table.get(neighbour.as_str()).map(|link| link.info.tls)
    }

    /// What a neighbour offers beyond the protocol of the reference, as it said in the handshake; `None` if there is no such
    /// neighbour, or it is not a cell of cellnet.
    pub fn features(&self, neighbour: &Fqcn) -> Option<Vec<ByteString>> {
        let link = self.inner().links.table.get(neighbour.as_str())?;
        link.cellnet.as_ref().map(|cellnet| cellnet.features.clone())
    }

    /// Answers requests on a channel and a topic; [`ANY`] stands for all. Replaces what was registered there.
    ///
    /// On channels that stream, requests come as blobs and plain ones are answered too. At most
    /// [`CellConfig::handlers`] run at once.
    pub fn handle<F, Fut, A>(&self, channel: &str, topic: &str, handler: F)
    where
        F: Fn(Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<A, HandlerError>> + Send + 'static,
        A: Into<Answer>,
    {
        self.inner().register(channel, topic, Handler::message(handler));
    }

    /// [`handle`](Self::handle) with a handler that neither waits nor computes for long.
    ///
    /// It is called by the task that reads the connection, without a task of its own and whatever number of other
    /// handlers run, which is the fastest way to answer. Nothing else from that neighbour is read meanwhile, so a
    /// handler that needs more than some ten microseconds belongs to [`handle`](Self::handle).
    pub fn handle_quick<F, A>(&self, channel: &str, topic: &str, handler: F)
    where
        F: Fn(Request) -> Result<A, HandlerError> + Send + Sync + 'static,
        A: Into<Answer>,
    {
        self.inner().register(channel, topic, Handler::quick(handler));
    }

    /// Stops answering on exactly this channel and topic. Handlers that run go on.
    pub fn unhandle(&self, channel: &str, topic: &str) {
        self.inner().unregister(channel, topic);
    }

    /// Adds a filter for a channel and a topic; [`ANY`] stands for all.
    pub fn add_filter(
        &self,
        stage: Stage,
        channel: &str,
        topic: &str,
        filter: impl Fn(&mut Passing<'_>) -> Result<(), Message> + Send + Sync + 'static,
    ) {
        self.inner().filters.add(stage, channel, topic, Arc::new(filter));
    }

    /// Looks at every request that arrives, transit included, after the filters of [`Stage::Incoming`]. `Err` sends it
    /// back with that message as a RETURN. Replaces the interceptor there was.
    pub fn intercept(
        &self,
        interceptor: impl Fn(&mut Passing<'_>) -> Result<(), Message> + Send + Sync + 'static,
    ) {
        self.inner().set_interceptor(Arc::new(interceptor));
    }

    /// Asks another cell. Await the result; see [`Ask`] for its options. Dropping it gives up.
    pub fn request(
        &self,
        target: &Fqcn,
        channel: impl Into<ByteString>,
        topic: impl Into<ByteString>,
        message: Message,
    ) -> Ask {
        Ask::new(self.inner().clone(), target.clone(), channel.into(), topic.into(), message)
    }

    /// Tells another cell and does not wait for an answer. `Ok` means that the next hop's queue took all of it.
    pub async fn fire_and_forget(
        &self,
        target: &Fqcn,
        channel: impl Into<ByteString>,
        topic: impl Into<ByteString>,
        message: Message,
    ) -> Result<(), RequestError> {
        self.request(target, channel, topic, message).tell().await
    }

    /// Asks several cells the same at once. One outcome for each target, in order; each counts its own time.
    pub async fn broadcast(
        &self,
        targets: &[Fqcn],
        channel: impl Into<ByteString>,
        topic: impl Into<ByteString>,
        message: Message,
        timeout: Duration,
    ) -> Vec<(Fqcn, Result<Message, RequestError>)> {
        let messages = targets.iter().map(|target| (target.clone(), message.clone())).collect();
        broadcast::ask_all(self.inner(), messages, &channel.into(), &topic.into(), timeout).await
    }

    /// Asks several cells different things at once, under one request id. One outcome for each, in order.
    pub async fn multi_request(
        &self,
        messages: Vec<(Fqcn, Message)>,
        channel: impl Into<ByteString>,
        topic: impl Into<ByteString>,
        timeout: Duration,
    ) -> Vec<(Fqcn, Result<Message, RequestError>)> {
        broadcast::ask_all(self.inner(), messages, &channel.into(), &topic.into(), timeout).await
    }

    /// Answers requests whose handler said [`Answer::Deferred`]: one message for one or many of them, all from
    /// `target`. Outgoing reply filters are not asked, as in the reference.
    pub async fn send_reply(
        &self,
        target: &Fqcn,
        requests: &[RequestId],
        message: Message,
    ) -> Result<(), RequestError> {
        self.inner().send_deferred(target, requests, message).await
    }

    /// Answers a request from within its handler, filters included, and says what became of the answer: `Ok` means that
    /// the next hop's queue has taken all of it. The handler then ends with [`Answer::Deferred`].
    ///
    /// A dropped future aborts what is on its way, and the requester gets no answer but an error or a time-out.
    pub async fn answer(&self, request: &Request, message: Message) -> Result<(), RequestError> {
        self.inner().answer(&request.origin, &request.reply_to, message).await
    }

    /// The value of this type that is kept with the cell, made if need be, and whether it was made now: for a service that
    /// must be there once however many parts of a program use it. A value that holds the cell keeps it alive for ever;
    /// hold a [`WeakCell`].
    pub fn extension<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> (Arc<T>, bool) {
        self.inner().extensions.get_or_make(make)
    }

    /// The cell for somebody who does not keep it alive, such as its own handlers.
    pub fn downgrade(&self) -> WeakCell {
        WeakCell { handle: Arc::downgrade(&self.handle) }
    }

    /// Completes when the cell begins to end, or is gone. It does not keep the cell alive. Cancel safe.
    pub fn stopping(&self) -> impl Future<Output = ()> + Send + 'static {
        self.inner().links.stop.clone().cancelled_owned()
    }

    /// Links that come and go, from now on.
    pub fn events(&self) -> Events {
        self.inner().events.subscribe()
    }

    /// What the cell counted.
    pub fn counters(&self) -> &Counters {
        &self.inner().links.counters
    }

    /// Ends the cell: takes no more connections, says bye, lets queues drain and handlers finish until `deadline`,
    /// then ends what is left. Requests that still wait fail with [`RequestError::ShuttingDown`]. A dropped future
    /// leaves the shutdown where it is; call it again to go on.
    pub async fn shutdown(&self, deadline: Duration) {
        shutdown::shutdown(self.inner(), deadline).await;
    }

    /// Ends the cell at once, whoever still holds a clone: its tasks are cancelled, its links cut, and what waits is
    /// lost. [`shutdown`](Self::shutdown) is the polite way.
    pub fn cancel(&self) {
        self.inner().cancel();
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.handle.inner
    }
}

/// A cell that may be gone.
#[derive(Clone)]
pub struct WeakCell {
    handle: Weak<Handle>,
}

impl WeakCell {
    /// The cell, if somebody still holds it.
    pub fn upgrade(&self) -> Option<Cell> {
        Some(Cell { handle: self.handle.upgrade()? })
    }
}

impl fmt::Debug for WeakCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakCell")
    }
}

impl fmt::Debug for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cell")
            .field("name", self.name())
            .field("listening", &self.listening())
            .finish_non_exhaustive()
    }
}
