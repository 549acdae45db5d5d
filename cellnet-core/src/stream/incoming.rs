//! One stream that arrives in several chunks.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use bytestring::ByteString;
use tokio::{sync::Notify, time::Instant};
use uuid::Uuid;

use super::{
    Arrival as Came, ChunkHeader, ChunkKind, Progress, RecvError, RecvState, StreamError,
    acks::Acks,
    arrive::{Arrival, Purpose, Refusal},
    collect::Collected,
    headers,
    progress::Watch,
    watchdog::Waiting,
    windows::Window,
};
use crate::{
    cell::{Handler, Inner, RequestError},
    fqcn::Fqcn,
    link::Link,
    message::ReturnCode,
    wire::{Headers, keys::sm},
};

/// A stream among all: whose, and its id.
pub(super) type Key = (ByteString, u64);

/// One stream that arrives in several chunks. Readers of links put chunks in, and what is whole goes on from there.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) key: Key,
    pub(super) origin: Fqcn,
    state: Mutex<State>,
    acks: Acks,
    /// For the timer: something happened that it should look at.
    pub(super) wake: Arc<Notify>,
}

#[derive(Debug)]
struct State {
    recv: RecvState,
    /// By which the last chunk came.
    link: Arc<Link>,
    /// Chunk 0 without its data.
    first: Option<First>,
    sink: Sink,
    window: Option<Window>,
    failure: Option<StreamError>,
    /// A whole blob that no handler could take yet.
    waiting: Option<Bytes>,
    /// Whoever reads a byte stream.
    waker: Option<Waker>,
    /// A handler runs that will say why it gave up.
    served: bool,
    /// The application has dropped its end.
    abandoned: bool,
    ended: bool,
}

type First = (ChunkHeader, Headers);

/// Where the data goes.
#[derive(Debug)]
enum Sink {
    /// Chunk 0 has not come.
    Unknown,
    Reply(Collected, Uuid, Arc<Watch>),
    Message(Collected),
    Stream,
}

impl Incoming {
    /// Admits a new stream, if there is memory for its window, and watches over it.
    pub(super) fn begin(
        inner: &Arc<Inner>,
        link: &Arc<Link>,
        origin: Fqcn,
        chunk: &ChunkHeader,
        purpose: Option<Purpose>,
    ) -> Result<Arc<Self>, StreamError> {
        let config = &inner.config.stream;
        // Only chunk 0 says for certain how much comes.
        let size = if chunk.sequence == 0 { chunk.size } else { 0 };
        let window = Some(inner.streams.windows.admit(&link.peer, config.admission(size))?);
        let now = Instant::now();
        let reads = match &purpose {
            Some(purpose) => matches!(purpose, Purpose::Stream(_)),
            None => chunk.channel.as_ref().zip(chunk.topic.as_ref()).is_some_and(|(channel, topic)| {
                matches!(inner.handler(channel, topic), Some(Handler::Stream(_)))
            }),
        };
        let recv = if reads { RecvState::stream(config, now) } else { RecvState::blob(config, now) };
        // The text of a peer may share a large buffer, and the stream may last.
        let key = (ByteString::from(origin.as_str()), chunk.id);
        let state = State {
            recv,
            link: link.clone(),
            first: None,
            sink: Sink::Unknown,
            window,
            failure: None,
            waiting: None,
            waker: None,
            served: false,
            abandoned: false,
            ended: false,
        };
        let incoming = Arc::new(Self {
            key,
            origin,
            state: Mutex::new(state),
            acks: Acks::default(),
            wake: Arc::default(),
        });
        inner.streams.insert_incoming(&incoming)?;
        inner.tasks.spawn(super::watchdog::watch_over(inner.clone(), incoming.clone()));
        Ok(incoming)
    }

    pub(super) fn came_by(&self, link: &Link) -> bool {
        let state = self.state();
        state.link.id == link.id && !state.recv.is_complete()
    }

