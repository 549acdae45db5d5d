//! The side that answers.

use std::{sync::Arc, time::Duration};

use cellnet::pipe::{CellPipe, HandlerConfig, MessageType, Pipe, PipeEvent, PipeHandler, PipeMessage};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};

use crate::cli::{
    net,
    security::Trust,
    show::Ready,
    status::{Failure, Status, chain},
    stop::{Reloading, Stop},
};

/// Answers until a signal comes.
pub(super) async fn run(pipe: Arc<CellPipe>, channel: &str, trust: Trust) -> Result<(), Failure> {
    let mut stop = Stop::new()?;
    let _reloading = Reloading::new(trust)?;
    let peer = super::open(&pipe, channel).await?;
    let serving = async {
        let cell = pipe.cell().expect("the pipe is open");
        cell.connected().await;
        super::check_neighbour(&pipe, &cell)?;
        let via = net::via(&cell);
        tracing::info!("connected to {} by {}", pipe.place().fqcn(), via.join(" and "));
        let name = pipe.fqcn().to_string();
        Ready { name, listen: Vec::new(), peer: Some(peer.to_string()), via }.print()?;
        answer_all(pipe.clone()).await
    };
    tokio::select! {
        () = stop.asked() => {}
        ended = serving => ended?,
    }
    tracing::info!("stopping");
    tokio::select! {
        () = pipe.close() => {}
        () = stop.asked() => tracing::warn!("stopped at once"),
    }
    Ok(())
}

/// Answers one conversation after the other: after END, ABORT or a loss the next may begin.
async fn answer_all(pipe: Arc<CellPipe>) -> Result<(), Failure> {
    let room = Room::new();
    loop {
        let mut config = HandlerConfig::default();
        // Nobody has to be there: who comes is answered.
        config.heartbeat_timeout = None;
        let handler = PipeHandler::new(pipe.clone(), config);
        let handler = Arc::new(handler.map_err(|error| Failure::new(Status::Failed, chain(&error)))?);
        handler.start();
        // What is still on its way when the conversation ends is for nobody.
        let mut answers = JoinSet::new();
        loop {
            match handler.next().await {
                Some(PipeEvent::Message(message)) if message.msg_type == MessageType::Request => {
                    let permits = room.take(message.data.len()).await;
                    let handler = handler.clone();
                    while answers.try_join_next().is_some() {}
                    answers.spawn(async move {
                        answer(&handler, &message).await;
                        drop(permits);
                    });
                }
                Some(PipeEvent::Message(message)) => {
                    tracing::debug!(topic = %message.topic, "a reply that nobody asked for");
                }
                Some(PipeEvent::End(_)) => tracing::info!("the peer is done"),
                Some(PipeEvent::Abort(_)) => tracing::info!("the peer gave up"),
                Some(PipeEvent::PeerGone(why)) => tracing::info!("the peer is gone: {why}"),
                Some(_) => {}
                None => break,
            }
        }
    }
}

async fn answer(handler: &PipeHandler, request: &PipeMessage) {
    let reply = PipeMessage::new_reply(request, request.data.clone());
    match handler.send_to_peer(&reply, Some(PATIENCE), None).await {
        Ok(outcome) if outcome.is_taken() => {}
        Ok(outcome) => tracing::warn!("an answer was not taken: {}", chain(&outcome)),
        Err(error) => tracing::warn!("an answer was not sent: {}", chain(&error)),
    }
}

/// Bounds the answers that are on their way at the same time.
#[derive(Debug)]
struct Room {
    answers: Arc<Semaphore>,
    /// In KiB.
    bytes: Arc<Semaphore>,
}

impl Room {
    fn new() -> Self {
        Self {
            answers: Arc::new(Semaphore::new(ANSWERS)),
            bytes: Arc::new(Semaphore::new(KIBIBYTES as usize)),
        }
    }

    /// Waits until there is room for an answer of this size. One that is larger than all of it goes alone.
    async fn take(&self, size: usize) -> [OwnedSemaphorePermit; 2] {
        let kibibytes = u32::try_from(size.div_ceil(1024)).unwrap_or(KIBIBYTES).min(KIBIBYTES);
        let answer = self.answers.clone().acquire_owned().await;
        let bytes = self.bytes.clone().acquire_many_owned(kibibytes).await;
        [answer, bytes].map(|permit| permit.expect("the semaphores are never closed"))
    }
}

/// Answers on their way at the same time, at most.
const ANSWERS: usize = 64;
/// What they may hold together.
const KIBIBYTES: u32 = 64 << 10;
/// How long an answer may make no progress.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_on_their_way_are_bounded_in_bytes_and_a_huge_one_goes_alone() {
        let room = Room::new();
        let huge = room.take(usize::MAX).await;
        let wait = Duration::from_secs(1);
        assert!(tokio::time::timeout(wait, room.take(1)).await.is_err());
        drop(huge);
        let _half = room.take((KIBIBYTES as usize) << 9).await;
        let _rest = room.take((KIBIBYTES as usize) << 9).await;
        assert!(tokio::time::timeout(wait, room.take(1)).await.is_err());
        assert!(tokio::time::timeout(wait, room.take(0)).await.is_ok());
    }
}
