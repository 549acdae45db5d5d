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
    cell::{Ask, Inner, RequestError},
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
            reply = ticket.outcome() => break reply,
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
        message.headers.set(cn::OPTIONAL, optional);
        message.headers.remove(cn::REQ_ID);
        let size = message.payload.len();
        let worth_it = on_progress.is_some() || size > SMALL;
        let watch = worth_it.then(|| Arc::new(Watch::new(size as u64, on_progress)));
        let request_id = id.map(|id| ByteString::from(id.to_string()));
        let blob = Blob { target, channel, topic, request_id, message };
        Self { inner, link, stream, blob, watch, timeout }
    }

    fn clock(&self) -> Clock {
        let (now, written) = (Instant::now(), self.link.info.meter.tx());
        let mut clock = Clock {
            timeout: self.timeout,
            moved: now,
            looked: now,
            deadline: now,
            watch: self.watch.clone(),
            link: self.link.clone(),
            wire: written,
            sent: (0, written),
            backlog: (self.inner.config.link.outbox_bytes + self.inner.config.stream.chunk_size) as u64,
        };
        clock.set_deadline(now);
        clock
    }

    async fn send(self) -> Result<(), RequestError> {
        send_by(&self.inner, &self.link, self.stream, self.blob, self.watch).await
    }
}

/// Since when nothing moved.
struct Clock {
    timeout: Duration,
    moved: Instant,
    looked: Instant,
    /// When to look again.
    deadline: Instant,
    watch: Option<Arc<Watch>>,
    link: Arc<Link>,
    /// Bytes that the link had written when it last showed that it moves.
    wire: u64,
    /// Bytes of the request that were in the outbox, and what the link had written when that changed.
    sent: (u64, u64),
    /// Bytes that the link may write before the last of the outbox is out.
    backlog: u64,
}

/// Less than this is signs of life, not data.
const DATA: u64 = 4096;

/// A link that drains is looked at so often within the timeout.
const LOOKS: u32 = 8;

impl Clock {
    fn touch(&mut self) {
        self.moved = Instant::now();
        self.set_deadline(self.moved);
    }

    /// Moves the deadline if anything has moved, else fails.
    fn check(&mut self) -> Result<(), RequestError> {
        let now = Instant::now();
        if let Some(watch) = &self.watch {
            self.moved = self.moved.max(watch.moved());
        }
        if self.drains() {
            // At some time since the last look; the earliest, so that no timeout is late.
            self.moved = self.moved.max(self.looked);
        }
        self.looked = now;
        self.set_deadline(now);
        if later(self.moved, self.timeout) <= now { Err(RequestError::Timeout(self.timeout)) } else { Ok(()) }
    }

    fn set_deadline(&mut self, now: Instant) {
        let end = later(self.moved, self.timeout);
        self.deadline = if self.may_drain() { end.min(later(now, self.timeout / LOOKS)) } else { end };
    }

    /// Whether the link may still write bytes of the request: on a slow one a full outbox takes longer than any
    /// timeout.
    fn may_drain(&self) -> bool {
        self.watch.is_some() && self.link.info.meter.tx().saturating_sub(self.sent.1) < self.backlog
    }

    /// Whether it did.
    fn drains(&mut self) -> bool {
        let Some(watch) = &self.watch else { return false };
        let (written, sent) = (self.link.info.meter.tx(), watch.bytes_sent());
        if sent > self.sent.0 {
            self.sent = (sent, written);
        }
        let moved = written.saturating_sub(self.wire) >= DATA && self.may_drain();
        if moved {
            self.wire = written;
        }
        moved
    }
}

fn later(from: Instant, timeout: Duration) -> Instant {
    from.checked_add(timeout).unwrap_or_else(|| from + FOREVER)
}

/// What is larger may take its time on a slow link.
const SMALL: usize = 64 * 1024;

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