    /// Takes a chunk; never waits.
    pub(super) fn take(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        link: &Arc<Link>,
        chunk: ChunkHeader,
        headers: Headers,
        body: Bytes,
    ) {
        let mut state = self.state();
        if state.ended {
            return;
        }
        if state.link.id != link.id {
            state.link = link.clone();
        }
        let came = match state.recv.on_chunk(&chunk, body, Instant::now()) {
            Ok(came) => came,
            Err(error) => {
                if chunk.sequence == 0 && state.first.is_none() {
                    state.first = Some((chunk, headers));
                }
                drop(state);
                return self.fail(inner, error.into());
            }
        };
        if came != Came::InOrder {
            return;
        }
        if chunk.sequence == 0 {
            drop(state);
            if !self.open(inner, link, chunk, headers) {
                return;
            }
            state = self.state();
        }
        match Self::flow(&mut state) {
            Ok(flow) => {
                let waker = state.waker.take();
                let link = state.link.clone();
                drop(state);
                self.go_on(inner, &link, flow, waker);
            }
            Err(error) => {
                drop(state);
                self.fail(inner, error);
            }
        }
    }

    /// Chunk 0 is here: finds out who the stream is for. False if it is for nobody.
    fn open(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        link: &Arc<Link>,
        chunk: ChunkHeader,
        headers: Headers,
    ) -> bool {
        let arrival = Arrival { inner, link, origin: self.origin.clone(), chunk, headers };
        match arrival.purpose() {
            Ok(purpose) => {
                let mut state = self.state();
                let collected = || Collected::new(arrival.chunk.size, &inner.streams.blobs);
                state.sink = match &purpose {
                    Purpose::Message => Sink::Message(collected()),
                    Purpose::Reply(id) => {
                        let watch = inner.streams.watch_reply(*id);
                        watch.set_reply(self.key.clone());
                        Sink::Reply(collected(), *id, watch)
                    }
                    Purpose::Stream(_) => Sink::Stream,
                };
                let (chunk, headers) = (arrival.chunk, arrival.headers);
                state.first = Some((chunk.clone(), headers.clone()));
                drop(state);
                if let Purpose::Stream(handler) = purpose {
                    super::bytes::serve(inner, link, self, handler, &chunk, headers);
                }
                true
            }
            Err(refusal) => {
                self.finish(inner, StreamError::Aborted("nobody takes it".into()));
                arrival.turn_away(refusal);
                false
            }
        }
    }

    /// Moves data that is in order to where it goes.
    fn flow(state: &mut State) -> Result<Flow, StreamError> {
        let State { recv, sink, .. } = state;
        let mut flow = Flow::default();
        let now = Instant::now();
        let (Sink::Message(collected) | Sink::Reply(collected, ..)) = sink else {
            flow.complete = recv.is_complete();
            return Ok(flow);
        };
        while let Some(piece) = recv.read() {
            collected.push(&piece)?;
            flow.ack = recv.consumed(piece.len() as u64, now).or(flow.ack);
        }
        if let Sink::Reply(_, _, watch) = sink {
            let (received, to_receive) = (recv.received(), recv.total().unwrap_or(0));
            flow.told = Some((watch.clone(), Progress { received, to_receive, ..Progress::default() }));
        }
        if recv.is_complete() {
            flow.complete = true;
            state.ended = true;
            state.window = None;
            let first = state.first.take();
            let (body, request) = match mem::replace(&mut state.sink, Sink::Unknown) {
                Sink::Reply(collected, id, _) => (collected.into_bytes(), Some(id)),
                Sink::Message(collected) => (collected.into_counted_bytes(), None),
                Sink::Stream | Sink::Unknown => return Ok(flow),
            };
            flow.whole = first.map(|first| Whole { first, body, request });
        }
        Ok(flow)
    }

    /// What follows from new data, with nothing locked.
    fn go_on(self: &Arc<Self>, inner: &Arc<Inner>, link: &Arc<Link>, flow: Flow, waker: Option<Waker>) {
        if let Some(waker) = waker {
            waker.wake();
        }
        if let Some(offset) = flow.ack {
            self.acknowledge(inner, link, offset);
        }
        if let Some((watch, Progress { received, to_receive, .. })) = flow.told {
            watch.received(received, to_receive);
        }
        if !flow.complete {
            return;
        }
        inner.streams.remove_incoming(&self.key);
        inner.discarded.insert(self.key.0.clone(), self.key.1);
        self.wake.notify_one();
        let Some(Whole { first: (chunk, headers), body, request }) = flow.whole else { return };
        let arrival = Arrival { inner, link, origin: self.origin.clone(), chunk, headers };
        match request {
            Some(request) => {
                arrival.complete(request, body);
                inner.streams.end_watch(request);
            }
            None => {
                if !self.hand_over(arrival, body) {
                    // The first timer may have seen the end of the stream already.
                    inner.tasks.spawn(super::watchdog::watch_over(inner.clone(), self.clone()));
                }
            }
        }
    }

