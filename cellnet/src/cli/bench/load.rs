//! What is done again and again, and how that went.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytestring::ByteString;
use cellnet::{
    Cell, Fqcn, Message, Payload, ReturnCode, SHUTDOWN,
    pipe::{CellPipe, Pipe, PipeMessage, Topic},
};
use tokio::task::JoinSet;

use super::clients::Way;
use crate::cli::{
    figures::{Times, Watch, forget_peak, peak_mib},
    status::{Failure, Status, chain},
};

/// Does one thing again and again.
#[derive(Debug)]
pub(super) enum Worker {
    /// Asks and waits for the reply.
    Ask(Errand),
    /// Tells and waits for nobody.
    Tell(Errand),
    /// Sends by a pipe and waits until it is taken.
    Send { pipe: Arc<CellPipe>, payload: Payload, timeout: Duration },
    /// Starts a cell, waits for its link, and closes it.
    Join(Box<Way>),
}

/// What to send, and where.
#[derive(Debug)]
pub(super) struct Errand {
    pub(super) cell: Cell,
    pub(super) target: Fqcn,
    pub(super) channel: ByteString,
    pub(super) topic: ByteString,
    pub(super) message: Message,
    pub(super) timeout: Duration,
}

impl Errand {
    fn ask(&self) -> cellnet::Ask {
        let (channel, topic) = (self.channel.clone(), self.topic.clone());
        self.cell.request(&self.target, channel, topic, self.message.clone()).timeout(self.timeout)
    }
}

impl Worker {
    async fn once(&self) -> Result<(), Failure> {
        match self {
            Self::Ask(errand) => answered(errand.ask().await?),
            Self::Tell(errand) => Ok(errand.ask().tell().await?),
            Self::Send { pipe, payload, timeout } => {
                let message = PipeMessage::new_request(topic(), payload.clone());
                let sent = pipe.send(&message, Some(*timeout)).await;
                let outcome = sent.map_err(|error| Failure::new(Status::PeerGone, chain(&error)))?;
                if outcome.is_taken() {
                    return Ok(());
                }
                let status = Status::of_reply(Some(&outcome.code())).unwrap_or(Status::Failed);
                let text = format!("a message of the pipe was not taken: {}", chain(&outcome));
                Err(Failure::new(status, text).with_code(outcome.code()))
            }
            Self::Join(way) => {
                way.join().await?.shutdown(SHUTDOWN).await;
                Ok(())
            }
        }
    }

    fn waits(&self) -> bool {
        !matches!(self, Self::Tell(_))
    }
}

fn topic() -> Topic {
    "load".parse().expect("letters are a topic")
}

fn answered(reply: Message) -> Result<(), Failure> {
    let code = reply.code();
    let Some(status) = Status::of_reply(code.as_ref()) else { return Ok(()) };
    let code = code.unwrap_or(ReturnCode::PROCESS_EXCEPTION);
    let why = reply.error().map_or(String::new(), |why| format!(": {why}"));
    Err(Failure::new(status, format!("a message was answered with {code}{why}")).with_code(code))
}

/// How a round went on the asking side.
#[derive(Debug)]
pub(super) struct Tally {
    /// Of each doing that somebody waited for.
    pub(super) times: Times,
    /// Doings that succeeded.
    pub(super) done: u64,
    /// Doings that failed.
    pub(super) errors: u64,
    pub(super) lasted: Duration,
    pub(super) cpu_s: Option<f64>,
    pub(super) peak_mib: Option<f64>,
    /// What the memory has grown by since before the connections, where that is what is measured.
    pub(super) grown_mib: Option<f64>,
    /// The first that went wrong.
    pub(super) failure: Option<Failure>,
}

/// Lets all workers work for a while. The first failure ends it for all; what was begun is finished and counts.
pub(super) async fn drive(workers: Vec<Worker>, lasts: Duration) -> Tally {
    forget_peak();
    let shared = Arc::new(Shared {
        until: Instant::now() + lasts,
        failed: AtomicBool::new(false),
        times: std::array::from_fn(|_| Mutex::new(Times::new())),
    });
    let watch = Watch::start();
    let mut tasks = JoinSet::new();
    for (at, worker) in workers.into_iter().enumerate() {
        let shared = shared.clone();
        tasks.spawn(async move { shared.work(&worker, at).await });
    }
    let (mut done, mut errors, mut failure) = (0, 0, None);
    while let Some(ended) = tasks.join_next().await {
        let (own, failed) = ended.expect("a worker does not panic and is not aborted");
        done += own;
        errors += u64::from(failed.is_some());
        failure = failure.or(failed);
    }
    let (lasted, cpu_s, peak_mib) = (watch.elapsed(), watch.cpu(), peak_mib());
    let mut times = Times::new();
    for own in &shared.times {
        times.add(&own.lock().unwrap_or_else(PoisonError::into_inner));
    }
    Tally { times, done, errors, lasted, cpu_s, peak_mib, grown_mib: None, failure }
}

/// Does nothing for a while but hold what there is.
pub(super) async fn hold(held: u64, lasts: Duration) -> Tally {
    forget_peak();
    let watch = Watch::start();
    tokio::time::sleep(lasts).await;
    Tally {
        times: Times::new(),
        done: held,
        errors: 0,
        lasted: watch.elapsed(),
        cpu_s: watch.cpu(),
        peak_mib: peak_mib(),
        grown_mib: None,
        failure: None,
    }
}

/// What the workers of a round share.
#[derive(Debug)]
struct Shared {
    until: Instant,
    failed: AtomicBool,
    /// One for each worker would be a quarter of a megabyte for each.
    times: [Mutex<Times>; 8],
}

impl Shared {
    /// How often it succeeded, and how it failed.
    async fn work(&self, worker: &Worker, at: usize) -> (u64, Option<Failure>) {
        let times = &self.times[at % self.times.len()];
        let (mut done, mut began) = (0, Instant::now());
        while began < self.until && !self.failed.load(Relaxed) {
            // Who never has to wait would keep a thread to itself.
            tokio::task::coop::consume_budget().await;
            if let Err(failure) = worker.once().await {
                self.failed.store(true, Relaxed);
                return (done, Some(failure));
            }
            done += 1;
            let now = Instant::now();
            if worker.waits() {
                times.lock().unwrap_or_else(PoisonError::into_inner).record(now - began);
            }
            began = now;
        }
        (done, None)
    }
}

/// Whoever was there before is gone, which is not the same as never having been there.
pub(super) fn gone(failure: Failure) -> Failure {
    if failure.status != Status::Unreachable {
        return failure;
    }
    let code = failure.return_code();
    Failure::new(Status::PeerGone, format!("the other process was there and is gone: {failure}"))
        .with_code(code)
}

#[cfg(test)]
mod tests {
    use cellnet::RequestError;

    use super::*;

    #[test]
    fn an_answer_that_is_not_ok_fails_with_its_code() {
        assert!(answered(Message::empty().with_code(ReturnCode::OK)).is_ok());
        let failure = answered(Message::failure(ReturnCode::SERVICE_UNAVAILABLE, "busy")).unwrap_err();
        assert_eq!(failure.status, Status::Limit);
        assert!(failure.to_string().contains("service_unavailable: busy"), "{failure}");
    }

    #[test]
    fn unreachable_means_gone_once_it_was_there() {
        let lost = RequestError::LinkLost { peer: Fqcn::server(), reason: "closed".into() };
        assert_eq!(gone(lost.into()).status, Status::PeerGone);
        assert_eq!(gone(RequestError::Timeout(Duration::from_secs(1)).into()).status, Status::Timeout);
    }
}
