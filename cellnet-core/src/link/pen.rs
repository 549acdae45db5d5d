//! The sending half of a lane, and what it takes to write with it.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Outgoing,
    frames::{Numbers, frame, push_signals},
    outbox::{Outbox, Signals, Taken},
};
use crate::{
    stats::Counters,
    transport::{Batch, FrameSender, TransportError},
    wire::{HeadEncoder, keys::cn},
};

/// The sending half of a lane. Clones are the same one; whoever holds its [`Ink`] writes, for as long as that does not
/// wait.
#[derive(Debug, Clone)]
pub(super) struct Pen(Arc<Mutex<Ink>>);

impl Pen {
    pub(super) fn new(
        tx: Box<dyn FrameSender>,
        heads: HeadEncoder,
        numbers: Arc<Numbers>,
        counters: Arc<Counters>,
    ) -> Self {
        Self(Arc::new(Mutex::new(Ink {
            tx: Some(tx),
            heads,
            numbers,
            counters,
            taken: Vec::new(),
            batch: Batch::new(),
            writing: false,
            failure: None,
            rested: Instant::now(),
            rush: false,
            alone: false,
        })))
    }

    pub(super) fn ink(&self) -> MutexGuard<'_, Ink> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ink, if nobody writes.
    pub(super) fn free(&self) -> Option<MutexGuard<'_, Ink>> {
        let ink = self.0.try_lock().ok()?;
        (ink.tx.is_some() && !ink.writing).then_some(ink)
    }

    /// The ink, if nobody writes and nobody did a moment ago.
    pub(super) fn quiet(&self) -> Option<MutexGuard<'_, Ink>> {
        self.free().filter(|ink| ink.rested.elapsed() >= QUIET)
    }

    /// The ink, if it is [quiet](Self::quiet) and a single message is likely to come.
    pub(super) fn idle(&self) -> Option<MutexGuard<'_, Ink>> {
        self.free().filter(|ink| ink.rested.elapsed() >= if ink.rush { RUSH } else { QUIET })
    }
}

/// Who sends again so soon has more to send, which is better written together.
const QUIET: Duration = Duration::from_micros(20);

/// For so long after several messages came together, the next one is likely to be followed by others.
const RUSH: Duration = Duration::from_millis(10);

/// What is in a pen.
pub(super) struct Ink {
    /// Gone when the lane has ended.
    pub(super) tx: Option<Box<dyn FrameSender>>,
    numbers: Arc<Numbers>,
    counters: Arc<Counters>,
    /// What is being written.
    pub(super) taken: Vec<Outgoing>,
    batch: Batch,
    heads: HeadEncoder,
    /// Whether something was taken, be it a signal alone, and not all of it is written.
    writing: bool,
    /// What a write that did not wait has found.
    failure: Option<TransportError>,
    /// When all was written.
    rested: Instant,
    /// Whether several messages came together last time.
    rush: bool,
    /// Whether one was written alone since then, and nothing else.
    alone: bool,
}

impl Ink {
    /// Takes what waits for a lane, up to a batch, to be written: signals first.
    pub(super) fn dip(&mut self, outbox: &Outbox, lane: usize) -> Taken {
        let before = self.taken.len();
        match outbox.take(lane, &mut self.taken) {
            Taken::Work(signals) => {
                push_signals(signals, &mut self.batch, &self.numbers);
                let joins = std::mem::take(&mut self.alone) && self.rested.elapsed() < RUSH;
                self.rush = self.taken.len() - before + usize::from(joins) > 1;
                self.draw(before);
                Taken::Work(signals)
            }
            // Somebody else's write, even if nobody has come to say so yet.
            Taken::Nothing | Taken::End if self.writing => Taken::Work(Signals::default()),
            nothing => nothing,
        }
    }

    /// Makes frames of what was taken, from the message with this number on. One that cannot be a frame is dropped and
    /// counted.
    fn draw(&mut self, first: usize) {
        self.writing = true;
        for message in &self.taken[first..] {
            match frame(message, &mut self.heads, &self.numbers) {
                Ok(frame) => self.batch.push_back(frame),
                Err(error) => {
                    self.counters.dropped.add(1);
                    tracing::warn!(peer = message.headers.text(cn::TO), %error, "message dropped");
                }
            }
        }
    }

