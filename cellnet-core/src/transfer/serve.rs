//! What a cell answers about transfers.

use std::sync::{Arc, Weak};

use tokio::time::timeout;

use super::{
    Progress, Reason, TransferConfig, TransferError,
    asker::Asker,
    handle::Arrival,
    limits::Limits,
    live::LiveBlock,
    manifest::{Manifest, Walk},
    offered::{Content, NOTHING},
    path::RelPath,
    pull::{Pull, Source},
    shared::Shared,
    sink::{Sink, blocking},
    wire::{self, BlockAsk, Cancel, Done, LENGTH, LIVE, ListAsk, Offer, Open, Page, SAFE},
};
use crate::{
    cell::{HandlerError, Request},
    message::Message,
};

/// Answers what other cells ask about transfers.
pub(crate) fn register(shared: &Arc<Shared>) {
    answer(shared, wire::BLOCK, block);
    answer(shared, wire::LIST, list);
    answer(shared, wire::DONE, done);
    answer(shared, wire::OPEN, open);
    answer(shared, wire::OFFER, offer);
    answer(shared, wire::CANCEL, cancel);
}

fn answer<F, Fut>(shared: &Arc<Shared>, topic: &'static str, handler: F)
where
    F: Fn(Arc<Shared>, Request) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = Result<Message, TransferError>> + Send + 'static,
{
    // The cell holds the handler, and what is shared holds the cell.
    let shared = Arc::downgrade(shared);
    shared.upgrade().expect("the caller has it").cell.handle(
        wire::CHANNEL,
        topic,
        move |request: Request| {
            let shared = Weak::upgrade(&shared);
            async move {
                let Some(shared) = shared.filter(|shared| !shared.stop.is_cancelled()) else {
                    return Ok(wire::refusal(Reason::ShuttingDown, "the transfers of this cell have ended"));
                };
                Ok::<Message, HandlerError>(handler(shared, request).await.unwrap_or_else(Message::from))
            }
        },
    );
}

/// A block of something that was offered.
async fn block(shared: Arc<Shared>, request: Request) -> Result<Message, TransferError> {
    let ask = BlockAsk::decode(request.message.payload.as_bytes())
        .ok_or_else(|| TransferError::here(Reason::Protocol, "request for a block not understood"))?;
    let offered = shared.offers.find(&ask.token, &request.origin)?;
    if let Content::Live(live) = &offered.content {
        let safe = request.message.headers.uint(SAFE).unwrap_or(0);
        let asked = live.block(ask.block, safe).await;
        // Who asks late for what it has by now has only asked twice.
        let (block, length) = asked.inspect_err(|error| {
            if live.failure().is_some() {
                offered.fail(error);
            }
        })?;
        let reply = match block {
            LiveBlock::Here(block) => Message::new(block),
            LiveBlock::Behind => Message::new(NOTHING),
            LiveBlock::Later => return Ok(wire::pending("not read yet")),
        };
        let reply = reply.with_header(LIVE, true);
        return Ok(match length {
            Some(length) => reply.with_header(LENGTH, length),
            None => reply,
        });
    }
    match offered.block(&shared.blocks, ask).await {
        Some(Ok(block)) => Ok(Message::new(block)),
        Some(Err(error)) => {
            // Who asks for what there is not harms nobody else.
            if error.reason() != Reason::Protocol {
                offered.fail(&error);
            }
            Err(error)
        }
        None => Ok(wire::pending("no memory for another block now")),
    }
}

/// A page of the manifest.
async fn list(shared: Arc<Shared>, request: Request) -> Result<Message, TransferError> {
    let ask: ListAsk = wire::decode(request.message.payload.as_bytes())?;
    let offered = shared.offers.find(&ask.token, &request.origin)?;
    Ok(Message::new(wire::encode(&Page { entries: offered.page(ask.from) })))
}

/// What a sink has to say about how it went.
async fn done(shared: Arc<Shared>, request: Request) -> Result<Message, TransferError> {
    let done: Done = wire::decode(request.message.payload.as_bytes())?;
    let (who, offered) = (&request.origin, shared.offers.find(&done.token, &request.origin)?);
    if let Some((word, text)) = done.failure {
        offered.conclude(who, Err(TransferError::peer(who, Reason::parse(&word), text)));
        return Ok(Message::empty());
    }
    let claimed = done.receipt.ok_or_else(|| TransferError::here(Reason::Protocol, "no receipt"))?;
    match timeout(HELD, offered.hear(who, claimed, done.placed)).await {
        Ok(agreed) => agreed.map(|()| Message::empty()),
        Err(_) => Ok(wire::pending("digests are being compared")),
    }
}

/// Somebody wants what is in the outbox.
async fn open(shared: Arc<Shared>, request: Request) -> Result<Message, TransferError> {
    let Open { path } = wire::decode(request.message.payload.as_bytes())?;
    let outbox = shared.outbox.clone();
    let outbox = outbox
        .ok_or_else(|| TransferError::here(Reason::NoInbox, "nothing can be fetched from this cell"))?;
    let path = RelPath::parse(&path)?;
    let _turn = shared.limits.walks.acquire().await;
    let most = (shared.config.max_transfers / 4).max(1);
    if shared.offers.count_for(&request.origin) >= most {
        return Err(TransferError::here(
            Reason::TooMany,
            format!("{most} transfers to '{}' are open", request.origin),
        ));
    }
    let walk = Walk { max_entries: shared.config.max_entries, skip_special: true, skip_partial: true };
    let manifest = blocking(move || Manifest::of_outbox(&outbox, &path, walk)).await?;
    // What was fetched before and did not change is in memory once.
    let manifest = match shared.offers.fetched(&manifest.fingerprint) {
        Some(known) => known,
        None => Arc::new(manifest.counted(&shared.limits.names)?),
    };
    let offered = Arc::new(shared.offered(Content::Files(manifest)));
    drop(offered.admit(&request.origin));
    let offer = offered.offer("", false);
    shared.offers.add(offered)?;
    Ok(Message::new(wire::encode(&offer)))
}

/// Somebody offers something for the inbox, for the first time or to hear how it is going.
async fn offer(shared: Arc<Shared>, request: Request) -> Result<Message, TransferError> {
    let offer: Offer = wire::decode(request.message.payload.as_bytes())?;
    let source = Source { cell: request.origin.clone(), token: offer.token };
    if let Some(pull) = shared.pulls.find(&offer.token) {
        if pull.source() != source {
            return Err(TransferError::here(Reason::Stranger, "the offer was taken over by another"));
        }
        return pull.report().map(|accepted| Message::new(wire::encode(&accepted)));
    }
    let inbox = shared.inbox.clone();
    let inbox = inbox.ok_or_else(|| TransferError::here(Reason::NoInbox, "this cell takes no files"))?;
    check_offer(&offer, shared.config.max_entries)?;
    let path = RelPath::parse(&offer.path)?;
    if let Some(pull) = shared.pulls.same(path.as_str(), &offer.fingerprint) {
        if pull.source().cell != request.origin && pull.is_served() {
            let text = format!("'{}' sends the same", pull.source().cell);
            return Err(TransferError::here(Reason::Busy, text));
        }
        if pull.take_over(source.clone()) {
            shared.pulls.add(offer.token, pull.clone(), usize::MAX / 4)?;
            if let Some(outdated) = pull.outdated() {
                shared.pulls.forget(&outdated);
            }
            return pull.report().map(|accepted| Message::new(wire::encode(&accepted)));
        }
    }
    let progress = tokio::sync::watch::channel(Progress::default()).0;
    let stopped = shared.stop.child_token();
    let pull =
        Arc::new(Pull::new(source, offer.fingerprint, path.as_str(), progress, stopped, shared.stop.clone()));
    shared.pulls.add(offer.token, pull.clone(), shared.config.max_transfers)?;
    let accepted = pull.report()?;
    let (config, limits) = (shared.config.clone(), shared.limits.clone());
    let (tasks, arrivals) = (shared.tasks.clone(), shared.arrivals.clone());
    let asker = Arc::new(Asker::new(shared.cell.clone(), pull.clone(), &config, None));
    let origin = request.origin;
    let leaving = shared.pulls.leaving(path.as_str());
    tasks.spawn(async move {
        let shown = path.to_string();
        // Whoever is there longer than that finds the place taken.
        let left = futures_util::future::join_all(leaving.iter().map(|pull| pull.gone.cancelled()));
        let _ = timeout(HELD, left).await;
        let outcome = receive(inbox, asker, pull, offer, path, (config, limits)).await;
        match &outcome {
            Ok(receipt) => tracing::info!(%origin, path = shown, %receipt, "received"),
            Err(error) => {
                tracing::warn!(%origin, path = shown, %error, reason = %error.reason(), "not received")
            }
        }
        // Nobody has to listen.
        let _ = arrivals.send(Arrival { origin, path: shown, outcome });
    });
    Ok(Message::new(wire::encode(&accepted)))
}

/// Pulls what was offered for the inbox.
async fn receive(
    inbox: Arc<super::inbox::Inbox>,
    asker: Arc<Asker>,
    pull: Arc<Pull>,
    offer: Offer,
    path: RelPath,
    (config, limits): (Arc<TransferConfig>, Limits),
) -> Result<super::Receipt, TransferError> {
    let root = inbox.dir.clone();
    let room = {
        let (asker, offer, path) = (asker.clone(), offer.clone(), path.clone());
        let listed = async move {
            // What is there of it from before is not counted twice.
            let page = asker.list(0).await?;
            blocking(move || {
                let names = page.entries.iter().map(|entry| &*entry.path).filter(|path| !path.contains('/'));
                let resumed = inbox.partial_bytes(&path, names);
                inbox.reserve(offer.token, offer.bytes, offer.stored, resumed)
            })
            .await
        };
        tokio::select! {
            biased;
            () = pull.stopped.cancelled() => Err(pull.why()),
            room = listed => room,
            () = tokio::time::sleep(config.patience) => {
                Err(TransferError::here(Reason::Stalled, "the manifest did not come"))
            }
        }
    };
    match room {
        Ok(room) => {
            let room = Some(room);
            Sink { asker, pull, offer, root, path, config, limits, room }.run().await
        }
        Err(error) => {
            pull.gone.cancel();
            pull.end(Err(error.clone()));
            asker.failed(&error).await;
            pull.close();
            Err(error)
        }
    }
}

/// Whether an offer makes sense at all.
pub(crate) fn check_offer(offer: &Offer, max_entries: usize) -> Result<(), TransferError> {
    let refused = |reason, text: String| Err(TransferError::here(reason, text));
    if !offer.block.is_power_of_two() || !(wire::MIN_BLOCK..=wire::MAX_BLOCK).contains(&offer.block) {
        return refused(Reason::Unsupported, format!("blocks of {} bytes", offer.block));
    }
    if offer.entries as usize > max_entries {
        return refused(
            Reason::TooMany,
            format!("{} files and directories, {max_entries} at most", offer.entries),
        );
    }
    if offer.entries == 0 || offer.files > offer.entries || (offer.bytes.is_none() && offer.entries != 1) {
        return refused(Reason::Protocol, "an offer that does not add up".into());
    }
    Ok(())
}

/// The other side gives a transfer up.
async fn cancel(shared: Arc<Shared>, request: Request) -> Result<Message, TransferError> {
    let cancel: Cancel = wire::decode(request.message.payload.as_bytes())?;
    let why = TransferError::peer(&request.origin, Reason::parse(&cancel.reason), cancel.text);
    if let Ok(offered) = shared.offers.find(&cancel.token, &request.origin) {
        offered.conclude(&request.origin, Err(why));
        return Ok(Message::empty());
    }
    let pull = shared.pulls.find(&cancel.token).filter(|pull| pull.source().cell == request.origin);
    match pull.filter(|pull| pull.source().token == cancel.token) {
        Some(pull) => pull.cancel(why),
        None => return Err(TransferError::here(Reason::Stranger, "no such transfer")),
    }
    Ok(Message::empty())
}

/// How long an answer about digests may take before the other side is told to ask again.
const HELD: std::time::Duration = std::time::Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use tokio::sync::watch;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        testkit::sim::Sim,
        transfer::{Token, Transfers, live::Live, wire::Fingerprint},
    };

    /// A cell that talks to itself, with an inbox.
    async fn host() -> (tempfile::TempDir, Transfers) {
        let dir = tempfile::tempdir().unwrap();
        let cell = Sim::new().cell("server", &[]).await;
        let transfers = Transfers::attach(&cell, TransferConfig::with_inbox(dir.path())).await.unwrap();
        (dir, transfers)
    }

    fn token(number: u8) -> Token {
        Token([number; 16])
    }

    fn offer(number: u8) -> Offer {
        Offer {
            token: token(number),
            path: "x".into(),
            entries: 1,
            files: 1,
            bytes: Some(1),
            stored: 1,
            block: wire::MIN_BLOCK,
            fingerprint: Fingerprint([9; 16]),
            overwrite: false,
        }
    }

    async fn ask<T: serde::Serialize>(transfers: &Transfers, topic: &'static str, what: &T) -> Message {
        let cell = &transfers.shared.cell;
        cell.request(cell.name(), wire::CHANNEL, topic, Message::new(wire::encode(what))).await.unwrap()
    }

    fn word(reply: &Message) -> Option<&str> {
        reply.headers.text(wire::REASON)
    }

    /// A transfer that nobody works on.
    fn pull(transfers: &Transfers, number: u8) -> Arc<Pull> {
        let source = Source { cell: transfers.shared.cell.name().clone(), token: token(number) };
        let (stopped, ending) = (CancellationToken::new(), CancellationToken::new());
        let progress = watch::channel(Progress::default()).0;
        let pull = Arc::new(Pull::new(source, offer(number).fingerprint, "x", progress, stopped, ending));
        transfers.shared.pulls.add(token(number), pull.clone(), 10).unwrap();
        pull
    }

    #[tokio::test(start_paused = true)]
    async fn an_offer_does_not_join_a_transfer_that_is_ending() {
        let (_dir, transfers) = host().await;
        let pull = pull(&transfers, 1);
        pull.cancel(TransferError::here(Reason::Cancelled, "enough"));
        let reply = ask(&transfers, wire::OFFER, &offer(2)).await;
        assert!(reply.is_ok(), "{:?}", reply.error());
        let other = transfers.shared.pulls.find(&token(2)).unwrap();
        assert!(!Arc::ptr_eq(&pull, &other));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_fetched_by_many_is_listed_in_memory_once_and_not_beyond_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let cell = Sim::new().cell("server", &[]).await;
        for name in ["a", "b", "c"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        let config =
            TransferConfig { outbox: Some(dir.path().into()), names: 900, ..TransferConfig::default() };
        let transfers = Transfers::attach(&cell, config).await.unwrap();
        let fetch = async |path: &str| ask(&transfers, wire::OPEN, &Open { path: path.into() }).await;
        let used = || transfers.shared.limits.names.used();
        assert!(fetch("").await.is_ok());
        let once = used();
        assert!(once > 3 * 256);
        assert!(fetch("").await.is_ok());
        assert_eq!(used(), once);
        assert_eq!(word(&fetch("a").await), Some("too_many"));
        transfers.shared.offers.clear();
        assert!(fetch("a").await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_request_for_a_block_that_is_safe_ends_nothing() {
        let (_dir, transfers) = host().await;
        let shared = &transfers.shared;
        let live = Arc::new(Live::new("x", token(1), wire::MIN_BLOCK, 2 * wire::MIN_BLOCK as usize));
        tokio::spawn(live.clone().read(tokio::io::repeat(7)));
        let offered = Arc::new(shared.offered(Content::Live(live)));
        let heard = offered.admit(shared.cell.name());
        shared.offers.add(offered.clone()).unwrap();
        let ask = async |block, safe: u64| {
            let ask = BlockAsk { token: offered.token, file: 0, block }.encode();
            let message = Message::new(ask).with_header(SAFE, safe);
            shared.cell.request(shared.cell.name(), wire::CHANNEL, wire::BLOCK, message).await.unwrap()
        };
        assert!(ask(0, 0).await.is_ok() && ask(1, 1).await.is_ok());
        assert_eq!(word(&ask(0, 0).await), Some("source_changed"));
        assert!(heard.borrow().is_none(), "{heard:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn offers_of_the_same_under_ever_new_tokens_take_no_room() {
        let (_dir, transfers) = host().await;
        let pull = pull(&transfers, 0);
        for number in 1..200 {
            assert!(ask(&transfers, wire::OFFER, &offer(number)).await.is_ok());
            assert_eq!(pull.source().token, token(number));
        }
        let known = |number: &u8| transfers.shared.pulls.find(&token(*number)).is_some();
        assert_eq!((0..200).filter(known).count(), 17);
        // Who was there before is told.
        assert_eq!(word(&ask(&transfers, wire::OFFER, &offer(198)).await), Some("stranger"));
    }
}
