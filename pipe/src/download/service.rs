//! The owner's side: answers those who pull.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytestring::ByteString;
use cellnet_core::{
    cell::{Answer, Cell, HandlerError, Request, WeakCell},
    message::{Message, Payload, ReturnCode},
};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    DownloadConfig, Offer, OfferError, Transaction,
    content::{Content, Piece, PieceError},
    ledger::{Ledger, Sent, Ticket, Verdict},
    pulled::Pulled,
    turns::Turns,
    wire::{Ask, CHANNEL, TOPIC, Told},
};

/// What a cell offers, and the memory for answers. It is kept with the cell and does not keep it alive.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) config: Arc<DownloadConfig>,
    pub(super) cell: WeakCell,
    pub(super) pulling: Arc<Turns>,
    /// Bytes that payloads have brought which are not complete yet.
    pub(super) pulled: Arc<Pulled>,
    ledger: Mutex<Ledger>,
    /// In KiB, as a semaphore counts only so far.
    memory: Arc<Semaphore>,
    changed: Arc<Notify>,
    _gone: DropGuard,
}

impl Service {
    /// The service of a cell; the first to ask configures it.
    pub(super) fn of(cell: &Cell, config: impl FnOnce() -> DownloadConfig) -> Arc<Self> {
        let gone = CancellationToken::new();
        let (service, made) = cell.extension(|| {
            let config = Arc::new(config());
            Self {
                cell: cell.downgrade(),
                pulling: Turns::new(config.pull.at_once),
                pulled: Arc::new(Pulled::new(config.pull.max_all_bytes)),
                ledger: Mutex::new(Ledger::new(config.clone())),
                memory: Arc::new(Semaphore::new(kib(config.answer_bytes))),
                changed: Arc::default(),
                _gone: gone.clone().drop_guard(),
                config,
            }
        });
        if made {
            let handler = Arc::downgrade(&service);
            cell.handle(CHANNEL, TOPIC, move |request| serve(handler.clone(), request));
            let (service, changed) = (Arc::downgrade(&service), service.changed.clone());
            tokio::spawn(end_the_late(service, changed, gone, cell.stopping()));
        }
        service
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a transaction.
    pub(super) fn open(
        self: &Arc<Self>,
        offer: Offer,
        refs: Vec<(ByteString, Arc<Content>)>,
    ) -> Result<Transaction, OfferError> {
        let (id, status) = self.ledger().open(Instant::now(), offer, refs)?;
        self.changed.notify_one();
        Ok(Transaction::new(id, status, Arc::downgrade(self)))
    }

    /// Memory for an answer, or none in time. An answer that is larger than all of it takes all of it.
    async fn memory_for(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let permits = kib(bytes).min(kib(self.config.answer_bytes)) as u32;
        let permit = self.memory.clone().acquire_many_owned(permits);
        timeout(self.config.answer_patience, permit).await.ok()?.ok()
    }
}

/// Answers one request, and notes whether the answer got away.
async fn serve(service: Weak<Service>, request: Request) -> Result<Answer, HandlerError> {
    let gone = || HandlerError::unavailable("cell is shutting down");
    let service = service.upgrade().ok_or_else(gone)?;
    let cell = service.cell.upgrade().ok_or_else(gone)?;
    if !request.expects_reply() {
        return Ok(Answer::Deferred);
    }
    let ask =
        Ask::decode(&request.message.payload).map_err(|e| HandlerError::invalid_request(e.to_string()))?;
    let verdict = service.ledger().ask(Instant::now(), &request.origin, &ask.ref_id, ask.state.as_ref());
    let mut made = match verdict {
        Verdict::Unknown => return Err(HandlerError::invalid_request("this reference is not known")),
        Verdict::Refused(why) => {
            tracing::debug!(origin = %request.origin, why, "download refused");
            return Err(HandlerError::new(ReturnCode::AUTHENTICATION_ERROR, why));
        }
        Verdict::Eof(ticket) => Made::new(&service, ticket, Told::Eof.encode(), Sent::Eof),
        Verdict::Error(ticket) => Made::new(&service, ticket, Told::Error.encode(), Sent::Error),
        Verdict::Piece { ticket, content, at } => service.make(ticket, content, at).await?,
    };
    let told = cell.answer(&request, Message::new(std::mem::take(&mut made.payload))).await;
    made.settle(told.map_or(Sent::Nothing, |()| made.sent));
    Ok(Answer::Deferred)
}

impl Service {
    /// Makes the answer with a piece, off the threads of the runtime.
    async fn make(
        self: &Arc<Self>,
        ticket: Ticket,
        content: Arc<Content>,
        at: u64,
    ) -> Result<Made, HandlerError> {
        let mut made = Made::new(self, Some(ticket), Payload::None, Sent::Nothing);
        let (chunk, file_chunk) = (self.config.chunk_size, self.config.file_chunk_size.max(1));
        made.memory = self.memory_for(content.weight(at, chunk, file_chunk)).await;
        if made.memory.is_none() {
            return Err(HandlerError::new(ReturnCode::TIMEOUT, "too many downloads at once"));
        }
        let encoded = tokio::task::spawn_blocking(move || {
            let Piece { state, data, bytes } = content.piece(at, chunk, file_chunk)?;
            Ok::<_, PieceError>((Told::Ok { state, data }.encode(), bytes))
        });
        match encoded.await {
            Ok(Ok((payload, bytes))) => (made.payload, made.sent) = (payload, Sent::Data(bytes)),
            Ok(Err(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a download cannot go on");
                (made.payload, made.sent) = (Told::Error.encode(), Sent::Error);
            }
            Err(_) => return Err(HandlerError::failed("a piece could not be made")),
        }
        Ok(made)
    }
}

/// An answer that was made; dropped, it was not sent.
struct Made {
    service: Arc<Service>,
    ticket: Option<Ticket>,
    payload: Payload,
    sent: Sent,
    memory: Option<OwnedSemaphorePermit>,
}

impl Made {
    fn new(service: &Arc<Service>, ticket: Option<Ticket>, payload: Payload, sent: Sent) -> Self {
        Self { service: service.clone(), ticket, payload, sent, memory: None }
    }

    fn settle(&mut self, sent: Sent) {
        if let Some(ticket) = self.ticket.take() {
            self.service.ledger().settle(Instant::now(), &ticket, sent);
            // It no longer holds back the end of its transaction.
            self.service.changed.notify_one();
        }
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        self.settle(Sent::Nothing);
    }
}

/// Ends transactions that wait too long, and all of them with the cell.
async fn end_the_late(
    service: Weak<Service>,
    changed: Arc<Notify>,
    gone: CancellationToken,
    stopping: impl Future<Output = ()>,
) {
    tokio::pin!(stopping);
    loop {
        let Some(next) = service.upgrade().map(|service| service.ledger().tick(Instant::now())) else {
            return;
        };
        let late = async {
            match next {
                Some(next) => sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = gone.cancelled() => return,
            () = &mut stopping => break,
            () = changed.notified() => {}
            () = late => {}
        }
    }
    if let Some(service) = service.upgrade() {
        service.ledger().close(Instant::now());
    }
}

fn kib(bytes: usize) -> usize {
    bytes.div_ceil(1024).clamp(1, MAX_KIB)
}

/// As many permits as can be asked for at once.
const MAX_KIB: usize = u32::MAX as usize >> 4;