    /// Writes what was taken.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        if let Some(failure) = self.failure.take() {
            return Poll::Ready(Err(failure));
        }
        let Some(tx) = &mut self.tx else { return Poll::Ready(Err(TransportError::Closed)) };
        loop {
            tx.feed(&mut self.batch);
            // Cancel safe: what is not written stays in the driver.
            ready!(tx.flush().as_mut().poll(cx))?;
            if self.batch.is_empty() {
                break;
            }
        }
        self.taken.clear();
        self.writing = false;
        self.rested = Instant::now();
        Poll::Ready(Ok(()))
    }

    /// Messages and frames that there is memory for.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.taken.capacity() + self.batch.capacity()
    }

    /// Gives back what earlier messages needed.
    pub(super) fn relax(&mut self) {
        self.rush = false;
        self.taken.shrink_to_fit();
        self.batch.shrink_to_fit();
        if let Some(tx) = &mut self.tx {
            tx.relax();
        }
    }

    /// Writes one message as far as that goes without waiting. Says whether all of it is written.
    pub(super) fn write_now(&mut self, message: Outgoing) -> bool {
        self.taken.push(message);
        self.alone = true;
        self.draw(self.taken.len() - 1);
        self.flush_now()
    }

    /// Writes what waits on the control lane, up to a batch, as far as that goes without waiting. Says whether all of it
    /// is written.
    pub(super) fn write_batch(&mut self, outbox: &Outbox) -> bool {
        match self.dip(outbox, 0) {
            Taken::Work(_) => self.flush_now(),
            Taken::Nothing | Taken::End => true,
        }
    }

    fn flush_now(&mut self) -> bool {
        match self.poll_flush(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(error)) => {
                self.failure = Some(error);
                false
            }
            Poll::Pending => false,
        }
    }
}

