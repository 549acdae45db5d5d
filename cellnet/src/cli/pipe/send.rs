//! The side that asks and checks the answers.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use cellnet::{
    RequestError, ReturnCode,
    pipe::{
        CellPipe, Delivery, HandlerConfig, MessageType, Pipe, PipeEvent, PipeHandler, PipeMessage, SendError,
        Topic,
    },
};
use serde::Serialize;
use tokio::time::Instant;

use super::Args;
use crate::cli::{
    data,
    figures::{Figures, Times, Watch},
    net, show,
    status::{Failure, Status, chain},
};

/// What to send, and how often.
#[derive(Debug)]
pub(super) struct Work {
    count: u64,
    topic: Topic,
    data: Bytes,
    timeout: Duration,
}

impl Work {
    pub(super) fn new(count: u64, args: &Args) -> Result<Self, Failure> {
        let data = match &args.file {
            Some(path) => data::read_file(path)?,
            None => data::noise(args.size, 1),
        };
        Ok(Self { count, topic: args.topic.clone(), data, timeout: args.timeout })
    }
}

/// Sends everything and tells how it went.
pub(super) async fn run(pipe: Arc<CellPipe>, channel: &str, work: Work, json: bool) -> Result<(), Failure> {
    let peer = super::open(&pipe, channel).await?;
    let cell = pipe.cell().expect("the pipe is open");
    let began = Instant::now();
    let reached = net::reach(&cell, &peer, began, work.timeout).await.map_err(Failure::from);
    let (ended, figures) = match reached.and_then(|()| super::check_neighbour(&pipe, &cell)) {
        Ok(()) => send_all(&pipe, &work, began).await,
        Err(unreached) => (Err(unreached), None),
    };
    if json {
        let failure = ended.as_ref().err();
        show::print_json(&Report {
            name: pipe.fqcn().as_str(),
            peer: peer.as_str(),
            via: net::via(&cell),
            return_code: failure
                .map_or(Some(ReturnCode::OK), |failure| failure.code.clone())
                .as_ref()
                .map(ReturnCode::as_str),
            error: failure.map(ToString::to_string),
            bytes: work.data.len(),
            figures: figures.as_ref(),
        })?;
    } else if let Some(figures) = figures.filter(|_| ended.is_ok()) {
        show::print_line(figures.table().trim_end())?;
    }
    pipe.close().await;
    ended
}

/// The one object of `--json`. `bytes` is the size of each message; without a return code nobody was asked, or what
/// came back was wrong.
#[derive(Debug, Serialize)]
struct Report<'a> {
    name: &'a str,
    peer: &'a str,
    /// The URL by which the cell that the pipe attaches to was reached.
    via: Vec<String>,
    return_code: Option<&'a str>,
    error: Option<String>,
    bytes: usize,
    #[serde(flatten)]
    figures: Option<&'a Figures>,
}

/// Sends one message after the other, then says END. The figures count what was echoed. The time for reaching the peer
/// counts since `reaching`.
async fn send_all(
    pipe: &Arc<CellPipe>,
    work: &Work,
    reaching: Instant,
) -> (Result<(), Failure>, Option<Figures>) {
    let mut config = HandlerConfig::default();
    config.default_request_timeout = work.timeout;
    let handler = match PipeHandler::new(pipe.clone(), config) {
        Ok(handler) => handler,
        Err(error) => return (Err(Failure::new(Status::Failed, chain(&error))), None),
    };
    handler.start();
    let mut times = Times::new();
    let watch = Watch::start();
    // The checking of the answers is not what is measured.
    let mut exchanging = Duration::ZERO;
    let mut ended = Ok(());
    for number in 1..=work.count {
        let message = PipeMessage::new_request(work.topic.clone(), work.data.clone());
        let began = Instant::now();
        let echoed = exchange(&handler, &message, reaching, work.timeout).await;
        let took = began.elapsed();
        ended = echoed.and_then(|echo| verify(number, &message, &echo));
        if ended.is_err() {
            break;
        }
        times.record(took);
        exchanging += took;
    }
    let figures = watch.figures(exchanging, &times, work.data.len());
    if ended.is_ok() {
        handler.notify_end(cellnet::Payload::None).await;
    }
    handler.stop().await;
    (ended, Some(figures))
}

