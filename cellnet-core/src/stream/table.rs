//! The streams of a cell, in both directions.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use tokio::sync::Notify;
use uuid::Uuid;

use super::{
    ChunkHeader, ChunkKind, SendError, StreamError, headers,
    incoming::{Incoming, Key},
    outlet::Sending,
    params::clipped,
    progress::Watch,
    windows::Windows,
};
use crate::{
    cell::{CellConfig, Inner, RequestError},
    link::Link,
    stats::Budget,
    wire::{Headers, keys::sm},
};

/// The streams of a cell, in both directions.
#[derive(Debug)]
pub(crate) struct Streams {
    ids: AtomicU64,
    outgoing: Mutex<HashMap<u64, Outgoing>>,
    incoming: Mutex<HashMap<Key, Arc<Incoming>>>,
    /// Requests whose progress somebody looks at.
    watches: Mutex<HashMap<Uuid, Arc<Watch>>>,
    /// Windows of incoming streams.
    pub(super) windows: Arc<Windows>,
    /// Blobs as they grow, and until they are dropped.
    pub(super) blobs: Arc<Budget>,
}

/// A stream that this cell sends, or has sent and waits for its reply.
#[derive(Debug, Default)]
struct Outgoing {
    sending: Option<Arc<Sending>>,
    request: Option<Uuid>,
}

/// Streams that arrive at the same time.
pub(super) const MAX_INCOMING: usize = 16_384;

impl Streams {
    pub(crate) fn new(config: &CellConfig) -> Self {
        Self {
            ids: AtomicU64::new(first_id()),
            outgoing: Mutex::default(),
            incoming: Mutex::default(),
            watches: Mutex::default(),
            windows: Windows::new(config.stream_budget, &config.stream),
            blobs: Budget::new(config.blob_budget),
        }
    }

    /// Takes a message on the channel of streams. Gives it back if nothing can take it now and nobody waits for an
    /// answer. Never waits.
    pub(crate) fn deliver(
        &self,
        inner: &Arc<Inner>,
        link: &Arc<Link>,
        room: &Arc<Notify>,
        headers: Headers,
        body: Bytes,
    ) -> Result<(), (Headers, Bytes)> {
        let drop_it = |why: &str| {
            inner.links.counters.dropped.add(1);
            tracing::debug!(peer = %link.peer, why, "stream message dropped");
            Ok(())
        };
        let address = headers.address();
        let Some(origin) = address.origin.clone() else {
            return drop_it("it has no origin");
        };
        let from_sender = *address.topic == *sm::DATA_TOPIC;
        let chunk = match ChunkHeader::parse(&headers) {
            Ok(chunk) => chunk,
            Err(error) => {
                if let Some(id) = super::stream_id(&headers).filter(|_| from_sender) {
                    let failure = ChunkHeader::failure(id, 0, error.to_string());
                    headers::tell(inner, link, &origin, sm::ACK_TOPIC, &failure, Headers::new());
                }
                return drop_it(&error.to_string());
            }
        };
        match (from_sender, chunk.kind) {
            (true, ChunkKind::Chunk | ChunkKind::Final) => {
                super::arrive::deliver(inner, link, room, origin, chunk, headers, body)
            }
            (true, ChunkKind::Error) => {
                self.sender_failed(inner, (origin.as_text().clone(), chunk.id), &chunk);
                Ok(())
            }
            (false, ChunkKind::Ack) => {
                let sending = self.outgoing().get(&chunk.id).and_then(|stream| stream.sending.clone());
                if let Some(sending) = sending.filter(|sending| sending.target == origin) {
                    sending.on_ack(chunk.offset);
                }
                Ok(())
            }
            (false, ChunkKind::Error) => {
                self.receiver_failed(inner, &chunk);
                Ok(())
            }
            _ => drop_it("its kind makes no sense on its topic"),
        }
    }

    /// Fails the streams that went by a link which is lost.
    pub(crate) fn link_down(&self, inner: &Arc<Inner>, link: &Link, error: &RequestError) {
        let outgoing = self.outgoing();
        let lost: Vec<_> = outgoing.values().filter_map(|stream| stream.sending.clone()).collect();
        drop(outgoing);
        lost.iter().filter(|sending| sending.link.id == link.id).for_each(|sending| sending.lose(error));
        let incoming: Vec<_> = self.incoming().values().cloned().collect();
        for incoming in incoming.iter().filter(|incoming| incoming.came_by(link)) {
            incoming.fail(inner, StreamError::Carrier(error.clone()));
        }
    }

