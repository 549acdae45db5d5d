//! The side that answers.

use std::{sync::Arc, time::Duration};

use cellnet::pipe::{CellPipe, HandlerConfig, MessageType, Pipe, PipeEvent, PipeHandler, PipeMessage};
use tokio::sync::Semaphore;

use crate::cli::{
    show::Ready,
    status::{Failure, Status, chain},
    stop::Stop,
};

/// Answers until a signal comes.
pub(super) async fn run(pipe: Arc<CellPipe>, channel: &str) -> Result<(), Failure> {
    let mut stop = Stop::new()?;
    let peer = super::open(&pipe, channel).await?;
    let serving = async {
        let cell = pipe.cell().expect("the pipe is open");
        cell.connected().await;
        let name = pipe.fqcn().to_string();
        Ready { name, listen: Vec::new(), peer: Some(peer.to_string()) }.print()?;
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
    let permits = Arc::new(Semaphore::new(ANSWERS));
    loop {
        let mut config = HandlerConfig::default();
        // Nobody has to be there: who comes is answered.
        config.heartbeat_timeout = None;
        let handler = PipeHandler::new(pipe.clone(), config);
        let handler = Arc::new(handler.map_err(|error| Failure::new(Status::Failed, chain(&error)))?);
        handler.start();
        loop {
            match handler.next().await {
                Some(PipeEvent::Message(message)) if message.msg_type == MessageType::Request => {
                    let permit = permits.clone().acquire_owned().await;
                    let permit = permit.expect("the semaphore is never closed");
                    let handler = handler.clone();
                    tokio::spawn(async move {
                        answer(&handler, &message).await;
                        drop(permit);
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

/// Answers on their way at the same time.
const ANSWERS: usize = 64;
/// How long an answer may make no progress.
const PATIENCE: Duration = Duration::from_secs(10);
