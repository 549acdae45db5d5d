//! Fetching what another cell has in its outbox, to a directory or into a writer.

use std::{path::PathBuf, sync::Arc};

use futures_util::StreamExt;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    time::{Instant, timeout},
};

use super::{
    FetchOptions, Phase, Reason, Receipt, TransferError,
    asker::{Asker, backoff},
    blocks::{block_count, block_len},
    digest::{ManifestDigest, block_value, hole_value},
    dir::Dir,
    handle::Runner,
    path::RelPath,
    pull::{Pull, Source},
    send::ended,
    serve::check_offer,
    shared::Shared,
    sink::{Sink, blocking},
    wire::{self, Done, Entry, Offer, Open, VALUE_LEN},
};
use crate::{fqcn::Fqcn, message::Message};

/// Fetches to a directory of this machine.
pub(crate) async fn fetch(
    shared: Arc<Shared>,
    target: Fqcn,
    remote: String,
    local: PathBuf,
    options: FetchOptions,
    runner: Runner,
) {
    let outcome = async {
        let shown = local.display().to_string();
        let root = blocking(move || {
            Dir::open(&local).map_err(|error| TransferError::io(format_args!("'{shown}'"), &error))
        });
        let root = Arc::new(root.await?);
        let fetching = Fetching::open(&shared, &target, &remote, &runner).await?;
        let offer = Offer { overwrite: options.overwrite, path: "".into(), ..fetching.offer.clone() };
        let sink = Sink {
            asker: fetching.asker.clone(),
            pull: fetching.pull.clone(),
            offer,
            root,
            path: RelPath::default(),
            config: shared.config.clone(),
            limits: shared.limits.clone(),
            room: None,
        };
        sink.run().await
    };
    let outcome = outcome.await;
    runner.finish(outcome);
}

/// Fetches one file into a writer.
pub(crate) async fn fetch_into(
    shared: Arc<Shared>,
    target: Fqcn,
    remote: String,
    writer: impl AsyncWrite + Send + Unpin + 'static,
    runner: Runner,
) {
    let outcome = async {
        let fetching = Fetching::open(&shared, &target, &remote, &runner).await?;
        let outcome = tokio::select! {
            biased;
            () = fetching.pull.stopped.cancelled() => Err(fetching.pull.why()),
            outcome = fetching.write(writer, shared.config.window) => outcome,
            error = fetching.stalled() => Err(error),
        };
        if let Err(error) = &outcome {
            fetching.asker.failed(error).await;
        }
        outcome
    };
    let outcome = outcome.await;
    runner.finish(outcome);
}

/// Something that another cell lets us pull.
struct Fetching {
    asker: Arc<Asker>,
    pull: Arc<Pull>,
    offer: Offer,
}

impl Fetching {
    async fn open(
        shared: &Shared,
        target: &Fqcn,
        remote: &str,
        runner: &Runner,
    ) -> Result<Self, TransferError> {
        let asking = ask_to_open(shared, target, remote);
        let offer = tokio::select! {
            biased;
            () = runner.cancelled.cancelled() => return Err(TransferError::here(Reason::Cancelled, "given up")),
            () = shared.stop.cancelled() => return Err(ended()),
            offer = asking => offer?,
        };
        check_offer(&offer, shared.config.max_entries)?;
        if offer.bytes.is_none() {
            let text = "what is fetched has a size, and this has none";
            return Err(TransferError::peer(target, Reason::SizeMismatch, text));
        }
        let source = Source { cell: target.clone(), token: offer.token };
        let (progress, stopped) = (runner.progress.clone(), runner.cancelled.clone());
        let pull = Pull::new(source, offer.fingerprint, "", progress, stopped, shared.stop.clone());
        let pull = Arc::new(pull);
        let asker = Asker::new(shared.cell.clone(), pull.clone(), &shared.config, Some(remote.to_owned()));
        Ok(Self { asker: Arc::new(asker), pull, offer })
    }

    /// Writes the only file, in order, and asks the source whether it was right.
    async fn write(
        &self,
        mut writer: impl AsyncWrite + Unpin,
        window: usize,
    ) -> Result<Receipt, TransferError> {
        let mut page = self.asker.list(0).await?;
        let entry = match (page.entries.pop(), page.entries.is_empty()) {
            (Some(entry), true) if !entry.dir && self.offer.entries == 1 => entry,
            _ => {
                return Err(TransferError::here(
                    Reason::Unsupported,
                    "only a single file can be written to a stream",
                ));
            }
        };
        let Some(size) = entry.size.filter(|size| Some(*size) == self.offer.bytes) else {
            return Err(TransferError::here(
                Reason::SizeMismatch,
                "the file has not the size that was offered",
            ));
        };
        self.pull.announce(Some(size), 1);
        let (digest, received) = self.write_blocks(&mut writer, &entry, size, window).await?;
        // Some, standard output among them, end without what they have not written yet.
        let ended = self.unhurried(async {
            writer.flush().await?;
            writer.shutdown().await
        });
        ended.await.map_err(|error| TransferError::io("the writer", &error))?;
        let receipt = Receipt { files: 1, bytes: size, received, resumed: 0, digest };
        self.pull.did(size, 0, Phase::Settling);
        let token = self.offer.token;
        // It cannot be taken back, so right and placed are the same here.
        self.asker.done(&Done { token, placed: true, receipt: Some(receipt.clone()), failure: None }).await?;
        Ok(receipt)
    }