    /// An id for a stream of this cell.
    pub(crate) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Relaxed)
    }

    /// An ERROR of a receiver or a relay. It counts even if all was sent, as long as a reply is awaited.
    fn receiver_failed(&self, inner: &Arc<Inner>, chunk: &ChunkHeader) {
        let text = chunk.error.as_deref().unwrap_or("no reason given");
        let outgoing = self.outgoing();
        let Some(stream) = outgoing.get(&chunk.id) else { return };
        let (sending, request) = (stream.sending.clone(), stream.request);
        drop(outgoing);
        let error = sending.map(|sending| sending.on_error(text));
        if let Some(request) = request {
            let error = error.unwrap_or_else(|| SendError::Peer(clipped(text)));
            let error = StreamError::Send(error).into_request();
            inner.pending.complete(request, None, Err(error));
        }
    }

    /// An ERROR of a sender or a relay.
    fn sender_failed(&self, inner: &Arc<Inner>, key: Key, chunk: &ChunkHeader) {
        match self.find_incoming(&key) {
            Some(incoming) => incoming.on_error(inner, chunk.error.as_deref().unwrap_or("no reason given")),
            // It overtook the data.
            None => drop(inner.discarded.insert(key.0, key.1)),
        }
    }

    pub(super) fn begin_sending(&self, id: u64, sending: &Arc<Sending>) {
        self.outgoing().entry(id).or_default().sending = Some(sending.clone());
    }

    pub(super) fn end_sending(&self, id: u64) {
        let mut outgoing = self.outgoing();
        let Some(stream) = outgoing.get_mut(&id) else { return };
        let sending = stream.sending.take();
        if stream.request.is_none() {
            outgoing.remove(&id);
        }
        drop(outgoing);
        drop(sending);
    }

    pub(super) fn begin_request(&self, id: u64, request: Uuid) {
        self.outgoing().entry(id).or_default().request = Some(request);
    }

    /// Forgets a request; a reply that is arriving is given up.
    pub(super) fn end_request(&self, inner: &Arc<Inner>, id: u64, request: Uuid) {
        let stream = self.outgoing().remove(&id);
        drop(stream);
        let watch = self.watches().remove(&request);
        let reply = watch.and_then(|watch| watch.reply());
        if let Some(incoming) = reply.and_then(|key| self.find_incoming(&key)) {
            incoming.fail(inner, StreamError::Aborted("the requester no longer waits".into()));
        }
    }

    pub(super) fn set_watch(&self, request: Uuid, watch: &Arc<Watch>) {
        let replaced = self.watches().insert(request, watch.clone());
        drop(replaced);
    }

    pub(super) fn watch(&self, request: Uuid) -> Option<Arc<Watch>> {
        self.watches().get(&request).cloned()
    }

    /// The progress of a request whose reply begins to arrive.
    pub(super) fn watch_reply(&self, request: Uuid) -> Arc<Watch> {
        self.watches().entry(request).or_insert_with(|| Arc::new(Watch::new(0, None))).clone()
    }

    pub(super) fn end_watch(&self, request: Uuid) {
        // Out of the lock: with it may go a callback, and whatever that holds.
        let removed = self.watches().remove(&request);
        drop(removed);
    }

    pub(super) fn find_incoming(&self, key: &Key) -> Option<Arc<Incoming>> {
        self.incoming().get(key).cloned()
    }

    /// Takes a new stream unless there are too many.
    pub(super) fn insert_incoming(&self, incoming: &Arc<Incoming>) -> Result<(), StreamError> {
        let mut all = self.incoming();
        if all.len() >= MAX_INCOMING {
            return Err(StreamError::TooMany(MAX_INCOMING));
        }
        all.insert(incoming.key.clone(), incoming.clone());
        Ok(())
    }

    pub(super) fn remove_incoming(&self, key: &Key) {
        let removed = self.incoming().remove(key);
        drop(removed);
    }

    /// Streams that go and streams that come.
    #[cfg(test)]
    pub(super) fn load(&self) -> (usize, usize) {
        (self.outgoing().len(), self.incoming().len())
    }

    fn outgoing(&self) -> MutexGuard<'_, HashMap<u64, Outgoing>> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn incoming(&self) -> MutexGuard<'_, HashMap<Key, Arc<Incoming>>> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watches(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Watch>>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As the reference begins: microseconds since 1970 and some chance, so that a cell that starts again uses other ids.
fn first_id() -> u64 {
    let now = (crate::message::unix_time() * 1e6) as u64;
    now + (Uuid::new_v4().as_u128() as u64 & 0xf_ffff)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        cell::{Cell, HandlerError, Request},
        fqcn::Fqcn,
        message::Message,
        stream::IncomingStream,
        transport::mem::MemNet,
    };

    async fn pair() -> (MemNet, Cell, Cell) {
        let net = MemNet::new();
        let hub: crate::CellUrl = "mem://hub".parse().unwrap();
        let server = Cell::builder(Fqcn::server()).transport(net.host("hub")).listen(hub.clone());
        let server = server.start().await.unwrap();
        let site = Cell::builder("site-1".parse().unwrap()).transport(net.host("site-1")).dial(hub);
        let site = site.start().await.unwrap();
        site.connected().await;
        (net, server, site)
    }

    async fn assert_nothing_left(cells: [&Cell; 2]) {
        // Errors and timers of the far end take some turns.
        tokio::time::sleep(Duration::from_secs(1)).await;
        for cell in cells {
            let (name, streams) = (cell.name(), &cell.inner().streams);
            assert_eq!(streams.load(), (0, 0), "{name}");
            assert_eq!((streams.windows.used(), streams.blobs.used()), (0, 0), "{name}");
            assert!(streams.watches().is_empty(), "{name}");
            assert_eq!(cell.inner().pending.len(), 0, "{name}");
            assert_eq!(cell.inner().tasks.len(), 0, "{name}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_left_of_streams_that_ended_well() {
        let (_net, server, site) = pair().await;
        server.handle("app", "x", |request: Request| async move {
            Ok::<_, HandlerError>(Message::new(request.message.payload.to_bytes()))
        });
        server.handle_stream("app", "s", |mut stream: IncomingStream| async move {
            while stream.chunk().await.is_ok_and(|data| data.is_some()) {}
            Ok(())
        });
        for len in [1, 30 << 20] {
            let reply = site.request(server.name(), "app", "x", Message::new(vec![1; len])).await.unwrap();
            assert_eq!(reply.payload.len(), len);
            let mut stream = site.open_stream(server.name(), "app", "s", Headers::new(), None).unwrap();
            stream.write(vec![1; len]).await.unwrap();
            stream.finish().await.unwrap();
        }
        assert_nothing_left([&server, &site]).await;
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_left_of_streams_that_failed() {
        let (net, server, site) = pair().await;
        server.handle("app", "hang", |_: Request| async {
            tokio::time::sleep(Duration::from_secs(20)).await;
            Ok::<_, HandlerError>(Message::new(vec![1; 30 << 20]))
        });
        server.handle_stream("app", "drop", |_: IncomingStream| async { Ok(()) });
        let big = || Message::new(vec![1; 30 << 20]);
        assert!(site.request(server.name(), "app", "hang", big()).await.is_err());
        assert!(!site.request(server.name(), "app", "nobody", big()).await.unwrap().is_ok());
        for _ in 0..2 {
            let mut stream = site.open_stream(server.name(), "app", "drop", Headers::new(), None).unwrap();
            while stream.write(vec![1; 1 << 20]).await.is_ok() {}
        }
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_nothing_left([&server, &site]).await;
        net.set_latency("site-1", "hub", Duration::from_secs(1));
        let cut = async {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            net.cut("site-1", "hub");
        };
        let (lost, ()) = tokio::join!(async { site.request(server.name(), "app", "hang", big()).await }, cut);
        assert!(matches!(lost, Err(RequestError::LinkLost { .. })), "{lost:?}");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_nothing_left([&server, &site]).await;
    }
}
