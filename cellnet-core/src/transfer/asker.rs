//! What a sink asks its source, until it answers: links break, relays restart, and sources come back under other tokens.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, sleep_until},
};

use super::{
    Reason, TransferConfig, TransferError,
    pull::{Pull, Source},
    wire::{self, BlockAsk, FRESH, ListAsk, Open, PENDING, Page, REASON, SAFE},
};
use crate::{
    cell::{Cell, RequestError},
    message::{Message, ReturnCode},
};

/// Asks the source of one transfer.
#[derive(Debug)]
pub(crate) struct Asker {
    pub(crate) cell: Cell,
    pub(crate) pull: Arc<Pull>,
    pub(crate) patience: Duration,
    block_patience: Duration,
    /// What was asked for to get the offer, if the source waits to be asked.
    reopen: Option<Mutex<String>>,
}

/// What an answer means.
enum Answer {
    Good(Message),
    /// It lives, and says to ask again.
    Pending,
    /// Ask again, after some time.
    Later,
    /// The same, because it could not be reached.
    Lost,
    /// The source does not know the token.
    Stranger(TransferError),
    Final(TransferError),
}

impl Asker {
    pub(crate) fn new(cell: Cell, pull: Arc<Pull>, config: &TransferConfig, reopen: Option<String>) -> Self {
        let (patience, block_patience) = (config.patience, config.block_patience);
        Self { cell, pull, patience, block_patience, reopen: reopen.map(Mutex::new) }
    }

    /// A page of the manifest.
    pub(crate) async fn list(&self, from: u32) -> Result<Page, TransferError> {
        let ask = |source: &Source| wire::encode(&ListAsk { token: source.token, from });
        let reply = self.ask(wire::LIST, &ask).await?;
        wire::decode(reply.payload.as_bytes())
    }

    /// Says how it went; `Ok` if the source agrees.
    pub(crate) async fn done(&self, done: &wire::Done) -> Result<(), TransferError> {
        let ask = |source: &Source| wire::encode(&wire::Done { token: source.token, ..done.clone() });
        self.ask(wire::DONE, &ask).await.map(drop)
    }

    /// Whether this side asked for the offer.
    pub(crate) fn fetches(&self) -> bool {
        self.reopen.is_some()
    }

    /// Says that everything is in its place. `false` if the source cannot be told, which is no failure: it hears of it when it
    /// offers the same again.
    pub(crate) async fn placed(&self, done: &wire::Done) -> bool {
        let mut failures = 0;
        while failures < TOLD {
            let source = self.pull.source();
            let payload = wire::encode(&wire::Done { token: source.token, ..done.clone() });
            match self.once(wire::DONE, &source, payload, Vec::new(), TELL * 3).await {
                Answer::Good(_) => return true,
                // It has gone its way, most likely because it knows.
                Answer::Stranger(_) | Answer::Final(_) => return false,
                Answer::Pending => self.pull.touch(),
                Answer::Later | Answer::Lost => failures += 1,
            }
            tokio::select! {
                () = self.pull.other_source(&source) => {}
                () = sleep(backoff(failures)) => {}
                () = self.pull.stopped.cancelled() => return false,
            }
        }
        false
    }

    /// Says once that it failed, and does not insist.
    pub(crate) async fn failed(&self, error: &TransferError) {
        let source = self.pull.source();
        let failure = Some((error.reason().as_str().into(), error.text().into()));
        let done = wire::Done { token: source.token, placed: false, receipt: None, failure };
        for attempt in 0..TOLD {
            let asked = self
                .cell
                .request(&source.cell, wire::CHANNEL, wire::DONE, Message::new(wire::encode(&done)))
                .optional()
                .timeout(TELL)
                .await;
            if asked.is_ok_and(|reply| reply.is_ok() || reply.headers.text(REASON).is_some()) {
                return;
            }
            sleep(backoff(attempt)).await;
        }
    }