impl fmt::Debug for Ink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ink").field("taken", &self.taken.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use async_trait::async_trait;
    use bytes::Bytes;

    use super::*;
    use crate::{
        link::{
            LinkConfig,
            outbox::{BATCH_MESSAGES, Outbox},
        },
        stats::Budget,
        wire::Headers,
    };

    /// What a driver does with frames.
    #[derive(Debug, Default, Clone)]
    struct Driver(Arc<Mutex<State>>);

    #[derive(Debug, Default)]
    struct State {
        fed: usize,
        blocked: bool,
        broken: bool,
        relaxed: bool,
    }

    impl Driver {
        fn state(&self) -> MutexGuard<'_, State> {
            self.0.lock().unwrap()
        }
    }

    #[async_trait]
    impl FrameSender for Driver {
        fn feed(&mut self, batch: &mut Batch) {
            self.state().fed += batch.drain(..).len();
        }

        async fn flush(&mut self) -> Result<(), TransportError> {
            poll_fn(|_| match *self.state() {
                State { broken: true, .. } => Poll::Ready(Err(TransportError::Closed)),
                State { blocked: true, .. } => Poll::Pending,
                _ => Poll::Ready(Ok(())),
            })
            .await
        }

        async fn close(&mut self) -> Result<(), TransportError> {
            Ok(())
        }

        fn relax(&mut self) {
            self.state().relaxed = true;
        }
    }

    /// A lane that has been idle for a moment.
    async fn lane() -> (Driver, Pen, Outbox) {
        let driver = Driver::default();
        let pen = Pen::new(Box::new(driver.clone()), HeadEncoder::default(), Arc::default(), Arc::default());
        let outbox = Outbox::with_lanes(&LinkConfig::default(), 0, Arc::default(), Budget::new(64 << 20));
        outbox.lend(0, pen.clone());
        tokio::time::sleep(QUIET).await;
        (driver, pen, outbox)
    }

    fn message() -> Outgoing {
        Outgoing::new(Headers::new(), Bytes::new())
    }

    /// What the control lane's writer would take.
    fn take(outbox: &Outbox) -> (Signals, usize) {
        let mut messages = Vec::new();
        match outbox.take(0, &mut messages) {
            Taken::Work(signals) => (signals, messages.len()),
            nothing => panic!("{nothing:?}"),
        }
    }

    /// Waits until the writer is told to come by.
    async fn told(outbox: &Outbox) {
        tokio::time::timeout(Duration::from_secs(1), outbox.ready(0)).await.expect("the writer is told");
    }

    async fn write(pen: &Pen) -> Poll<Result<(), TransportError>> {
        poll_fn(|cx| Poll::Ready(pen.ink().poll_flush(cx))).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_writes_the_first_message_and_the_writer_those_that_follow_at_once() {
        let (driver, _, outbox) = lane().await;
        for _ in 0..3 {
            outbox.try_push(message()).unwrap();
        }
        assert_eq!(driver.state().fed, 1);
        assert_eq!(take(&outbox).1, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn in_a_rush_the_first_message_waits_for_those_that_follow() {
        let (driver, pen, outbox) = lane().await;
        let later = RUSH + QUIET;
        let cases = [
            // How many come how long after the others, and whether the first of them is written alone.
            (2, QUIET, true),
            (5, QUIET, false),
            (2, QUIET, false),
            (1, QUIET, false),
            (2, QUIET, true),
            (2, later, true),
            (1, QUIET, false),
            (1, later, true),
        ];
        for (messages, pause, alone) in cases {
            tokio::time::sleep(pause).await;
            let alone = usize::from(alone);
            let before = driver.state().fed;
            for _ in 0..messages {
                outbox.try_push(message()).unwrap();
            }
            assert_eq!(driver.state().fed - before, alone);
            if messages > alone {
                assert!(matches!(pen.ink().dip(&outbox, 0), Taken::Work(_)));
                assert!(write(&pen).await.is_ready());
            }
            assert_eq!(driver.state().fed - before, messages);
            assert_eq!(pen.ink().dip(&outbox, 0), Taken::Nothing);
        }
        // One that was written alone, and another one much later, are no two that came together.
        tokio::time::sleep(later).await;
        outbox.ping();
        outbox.try_push(message()).unwrap();
        assert!(matches!(pen.ink().dip(&outbox, 0), Taken::Work(_)));
        assert!(write(&pen).await.is_ready());
        assert_eq!(pen.ink().dip(&outbox, 0), Taken::Nothing);
        tokio::time::sleep(QUIET).await;
        let before = driver.state().fed;
        outbox.try_push(message()).unwrap();
        assert_eq!(driver.state().fed - before, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_overtakes_what_the_writer_has_taken() {
        let (driver, _, outbox) = lane().await;
        outbox.ping();
        assert!(take(&outbox).0.ping);
        outbox.try_push(message()).unwrap();
        assert_eq!(driver.state().fed, 0);
        assert_eq!(take(&outbox).1, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_completes_a_batch_writes_it_unless_somebody_is_writing() {
        let (driver, pen, outbox) = lane().await;
        let send = |count| (0..count).for_each(|_| outbox.try_push(message()).unwrap());
        send(1 + BATCH_MESSAGES - 1);
        assert_eq!(driver.state().fed, 1);
        send(1);
        assert_eq!(driver.state().fed, 1 + BATCH_MESSAGES);
        driver.state().blocked = true;
        send(BATCH_MESSAGES - 1);
        told(&outbox).await;
        send(1);
        assert_eq!(driver.state().fed, 1 + 2 * BATCH_MESSAGES);
        told(&outbox).await;
        send(2 * BATCH_MESSAGES);
        assert_eq!(driver.state().fed, 1 + 2 * BATCH_MESSAGES, "what is half written comes first");
        told(&outbox).await;
        assert!(matches!(pen.ink().dip(&outbox, 0), Taken::Work(Signals { rest: true, .. })));
        driver.state().blocked = false;
        assert!(write(&pen).await.is_ready());
        assert_eq!(driver.state().fed, 1 + 3 * BATCH_MESSAGES);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_that_is_half_written_is_finished_before_the_lane_ends() {
        let (driver, pen, outbox) = lane().await;
        driver.state().blocked = true;
        for _ in 0..1 + BATCH_MESSAGES {
            outbox.try_push(message()).unwrap();
        }
        outbox.close();
        // Who wrote the batch has not yet said that some of it is left.
        outbox.take(0, &mut Vec::new());
        assert_eq!(pen.ink().dip(&outbox, 0), Taken::Work(Signals::default()));
        driver.state().blocked = false;
        assert!(write(&pen).await.is_ready());
        assert_eq!(pen.ink().dip(&outbox, 0), Taken::End);
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_go_at_once_is_finished_by_the_writer() {
        let (driver, pen, outbox) = lane().await;
        driver.state().blocked = true;
        outbox.try_push(message()).unwrap();
        outbox.try_push(message()).unwrap();
        assert_eq!(driver.state().fed, 1);
        assert_eq!(pen.ink().dip(&outbox, 0), Taken::Work(Signals { rest: true, ..Signals::default() }));
        assert!(write(&pen).await.is_pending());
        assert_eq!(pen.ink().taken.len(), 2, "whoever ends the link tells what became of them");
        driver.state().blocked = false;
        assert!(matches!(write(&pen).await, Poll::Ready(Ok(()))));
        assert!(pen.ink().taken.is_empty() && driver.state().fed == 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_rush_needed_is_given_back_when_nothing_is_under_way() {
        let (driver, pen, outbox) = lane().await;
        for _ in 0..1000 {
            outbox.try_push(message()).unwrap();
        }
        while driver.state().fed < 1000 {
            assert!(matches!(pen.ink().dip(&outbox, 0), Taken::Work(_)));
            outbox.relax();
            assert!(!driver.state().relaxed, "somebody writes");
            assert!(write(&pen).await.is_ready());
        }
        tokio::time::sleep(QUIET).await;
        outbox.relax();
        assert!(driver.state().relaxed);
        assert_eq!(outbox.capacity(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_ping_that_is_half_written_is_something_under_way() {
        let (driver, pen, outbox) = lane().await;
        driver.state().blocked = true;
        outbox.ping();
        assert!(matches!(pen.ink().dip(&outbox, 0), Taken::Work(_)));
        assert!(write(&pen).await.is_pending());
        outbox.relax();
        assert!(!driver.state().relaxed);
    }

    #[tokio::test(start_paused = true)]
    async fn the_writer_hears_of_a_write_that_failed() {
        let (driver, pen, outbox) = lane().await;
        driver.state().broken = true;
        outbox.try_push(message()).unwrap();
        assert!(take(&outbox).0.rest);
        driver.state().broken = false;
        assert!(matches!(write(&pen).await, Poll::Ready(Err(TransportError::Closed))));
        assert_eq!(pen.ink().taken.len(), 1);
    }
}
