use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
};

use async_trait::async_trait;
use cellnet_core::cell::RequestError;
use tokio::time::{Instant, advance};

use super::*;
use crate::{MemoryPipe, OpenError, PipeExport, Side};

/// A pipe whose acknowledgements, messages or heartbeats get lost.
#[derive(Debug)]
struct Lossy {
    inner: MemoryPipe,
    /// Messages of the application that were sent, resends included.
    sent: AtomicU32,
    heartbeats: AtomicU32,
    /// Messages arrive and their acknowledgements do not.
    loses_acks: AtomicBool,
    /// Nothing arrives.
    cut: AtomicBool,
    released: AtomicU32,
}

impl Lossy {
    fn new(inner: MemoryPipe) -> Arc<Self> {
        let (loses_acks, cut) = Default::default();
        let (sent, heartbeats, released) = Default::default();
        Arc::new(Self { inner, sent, heartbeats, loses_acks, cut, released })
    }
}

#[async_trait]
impl Pipe for Lossy {
    async fn open(&self, name: &str) -> Result<(), OpenError> {
        self.inner.open(name).await
    }

    async fn send(&self, message: &PipeMessage, timeout: Option<Duration>) -> Result<Delivery, PipeError> {
        let heartbeat = message.topic == Topic::HEARTBEAT;
        if heartbeat { &self.heartbeats } else { &self.sent }.fetch_add(1, Relaxed);
        let timeout = timeout.unwrap();
        if !self.cut.load(Relaxed) {
            let outcome = self.inner.send(message, Some(timeout)).await;
            if heartbeat || !self.loses_acks.load(Relaxed) {
                return outcome;
            }
        }
        if !heartbeat {
            sleep(timeout).await;
        }
        Ok(Delivery::Lost(RequestError::Timeout(timeout)))
    }

    async fn receive(&self, timeout: Option<Duration>) -> Result<Option<PipeMessage>, PipeError> {
        self.inner.receive(timeout).await
    }

    fn clear(&self) {
        self.inner.clear();
    }

    async fn close(&self) {
        self.inner.close().await;
    }

    fn release_send_cache(&self, _: &PipeMessage) {
        self.released.fetch_add(1, Relaxed);
    }

    fn last_peer_active(&self) -> Option<Instant> {
        self.inner.last_peer_active()
    }

    fn export(&self, side: Side) -> Option<PipeExport> {
        self.inner.export(side)
    }
}

async fn pair() -> (Arc<Lossy>, Arc<Lossy>) {
    let (left, right) = MemoryPipe::pair();
    left.open("task").await.unwrap();
    right.open("task").await.unwrap();
    (Lossy::new(left), Lossy::new(right))
}

fn handler(pipe: &Arc<Lossy>, change: impl FnOnce(&mut HandlerConfig)) -> PipeHandler {
    let mut config = HandlerConfig::default();
    change(&mut config);
    PipeHandler::new(pipe.clone(), config).unwrap()
}

fn message(id: &str) -> PipeMessage {
    PipeMessage::new_request("train".parse().unwrap(), "abc").with_id(id)
}