    async fn write_blocks(
        &self,
        writer: &mut (impl AsyncWrite + Unpin),
        entry: &Entry,
        size: u64,
        window: usize,
    ) -> Result<(wire::Hash, u64), TransferError> {
        let block_size = self.offer.block;
        let (mut hasher, mut received, mut written) = (blake3::Hasher::new(), 0, 0);
        let ahead = (window / block_size as usize).max(2);
        let blocks = futures_util::stream::iter(0..block_count(size, block_size));
        let mut blocks = blocks.map(|block| self.block(block, size)).buffered(ahead);
        while let Some(block) = blocks.next().await {
            let (payload, len) = block?;
            let bytes = &payload[VALUE_LEN..];
            let zeros;
            let bytes = if bytes.is_empty() {
                zeros = vec![0; len];
                &zeros
            } else {
                received += bytes.len() as u64;
                bytes
            };
            hasher.update(bytes);
            let wrote = self.unhurried(writer.write_all(bytes)).await;
            wrote.map_err(|error| TransferError::io("the writer", &error))?;
            written += bytes.len() as u64;
            self.pull.did(written, 0, Phase::Moving);
        }
        let mut digest = ManifestDigest::default();
        digest.add(entry, Some((size, hasher.finalize().into())));
        Ok((digest.finish(), received))
    }

    /// Waits for the writer, who may take any time: people read at their own pace.
    async fn unhurried<T>(&self, writing: impl Future<Output = T>) -> T {
        let mut writing = std::pin::pin!(writing);
        loop {
            match timeout(SIGN_OF_LIFE, writing.as_mut()).await {
                Ok(wrote) => return wrote,
                Err(_) => self.pull.touch(),
            }
        }
    }

    /// A block that is what its value says.
    async fn block(&self, block: u64, size: u64) -> Result<(bytes::Bytes, usize), TransferError> {
        let offset = block * u64::from(self.offer.block);
        let len = block_len(size, self.offer.block, block).unwrap_or(0);
        for attempt in 0..DAMAGED_AT_MOST {
            let reply = self.asker.block(0, block, attempt > 0, None).await?;
            let payload = reply.payload.to_bytes();
            let Some((value, bytes)) = payload.split_at_checked(VALUE_LEN) else { continue };
            let known = match bytes {
                [] => hole_value(offset, len),
                bytes if bytes.len() == len => block_value(offset, bytes),
                _ => {
                    return Err(TransferError::here(
                        Reason::SizeMismatch,
                        format!("block {block} has the wrong size"),
                    ));
                }
            };
            if known == value {
                return Ok((payload, len));
            }
        }
        Err(TransferError::here(
            Reason::Corrupt,
            format!("block {block} came damaged {DAMAGED_AT_MOST} times"),
        ))
    }

    async fn stalled(&self) -> TransferError {
        loop {
            let deadline = self.pull.last_progress() + self.asker.patience;
            if deadline <= Instant::now() {
                return TransferError::here(
                    Reason::Stalled,
                    format!("no progress for {:?}", self.asker.patience),
                );
            }
            tokio::time::sleep_until(deadline).await;
        }
    }
}

/// Asks for an offer until there is an answer.
async fn ask_to_open(shared: &Shared, target: &Fqcn, remote: &str) -> Result<Offer, TransferError> {
    let (began, payload) = (Instant::now(), wire::encode(&Open { path: remote.into() }));
    let mut failures = 0;
    loop {
        let message = Message::new(payload.clone());
        let asked =
            shared.cell.request(target, wire::CHANNEL, wire::OPEN, message).timeout(OPEN_PATIENCE).await;
        let (error, patience) = match asked {
            Ok(reply) if reply.is_ok() => return wire::decode(reply.payload.as_bytes()),
            Ok(reply) => match wire::refused(target, &reply) {
                Some(error) if error.reason() != Reason::ShuttingDown => return Err(error),
                _ => {
                    let text = reply.error().unwrap_or("no answer").to_owned();
                    let known = reply.code() == Some(crate::message::ReturnCode::PROCESS_EXCEPTION);
                    let reason = if known { Reason::NoInbox } else { Reason::Stalled };
                    let patience = if known { OPEN_PATIENCE } else { shared.config.patience };
                    (TransferError::peer(target, reason, text), patience)
                }
            },
            Err(crate::cell::RequestError::ShuttingDown) => return Err(ended()),
            Err(error) => (TransferError::here(Reason::Stalled, error.to_string()), shared.config.patience),
        };
        if began.elapsed() >= patience {
            return Err(error);
        }
        tokio::time::sleep(backoff(failures)).await;
        failures += 1;
    }
}

/// How often a writer that waits counts as one that goes on.
const SIGN_OF_LIFE: std::time::Duration = std::time::Duration::from_secs(1);
/// How often a block may come damaged.
const DAMAGED_AT_MOST: u32 = 3;
/// How long a source may take to look through a tree, and how long one is asked that does not know what is wanted.
const OPEN_PATIENCE: std::time::Duration = std::time::Duration::from_secs(15);