    /// Gives a whole blob to its handler or answers that none is free. False if it has to wait, as nobody waits for an
    /// answer; the timer then tries again.
    fn hand_over(&self, mut arrival: Arrival<'_>, body: Bytes) -> bool {
        // From here on it matters only that the sender is done.
        arrival.chunk.kind = ChunkKind::Final;
        // The body counts in the budget of blobs.
        let cost = arrival.headers.memory();
        if arrival.inner.intake.has_room(arrival.link.id, cost, &self.wake) {
            arrival.dispatch(body, cost);
        } else if arrival.chunk.req_id.is_some() {
            arrival.overloaded();
        } else {
            let mut state = self.state();
            state.first = Some((arrival.chunk, arrival.headers));
            state.waiting = Some(body);
            return false;
        }
        true
    }

    /// Offers a blob that waits to its handler again, or gives it up.
    pub(super) fn offer_again(&self, inner: &Arc<Inner>, give_up: bool) {
        let mut state = self.state();
        let (Some(body), Some((chunk, headers))) = (state.waiting.take(), state.first.take()) else { return };
        let link = state.link.clone();
        drop(state);
        let arrival = Arrival { inner, link: &link, origin: self.origin.clone(), chunk, headers };
        if give_up {
            arrival.overloaded();
        } else {
            self.hand_over(arrival, body);
        }
    }

    /// Tells the sender how much was used: now, or later if there is no room.
    pub(super) fn acknowledge(&self, inner: &Arc<Inner>, link: &Arc<Link>, offset: u64) {
        self.acks.owe(offset);
        while let Some(acking) = self.acks.begin() {
            let ack = ChunkHeader::ack(self.key.1, acking.offset);
            let own = Headers::roomy();
            if !headers::tell(inner, link, &self.origin, sm::ACK_TOPIC, &ack, own) {
                drop(acking);
                self.wake.notify_one();
                return;
            }
            acking.done();
        }
    }

    /// The sender or a relay reports an error.
    pub(super) fn on_error(self: &Arc<Self>, inner: &Arc<Inner>, text: &str) {
        let error = self.state().recv.on_error(text);
        if let Some(error) = error {
            self.fail(inner, error.into());
        }
    }

    /// Ends the stream with an error and tells the sender, unless it is the sender's.
    pub(super) fn fail(self: &Arc<Self>, inner: &Arc<Inner>, error: StreamError) {
        let Some(Remains { link, first, complete }) = self.finish(inner, error.clone()) else { return };
        if complete || matches!(error, StreamError::Receive(RecvError::Peer(_))) {
            return;
        }
        tracing::debug!(origin = %self.origin, stream = self.key.1, error = error.told(), "incoming stream failed");
        let lost = matches!(error, StreamError::Carrier(_));
        match first.filter(|(chunk, _)| chunk.encoding.is_some() && !lost) {
            Some((chunk, headers)) => {
                let code = match error {
                    StreamError::NoMemory(_) => ReturnCode::SERVICE_UNAVAILABLE,
                    StreamError::Receive(RecvError::BlobTooLarge { .. }) => ReturnCode::MSG_TOO_BIG,
                    _ => ReturnCode::COMM_ERROR,
                };
                let origin = self.origin.clone();
                let chunk = ChunkHeader { kind: ChunkKind::Chunk, ..chunk };
                Arrival { inner, link: &link, origin, chunk, headers }
                    .turn_away(Refusal::new(code, error.told()));
            }
            None => {
                let failure = ChunkHeader::failure(self.key.1, 0, error.told());
                headers::tell(inner, &link, &self.origin, sm::ACK_TOPIC, &failure, Headers::new());
            }
        }
    }