async fn next_message(handler: &PipeHandler) -> String {
    match handler.next().await {
        Some(PipeEvent::Message(message)) => message.msg_id,
        other => panic!("no message but {other:?}"),
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_comes_is_gone_at_exactly_the_timeout() {
    let (left, _right) = pair().await;
    let handler = handler(&left, |_| {});
    advance(7 * SECOND).await;
    let began = Instant::now();
    handler.start();
    let gone = handler.next().await;
    assert_eq!(gone, Some(PipeEvent::PeerGone("missing heartbeat after 30 secs".into())));
    assert_eq!(began.elapsed(), 30 * SECOND);
    assert_eq!(handler.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_keep_the_peer_alive_until_they_end() {
    let (left, right) = pair().await;
    let (left_handler, right_handler) = (handler(&left, |_| {}), handler(&right, |_| {}));
    left_handler.start();
    right_handler.start();
    let began = Instant::now();
    let ((), gone) = tokio::join!(
        async {
            sleep(299 * SECOND).await;
            right_handler.stop().await;
        },
        left_handler.next()
    );
    assert!(matches!(gone, Some(PipeEvent::PeerGone(_))));
    // The last heartbeat left at 295 s.
    assert_eq!(began.elapsed(), (295 + 30) * SECOND);
    assert_eq!(right.heartbeats.load(Relaxed), 60);
    assert_eq!(right_handler.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn without_a_timeout_a_silent_peer_is_never_gone() {
    let (left, _right) = pair().await;
    let handler = handler(&left, |config| config.heartbeat_timeout = None);
    handler.start();
    tokio::select! {
        event = handler.next() => panic!("{event:?}"),
        () = sleep(86_400 * SECOND) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_is_resent_as_often_as_configured() {
    let (left, _right) = pair().await;
    left.cut.store(true, Relaxed);
    let handler = handler(&left, |config| config.max_resends = Some(3));
    let began = Instant::now();
    let outcome = handler.send_to_peer(&message("a"), Some(4 * SECOND), None).await.unwrap();
    assert!(matches!(outcome, Delivery::Lost(_)));
    assert_eq!(left.sent.load(Relaxed), 4);
    assert_eq!(began.elapsed(), 4 * 4 * SECOND + 3 * 2 * SECOND);
    assert_eq!(left.released.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_timeout_or_an_interval_a_message_is_tried_once() {
    let (left, _right) = pair().await;
    left.cut.store(true, Relaxed);
    let began = Instant::now();
    let once = handler(&left, |_| {}).send_to_peer(&message("a"), None, None).await.unwrap();
    assert!(!once.is_taken());
    assert_eq!((left.sent.load(Relaxed), began.elapsed()), (1, 5 * SECOND));
    let never = handler(&left, |config| config.resend_interval = None);
    assert!(!never.send_to_peer(&message("b"), Some(SECOND), None).await.unwrap().is_taken());
    assert_eq!(left.sent.load(Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_acknowledgements_are_lost_is_delivered_once() {
    let (left, right) = pair().await;
    let (left_handler, right_handler) = (handler(&left, |_| {}), handler(&right, |_| {}));
    right_handler.start();
    left.loses_acks.store(true, Relaxed);
    let (first, second) = (message("a"), message("b"));
    let sends = async {
        tokio::join!(left_handler.send_to_peer(&first, Some(SECOND), None), async {
            sleep(4 * SECOND).await;
            left.loses_acks.store(false, Relaxed);
        })
        .0
    };
    assert!(sends.await.unwrap().is_taken());
    assert!(left.sent.load(Relaxed) > 1);
    left_handler.send_to_peer(&second, Some(SECOND), None).await.unwrap();
    assert_eq!(next_message(&right_handler).await, "a");
    assert_eq!(next_message(&right_handler).await, "b");
}

#[tokio::test(start_paused = true)]
async fn end_and_abort_are_delivered_after_what_came_before_and_end_the_reader() {
    for abort in [false, true] {
        let (left, right) = pair().await;
        let (left_handler, right_handler) = (handler(&left, |_| {}), handler(&right, |_| {}));
        right_handler.start();
        left_handler.send_to_peer(&message("a"), None, None).await.unwrap();
        if abort {
            left_handler.notify_abort("why".into()).await;
        } else {
            left_handler.notify_end("why".into()).await;
        }
        left_handler.send_to_peer(&message("late"), None, None).await.unwrap();
        assert_eq!(next_message(&right_handler).await, "a");
        let last = right_handler.next().await.unwrap();
        let (PipeEvent::End(told) | PipeEvent::Abort(told)) = &last else { panic!("{last:?}") };
        assert_eq!(told.data.as_bytes(), b"why");
        assert_eq!(matches!(last, PipeEvent::Abort(_)), abort);
        assert_eq!(right_handler.next().await, None);
        // The peer may still be at work, so it keeps being told that this side is there.
        sleep(11 * SECOND).await;
        assert_eq!(right.heartbeats.load(Relaxed), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn stop_does_not_notify_the_peer_and_leaves_the_pipe_open() {
    let (left, right) = pair().await;
    let handler = handler(&left, |_| {});
    handler.start();
    handler.stop().await;
    assert_eq!(left.sent.load(Relaxed), 0);
    assert_eq!(handler.next().await, None);
    let refused = handler.send_to_peer(&message("a"), None, None).await;
    assert!(matches!(refused, Err(SendError::Stopped)));
    assert!(right.send(&message("b"), Some(SECOND)).await.unwrap().is_taken());
    assert_eq!(left.receive(None).await.unwrap().unwrap().msg_id, "b");
}

#[tokio::test(start_paused = true)]
async fn while_paused_nothing_is_read_or_sent_and_silence_does_not_count() {
    let (left, right) = pair().await;
    let handler = handler(&left, |_| {});
    handler.start();
    sleep(SECOND).await;
    handler.pause();
    right.send(&message("a"), Some(SECOND)).await.unwrap();
    tokio::select! {
        event = handler.next() => panic!("{event:?}"),
        () = sleep(99 * SECOND) => {}
    }
    assert_eq!(left.heartbeats.load(Relaxed), 1);
    handler.resume();
    let began = Instant::now();
    assert_eq!(next_message(&handler).await, "a");
    assert!(matches!(handler.next().await, Some(PipeEvent::PeerGone(_))));
    assert_eq!(began.elapsed(), 30 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn an_abort_signal_ends_a_send_at_once() {
    let (left, _right) = pair().await;
    left.cut.store(true, Relaxed);
    let handler = handler(&left, |config| config.max_resends = None);
    let abort = CancellationToken::new();
    let began = Instant::now();
    let asked = message("a");
    let (outcome, ()) = tokio::join!(handler.send_to_peer(&asked, Some(SECOND), Some(&abort)), async {
        sleep(100 * SECOND).await;
        abort.cancel();
    });
    assert!(matches!(outcome, Err(SendError::Aborted)));
    assert_eq!(began.elapsed(), 100 * SECOND);
    assert_eq!(left.released.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_a_send_that_would_be_resent_for_ever() {
    let (left, _right) = pair().await;
    left.cut.store(true, Relaxed);
    let handler = handler(&left, |config| config.max_resends = None);
    handler.start();
    let asked = message("a");
    let (outcome, ()) = tokio::join!(handler.send_to_peer(&asked, Some(SECOND), None), async {
        sleep(20 * SECOND).await;
        handler.stop().await;
    });
    assert!(matches!(outcome, Err(SendError::Stopped)));
}

#[tokio::test(start_paused = true)]
async fn a_pipe_that_breaks_is_a_peer_that_is_gone() {
    let (left, _right) = pair().await;
    let reader = handler(&left, |_| {});
    reader.start();
    let began = Instant::now();
    let (gone, ()) = tokio::join!(reader.next(), left.close());
    assert!(matches!(gone, Some(PipeEvent::PeerGone(_))));
    assert_eq!(began.elapsed(), Duration::ZERO);
    let refused = reader.send_to_peer(&message("a"), None, None).await;
    assert!(matches!(refused, Err(SendError::Pipe(PipeError::NotOpen))));
}

#[tokio::test(start_paused = true)]
async fn callbacks_are_told_instead_of_the_queue() {
    let (left, right) = pair().await;
    let told: Arc<Mutex<Vec<PipeEvent>>> = Arc::default();
    let (messages, status) = (told.clone(), told.clone());
    let reader = handler(&right, |_| {})
        .on_message(move |message| messages.lock().unwrap().push(PipeEvent::Message(message)))
        .on_status(move |event| status.lock().unwrap().push(event));
    reader.start();
    left.send(&message("a"), Some(SECOND)).await.unwrap();
    left.send(&PipeMessage::end("done".into()), Some(SECOND)).await.unwrap();
    assert_eq!(reader.next().await, None);
    let told = told.lock().unwrap();
    assert!(matches!(&told[..], [PipeEvent::Message(_), PipeEvent::End(_)]), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_callback_that_panics_is_told_and_ends_the_reading() {
    let (left, right) = pair().await;
    let reader = handler(&right, |_| {}).on_message(|_| panic!("on purpose"));
    reader.start();
    left.send(&message("a"), Some(SECOND)).await.unwrap();
    let told = reader.next().await;
    assert_eq!(told, Some(PipeEvent::PeerGone("the application's callback panicked".into())));
    assert_eq!(reader.next().await, None);
    left.send(&message("b"), Some(SECOND)).await.unwrap();
    sleep(11 * SECOND).await;
    assert_eq!(right.heartbeats.load(Relaxed), 3);
    assert_eq!(right.receive(None).await.unwrap().unwrap().msg_id, "b");
}

/// A peer that always has one more message.
#[tokio::test(start_paused = true)]
async fn messages_without_end_starve_neither_heartbeats_nor_others() {
    let (left, right) = pair().await;
    let (again, count) = (left.clone(), AtomicU32::new(0));
    let reader = handler(&right, |_| {}).on_message(move |_| {
        let id = count.fetch_add(1, Relaxed).to_string();
        again.inner.offer(&message(&id));
    });
    reader.start();
    left.inner.offer(&message("first"));
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    advance(11 * SECOND).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(right.heartbeats.load(Relaxed), 2);
    reader.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_application_that_does_not_take_messages_stops_their_sender() {
    let (left, right) = pair().await;
    let reader = handler(&right, |config| config.queue.messages = 2);
    reader.start();
    let mut taken = 0;
    while left.send(&message(&taken.to_string()), Some(SECOND)).await.unwrap().is_taken() {
        taken += 1;
        tokio::task::yield_now().await;
    }
    // What waits in the pipe and what waits in the handler.
    assert_eq!(taken, 1024 + 2);
    let late = message("late");
    let sender = handler(&left, |_| {});
    let (outcome, ()) = tokio::join!(sender.send_to_peer(&late, Some(SECOND), None), async {
        for id in 0..taken {
            assert_eq!(next_message(&reader).await, id.to_string());
        }
        assert_eq!(next_message(&reader).await, "late");
    });
    assert!(outcome.unwrap().is_taken());
}

#[tokio::test(start_paused = true)]
async fn a_configuration_without_sense_is_refused() {
    let (left, _) = MemoryPipe::pair();
    let left: Arc<dyn Pipe> = Arc::new(left);
    let check = |change: fn(&mut HandlerConfig)| {
        let mut config = HandlerConfig::default();
        change(&mut config);
        PipeHandler::new(left.clone(), config).err()
    };
    assert_eq!(check(|_| {}), None);
    assert_eq!(
        check(|config| config.heartbeat_interval = Duration::ZERO),
        Some(HandlerConfigError::NoInterval)
    );
    let equal = check(|config| config.heartbeat_timeout = Some(config.heartbeat_interval));
    assert!(matches!(equal, Some(HandlerConfigError::Timeout { .. })));
    assert_eq!(check(|config| config.queue.messages = 0), Some(HandlerConfigError::NoQueue));
}