/// Sends a message until the peer takes it, then waits for the answer.
async fn exchange(
    handler: &PipeHandler,
    message: &PipeMessage,
    reaching: Instant,
    timeout: Duration,
) -> Result<PipeMessage, Failure> {
    deliver(handler, message, reaching, timeout).await?;
    // Heartbeats show that the peer lives, not that it answers, so there has to be a limit.
    let limit = timeout + Duration::from_secs_f64(message.data.len() as f64 / SLOWEST);
    let text =
        || format!("no answer from the peer within {limit:?}; check that it answers, or give more --timeout");
    let late = |_| Failure::new(Status::Timeout, text()).with_code(ReturnCode::TIMEOUT);
    tokio::time::timeout(limit, answer(handler, message)).await.map_err(late)?
}

/// Sends a message until the peer takes it: until the peer is heard for the first time, as long as reaching it may
/// take; after that as often as a handler does.
async fn deliver(
    handler: &PipeHandler,
    message: &PipeMessage,
    reaching: Instant,
    timeout: Duration,
) -> Result<(), Failure> {
    let deadline = reaching + timeout;
    let mut outcome = Delivery::Lost(RequestError::Timeout(timeout));
    while !heard(handler) {
        tokio::select! {
            tried = handler.send_to_peer(message, None, None) => outcome = tried.map_err(broken)?,
            () = unheard(handler, deadline) => return Err(not_taken(&outcome)),
        }
        if outcome.is_taken() {
            return Ok(());
        }
        if Instant::now() + PAUSE >= deadline {
            return Err(not_taken(&outcome));
        }
        tokio::time::sleep(PAUSE).await;
    }
    let outcome = handler.send_to_peer(message, Some(timeout), None).await.map_err(broken)?;
    if outcome.is_taken() { Ok(()) } else { Err(no_longer_taken(&outcome)) }
}

fn heard(handler: &PipeHandler) -> bool {
    handler.pipe().last_peer_active().is_some()
}

/// Completes if the peer was not heard of until the deadline.
async fn unheard(handler: &PipeHandler, deadline: Instant) {
    tokio::time::sleep_until(deadline).await;
    if heard(handler) {
        std::future::pending().await
    }
}

fn broken(error: SendError) -> Failure {
    Failure::new(Status::PeerGone, chain(&error))
}

/// Of a peer that was never heard.
fn not_taken(outcome: &Delivery) -> Failure {
    let status = Status::of_reply(Some(&outcome.code())).unwrap_or(Status::Failed);
    let text = format!("the peer did not take a message: {}; check that the other side runs", chain(outcome));
    Failure::new(status, text).with_code(outcome.code())
}

/// Of a peer that was there.
fn no_longer_taken(outcome: &Delivery) -> Failure {
    let failure = not_taken(outcome);
    if !matches!(failure.status, Status::Unreachable | Status::Timeout) {
        return failure;
    }
    let text = format!("the peer was there and is gone: {}; start the other side again", chain(outcome));
    Failure::new(Status::PeerGone, text).with_code(outcome.code())
}

/// Between two tries to reach a peer that may just be starting.
const PAUSE: Duration = Duration::from_millis(200);

/// Bytes a second of an answer that still counts as one.
const SLOWEST: f64 = 1e6;

async fn answer(handler: &PipeHandler, message: &PipeMessage) -> Result<PipeMessage, Failure> {
    let gone = |text: &str| {
        let text = format!("the peer {text} before it answered; check the log of the other side");
        Failure::new(Status::PeerGone, text).with_code(ReturnCode::TARGET_UNREACHABLE)
    };
    loop {
        match handler.next().await {
            Some(PipeEvent::Message(reply)) if answers(&reply, message) => return Ok(reply),
            Some(PipeEvent::End(_)) => return Err(gone("was done")),
            Some(PipeEvent::Abort(_)) => return Err(gone("gave up")),
            Some(PipeEvent::PeerGone(why)) => return Err(gone(&format!("was gone ({why})"))),
            None => return Err(gone("was gone")),
            Some(_) => {}
        }
    }
}

