//! Requests that travel as blobs, and their replies.

use std::{pin::pin, sync::Arc, time::Duration};

use bytestring::ByteString;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use super::{
    blob::{Blob, send_by},
    progress::Watch,
};
use crate::{
    cell::{Ask, Inner, RequestError, name},
    link::Link,
    message::Message,
    wire::keys::cn,
};

/// Makes a request as a blob and waits for the reply. A dropped future aborts what is on its way.
pub(crate) async fn ask(ask: Ask) -> Result<Message, RequestError> {
    let link = ask.next_hop()?;
    let inner = ask.inner.clone();
    let stream = inner.streams.next_id();
    // Several targets of one broadcast share the id of the request, and a reply is known by this id alone.
    let id = Uuid::from_u128(ask.id.as_u128() ^ u128::from(stream));
    let mut ticket = inner.pending.begin(id, None, link.id)?;
    let transfer = Transfer::begin(ask, link, stream, Some(id));
    let open = Open { inner: &inner, stream, id };
    inner.streams.begin_request(stream, id);
    if let Some(watch) = &transfer.watch {
        inner.streams.set_watch(id, watch);
    }
    let mut clock = transfer.clock();
    let mut sending = pin!(transfer.send());
    let mut sent = false;
    let outcome = loop {
        tokio::select! {
            biased;
            reply = &mut ticket.reply => break reply.unwrap_or(Err(RequestError::ShuttingDown)),
            done = &mut sending, if !sent => match done {
                Ok(()) => {
                    sent = true;
                    clock.touch();
                }
                Err(error) => break Err(error),
            },
            () = sleep_until(clock.deadline) => {
                if clock.watch.is_none() {
                    clock.watch = inner.streams.watch(id);
                }
                clock.check()?;
            }
        }
    };
    drop(open);
    outcome
}

/// Sends a blob and waits for no reply. `Ok` means that the outbox of the next hop took all of it.
pub(crate) async fn tell(ask: Ask) -> Result<(), RequestError> {
    let link = ask.next_hop()?;
    let stream = ask.inner.streams.next_id();
    let transfer = Transfer::begin(ask, link, stream, None);
    let mut clock = transfer.clock();
    let mut sending = pin!(transfer.send());
    loop {
        tokio::select! {
            biased;
            done = &mut sending => return done,
            () = sleep_until(clock.deadline) => clock.check()?,
        }
    }
}

/// A request on its way out.
struct Transfer {
    inner: Arc<Inner>,
    link: Arc<Link>,
    stream: u64,
    blob: Blob,
    watch: Option<Arc<Watch>>,
    timeout: Duration,
}

impl Transfer {
    fn begin(ask: Ask, link: Arc<Link>, stream: u64, id: Option<Uuid>) -> Self {
        let Ask { inner, target, channel, topic, mut message, timeout, optional, on_progress, .. } = ask;
        message.headers.set(name(cn::OPTIONAL), optional);
        message.headers.remove(cn::REQ_ID);
        let size = message.payload.len();
        let worth_it = on_progress.is_some() || size > inner.config.stream.chunk_size;
        let watch = worth_it.then(|| Arc::new(Watch::new(size as u64, on_progress)));
        let request_id = id.map(|id| ByteString::from(id.to_string()));
        let blob = Blob { target, channel, topic, request_id, message };
        Self { inner, link, stream, blob, watch, timeout }
    }

    fn clock(&self) -> Clock {
        let now = Instant::now();
        Clock {
            timeout: self.timeout,
            moved: now,
            deadline: later(now, self.timeout),
            watch: self.watch.clone(),
            link: self.link.clone(),
            wire: self.link.info.meter.tx(),
            sent: (0, self.link.info.meter.tx()),
            backlog: (self.inner.config.link.outbox_bytes + self.inner.config.stream.chunk_size) as u64,
        }
    }

    async fn send(self) -> Result<(), RequestError> {
        send_by(&self.inner, &self.link, self.stream, self.blob, self.watch).await
    }
}

/// Since when nothing moved.
struct Clock {
    timeout: Duration,
    moved: Instant,
    deadline: Instant,
    watch: Option<Arc<Watch>>,
    link: Arc<Link>,
    /// Bytes that the link had written when it was last looked at.
    wire: u64,
    /// Bytes of the stream that were in the outbox, and what the link had written when that changed.
    sent: (u64, u64),
    /// Bytes that the link may write before the last of the outbox is out.
    backlog: u64,
}

/// Less than this from one look to the next is signs of life, not data.
const DATA: u64 = 4096;

impl Clock {
    fn touch(&mut self) {
        self.moved = Instant::now();
    }

    /// Moves the deadline if anything has moved, else fails.
    fn check(&mut self) -> Result<(), RequestError> {
        let now = Instant::now();
        if let Some(watch) = &self.watch {
            self.moved = self.moved.max(watch.moved());
        }
        if self.drains() {
            self.moved = now;
        }
        self.deadline = later(self.moved, self.timeout);
        if self.deadline <= now { Err(RequestError::Timeout(self.timeout)) } else { Ok(()) }
    }

    /// Whether the link writes what may be our bytes: on a slow one a full outbox takes longer than any timeout.
    fn drains(&mut self) -> bool {
        let (written, sent) =
            (self.link.info.meter.tx(), self.watch.as_ref().map_or(0, |watch| watch.bytes_sent()));
        if sent > self.sent.0 {
            self.sent = (sent, written);
        }
        let moved = written.saturating_sub(std::mem::replace(&mut self.wire, written)) >= DATA;
        self.watch.is_some() && moved && written.saturating_sub(self.sent.1) < self.backlog
    }
}

fn later(from: Instant, timeout: Duration) -> Instant {
    from.checked_add(timeout).unwrap_or_else(|| from + FOREVER)
}

/// A timeout too long for a clock.
const FOREVER: Duration = Duration::from_secs(86_400 * 365 * 30);

/// Forgets a request when its future ends, however it ends.
struct Open<'a> {
    inner: &'a Arc<Inner>,
    stream: u64,
    id: Uuid,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.inner.streams.end_request(self.inner, self.stream, self.id);
    }
}