    /// A block. `damaged`: what came before was not what the source has, so no cache may answer. `safe`: blocks before that
    /// need not be kept, of a source that cannot be read twice.
    pub(crate) async fn block(
        &self,
        file: u32,
        block: u64,
        damaged: bool,
        safe: Option<u64>,
    ) -> Result<Message, TransferError> {
        let mut asked: FuturesUnordered<BoxFuture<'_, (Source, Answer)>> = FuturesUnordered::new();
        let (mut failures, mut last_asked, mut patience) = (0, Instant::now(), self.block_patience);
        let ask = move |source: &Source| BlockAsk { token: source.token, file, block }.encode();
        let request = || -> BoxFuture<'_, (Source, Answer)> {
            let mut headers = Vec::new();
            if damaged {
                headers.push((FRESH, crate::wire::Value::Bool(true)));
            }
            headers.extend(safe.map(|safe| (SAFE, crate::wire::Value::from(safe))));
            Box::pin(async move {
                let source = self.pull.source();
                let answer = self.once(wire::BLOCK, &source, ask(&source), headers, self.patience).await;
                (source, answer)
            })
        };
        let mut asked_of = self.pull.source();
        asked.push(request());
        loop {
            let (arrival, usual) = self.pull.rhythm();
            // A pause that was survived once must not eat up all patience the next time.
            let deadline = last_asked.max(arrival) + patience.max(usual.min(self.patience / 4));
            let (source, answer) = tokio::select! {
                Some(answered) = asked.next() => answered,
                () = self.pull.other_source(&asked_of) => {
                    // Whoever was asked before is gone, and its answers with it.
                    asked.clear();
                    (last_asked, patience) = (Instant::now(), self.block_patience);
                    asked_of = self.pull.source();
                    asked.push(request());
                    continue;
                }
                () = sleep_until(deadline) => {
                    if self.pull.rhythm().0 > arrival {
                        // Others came meanwhile, so the link is slow, and this one is on its way behind them.
                        continue;
                    }
                    // Somebody on the way may have lost it; the others may still be on theirs.
                    if asked.len() < ASKED_AT_ONCE {
                        asked.push(request());
                    }
                    (last_asked, patience) = (Instant::now(), patience * 2);
                    continue;
                }
            };
            if let Answer::Good(reply) = answer {
                self.pull.arrived();
                return Ok(reply);
            }
            self.recover(&source, answer, failures).await?;
            failures += 1;
            if asked.is_empty() {
                last_asked = Instant::now();
                asked.push(request());
            }
        }
    }

    /// Asks until there is an answer.
    async fn ask(
        &self,
        topic: &'static str,
        payload: &(dyn Fn(&Source) -> Bytes + Sync),
    ) -> Result<Message, TransferError> {
        let mut failures = 0;
        loop {
            let source = self.pull.source();
            let wait = self.block_patience * 2;
            let answer = tokio::select! {
                answer = self.once(topic, &source, payload(&source), Vec::new(), wait) => answer,
                () = self.pull.other_source(&source) => continue,
            };
            match answer {
                Answer::Good(reply) => return Ok(reply),
                answer => self.recover(&source, answer, failures).await?,
            }
            failures += 1;
        }
    }

    async fn once(
        &self,
        topic: &'static str,
        source: &Source,
        payload: Bytes,
        headers: Vec<(&'static str, crate::wire::Value)>,
        timeout: Duration,
    ) -> Answer {
        let mut message = Message::new(payload);
        for (name, value) in headers {
            message.headers.set(name, value);
        }
        let asked = self.cell.request(&source.cell, wire::CHANNEL, topic, message).timeout(timeout).await;
        match asked {
            Ok(reply) if reply.is_ok() => Answer::Good(reply),
            Ok(reply) => {
                match (reply.headers.text(REASON), wire::refused(&source.cell, &reply)) {
                    (Some(PENDING), _) => Answer::Pending,
                    (_, Some(error)) if error.reason() == Reason::Stranger => Answer::Stranger(error),
                    // It will be back.
                    (_, Some(error)) if error.reason() == Reason::ShuttingDown => Answer::Lost,
                    (_, Some(error)) => Answer::Final(error),
                    (_, None) if reply.code() == Some(ReturnCode::SERVICE_UNAVAILABLE) => Answer::Later,
                    (_, None) => Answer::Lost,
                }
            }
            Err(error @ (RequestError::ShuttingDown | RequestError::TooBig { .. })) => {
                let reason = if matches!(error, RequestError::ShuttingDown) {
                    Reason::ShuttingDown
                } else {
                    Reason::Unsupported
                };
                Answer::Final(TransferError::here(reason, error.to_string()))
            }
            Err(_) => Answer::Lost,
        }
    }

    /// Waits for what may help against an answer that is no good.
    async fn recover(&self, source: &Source, answer: Answer, failures: u32) -> Result<(), TransferError> {
        self.pull.reached(!matches!(answer, Answer::Lost));
        match answer {
            Answer::Final(error) => return Err(error),
            Answer::Good(_) => {}
            Answer::Pending => {
                self.pull.touch();
                sleep(backoff(0)).await;
            }
            Answer::Stranger(error) if self.reopen.is_some() => self.reopen(source, error).await?,
            // A sender that began again makes a new offer.
            Answer::Later | Answer::Lost | Answer::Stranger(_) => {
                tokio::select! {
                    () = self.pull.other_source(source) => {}
                    () = sleep(backoff(failures)) => {}
                }
            }
        }
        Ok(())
    }

    /// Asks for the offer again, which a source that began again has forgotten. Only one does that at a time.
    async fn reopen(&self, known: &Source, error: TransferError) -> Result<(), TransferError> {
        let Some(path) = &self.reopen else { return Err(error) };
        let path = path.lock().await;
        if self.pull.source() != *known {
            return Ok(());
        }
        let payload = wire::encode(&Open { path: path.as_str().into() });
        match self.once(wire::OPEN, known, payload, Vec::new(), self.block_patience).await {
            Answer::Good(reply) => {
                let offer: wire::Offer = wire::decode(reply.payload.as_bytes())?;
                if offer.fingerprint != self.pull.fingerprint {
                    let text = "what is there has changed since the transfer began";
                    return Err(TransferError::peer(&known.cell, Reason::SourceChanged, text));
                }
                self.pull.take_over(Source { cell: known.cell.clone(), token: offer.token });
                Ok(())
            }
            Answer::Final(error) => Err(error),
            _ => {
                sleep(backoff(3)).await;
                Ok(())
            }
        }
    }
}

/// How long to wait after so many failures.
pub(crate) fn backoff(failures: u32) -> Duration {
    Duration::from_millis(100 << failures.min(4))
}

/// Requests for one block that are on their way at the same time.
const ASKED_AT_ONCE: usize = 3;
/// How often, and how long each time, a failure is told.
const TOLD: u32 = 4;
const TELL: Duration = Duration::from_secs(2);