fn answers(reply: &PipeMessage, message: &PipeMessage) -> bool {
    reply.msg_type == MessageType::Reply && reply.req_id.as_ref() == Some(&message.msg_id)
}

/// Compares an answer with what was sent.
fn verify(number: u64, sent: &PipeMessage, echo: &PipeMessage) -> Result<(), Failure> {
    let (ours, theirs) = (sent.data.as_bytes(), echo.data.as_bytes());
    let wrong = if sent.topic != echo.topic {
        format!("topic '{}' instead of '{}'", echo.topic, sent.topic)
    } else if ours.len() != theirs.len() {
        format!("{} bytes instead of {}", theirs.len(), ours.len())
    } else if ours != theirs {
        let at = ours.iter().zip(theirs).take_while(|(a, b)| a == b).count();
        format!("another byte at {at}")
    } else {
        return Ok(());
    };
    Err(Failure::new(Status::Integrity, format!("answer {number} is not what was sent: it has {wrong}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(topic: &str, data: &'static str) -> PipeMessage {
        PipeMessage::new_request(topic.parse().unwrap(), data)
    }

    #[test]
    fn every_difference_is_an_integrity_failure_that_says_where() {
        let sent = message("t", "abc");
        assert!(verify(1, &sent, &PipeMessage::new_reply(&sent, "abc")).is_ok());
        for (reply, named) in [
            (PipeMessage::new_reply(&sent, "abd"), "byte at 2"),
            (PipeMessage::new_reply(&sent, "ab"), "2 bytes instead of 3"),
            (message("u", "abc"), "topic 'u'"),
        ] {
            let failure = verify(7, &sent, &reply).unwrap_err();
            assert_eq!(failure.status, Status::Integrity);
            assert!(
                failure.to_string().contains(named) && failure.to_string().contains("answer 7"),
                "{failure}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_lives_but_does_not_answer_is_not_waited_for() {
        let (own, peer) = cellnet::pipe::MemoryPipe::pair();
        own.open("task").await.unwrap();
        peer.open("task").await.unwrap();
        let start = |pipe| {
            let handler = PipeHandler::new(Arc::new(pipe), HandlerConfig::default()).unwrap();
            handler.start();
            handler
        };
        let (own, _peer) = (start(own), start(peer));
        let limit = Duration::from_secs(7);
        let failure = exchange(&own, &message("t", "abc"), Instant::now(), limit).await.unwrap_err();
        assert_eq!((failure.status, failure.code), (Status::Timeout, Some(ReturnCode::TIMEOUT)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_is_never_there_is_given_up_in_time_with_the_reason() {
        let (own, _peer) = cellnet::pipe::MemoryPipe::pair();
        own.open("task").await.unwrap();
        let own = PipeHandler::new(Arc::new(own), HandlerConfig::default()).unwrap();
        own.start();
        let (began, limit) = (Instant::now(), Duration::from_secs(7));
        let failure = exchange(&own, &message("t", "abc"), began, limit).await.unwrap_err();
        assert_eq!(
            (failure.status, failure.code),
            (Status::Unreachable, Some(ReturnCode::TARGET_UNREACHABLE))
        );
        assert!(began.elapsed() <= limit, "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_was_there_and_is_not_is_gone() {
        let (own, peer) = cellnet::pipe::MemoryPipe::pair();
        own.open("task").await.unwrap();
        peer.open("task").await.unwrap();
        let own = PipeHandler::new(Arc::new(own), HandlerConfig::default()).unwrap();
        let limit = Duration::from_secs(7);
        deliver(&own, &message("t", "abc"), Instant::now(), limit).await.unwrap();
        peer.close().await;
        let failure = deliver(&own, &message("t", "abc"), Instant::now(), limit).await.unwrap_err();
        assert_eq!((failure.status, failure.code), (Status::PeerGone, Some(ReturnCode::TARGET_UNREACHABLE)));
    }

    #[test]
    fn only_the_reply_to_a_message_answers_it() {
        let sent = message("t", "abc");
        assert!(answers(&PipeMessage::new_reply(&sent, "x"), &sent));
        assert!(!answers(&PipeMessage::new_reply(&message("t", "abc"), "x"), &sent));
        assert!(!answers(&sent, &sent));
    }
}