    /// Ends the stream and frees what it holds. None if it has ended before.
    fn finish(&self, inner: &Arc<Inner>, error: StreamError) -> Option<Remains> {
        let mut state = self.state();
        if mem::replace(&mut state.ended, true) {
            return None;
        }
        let complete = state.recv.is_complete();
        state.failure = Some(error.clone());
        state.window = None;
        let sink = mem::replace(&mut state.sink, Sink::Unknown);
        let now = Instant::now();
        state.recv = RecvState::stream(&inner.config.stream, now);
        let (link, first, waker) = (state.link.clone(), state.first.take(), state.waker.take());
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        inner.streams.remove_incoming(&self.key);
        inner.discarded.insert(self.key.0.clone(), self.key.1);
        self.wake.notify_one();
        if let Sink::Reply(_, request, _) = &sink {
            inner.pending.complete(*request, None, Err(error.into_request()));
            inner.streams.end_watch(*request);
        }
        Some(Remains { link, first, complete })
    }

    /// What the timer should wait for.
    pub(super) fn waiting(&self) -> Waiting {
        let state = self.state();
        match state.recv.deadline() {
            _ if state.waiting.is_some() => Waiting::Handler,
            _ if state.ended || state.recv.is_complete() => Waiting::Over,
            deadline if self.acks.wait() => Waiting::Ack(deadline),
            deadline => Waiting::Chunk(deadline),
        }
    }

    /// Whether there is no use for it once the cell stops: its handler would not run.
    pub(super) fn ends_at_stop(&self) -> bool {
        matches!(self.state().sink, Sink::Unknown | Sink::Message(_))
    }

    pub(super) fn expire(&self) -> Result<(), RecvError> {
        self.state().recv.expire(Instant::now())
    }

    /// Sends an ACK as soon as there is room. It stays owed if there is none for too long. Cancel safe.
    pub(super) async fn acknowledge_later(&self, inner: &Arc<Inner>) {
        let Some(acking) = self.acks.begin() else { return };
        let link = self.state().link.clone();
        let link = if link.end.is_cancelled() { inner.next_hop(&self.origin) } else { Some(link) };
        let ack = ChunkHeader::ack(self.key.1, acking.offset);
        let own = Headers::roomy();
        if let Some(link) = link
            && let Some(headers) = headers::control(inner, &self.origin, sm::ACK_TOPIC, &ack, own)
            && let Err(error) = inner.send_by(&link, headers, Bytes::new()).await
        {
            tracing::debug!(origin = %self.origin, %error, "ACK not sent");
            if matches!(error, RequestError::NoRoom { .. }) {
                return;
            }
        }
        acking.done();
    }

    /// The next data for a reader; `None` at the end.
    pub(super) fn poll_read(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamError>> {
        let mut state = self.state();
        if let Some(failure) = &state.failure {
            return Poll::Ready(Err(failure.clone()));
        }
        if let Some(data) = state.recv.read() {
            return Poll::Ready(Ok(Some(data)));
        }
        if state.recv.is_complete() {
            state.window = None;
            return Poll::Ready(Ok(None));
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The reader has used so much.
    pub(super) fn consumed(&self, inner: &Arc<Inner>, bytes: u64) {
        let mut state = self.state();
        let ack = state.recv.consumed(bytes, Instant::now());
        let link = ack.map(|_| state.link.clone());
        drop(state);
        if let Some((offset, link)) = ack.zip(link) {
            self.acknowledge(inner, &link, offset);
        }
    }

    /// The reader has dropped its end.
    pub(super) fn abandon(self: &Arc<Self>, inner: &Arc<Inner>) {
        self.state().abandoned = true;
        if !self.state().served {
            self.end_if_abandoned(inner);
        }
    }

    pub(super) fn set_served(&self, served: bool) {
        self.state().served = served;
    }

    pub(super) fn end_if_abandoned(self: &Arc<Self>, inner: &Arc<Inner>) {
        if self.state().abandoned {
            self.fail(inner, StreamError::Aborted("receiver stopped reading".into()));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What new data leads to.
#[derive(Debug, Default)]
struct Flow {
    ack: Option<u64>,
    /// What whoever waits for the reply is told.
    told: Option<(Arc<Watch>, Progress)>,
    complete: bool,
    whole: Option<Whole>,
}

/// A blob that is all here.
#[derive(Debug)]
struct Whole {
    first: First,
    body: Bytes,
    /// The request that it answers.
    request: Option<Uuid>,
}

/// What is left of a stream that ended in an error.
struct Remains {
    link: Arc<Link>,
    first: Option<First>,
    /// All had come, so the sender is done.
    complete: bool,
}
