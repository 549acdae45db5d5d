//! Arrays and files that stay with their owner until the cells that need them pull them, piece by piece.
//!
//! A message refers to its arrays; whoever decodes it pulls them from their owner, however many cells have passed the
//! message on in between. It is the download service of the reference, on both sides: Python cells pull from here and
//! the other way round.
//!
//! ```no_run
//! # use cellnet_core::{Fqcn, cell::Cell, fobs::{Array, Object}, message::Message};
//! # use cellnet_pipe::download::{Downloads, Offer, Outcome};
//! # async fn example(cell: Cell, server: Fqcn) -> Result<(), Box<dyn std::error::Error>> {
//! let downloads = Downloads::attach(&cell);
//!
//! // To send: large arrays become references that only the server may follow.
//! let weights = Object::from_iter([("w", Array::from(vec![0.5_f32; 1 << 20]))]);
//! let sent = downloads.encode(weights, Offer::to(server.clone()))?;
//! let reply = cell.request(&server, "models", "submit", Message::new(sent.payload.clone())).await?;
//! if let Some(transaction) = &sent.transaction {
//!     assert_eq!(transaction.done().await, Outcome::Delivered);
//! }
//!
//! // To receive: everything that the payload refers to is pulled.
//! let answer = downloads.decode("models", &reply).await?;
//! # Ok(()) }
//! ```
//!
//! What it promises:
//!
//! * A payload comes complete or not at all. A pull ends with everything, or with a typed error within its progress
//!   deadline, which counts from the last byte that came.
//! * Only cells that an [`Offer`] names may pull, as often as it says.
//! * A [`Transaction`] ends when all have pulled, when nothing has gone on for its life-time, when it is released, or
//!   with the cell. Its arrays are freed then. Whoever lost the last answer gets it again for half an hour.
//! * An [`Encoded`] message that is sent again has the same references, so there is no second transaction.
//! * Transactions, remembered references, answers on their way and what is pulled are bounded, see [`DownloadConfig`].
//! * Files are read and written in pieces of 5 MiB; a pull can go on where an earlier one has ended.
//!
//! The [wire format](self::wire) is that of `fuel/f3/streaming/download_service.py`.

mod config;
mod content;
mod encoded;
mod error;
mod fetch;
mod file;
mod ledger;
mod offer;
mod pull;
mod pulled;
mod service;
#[cfg(test)]
mod testdata;
#[cfg(test)]
mod tests;
mod transaction;
mod turns;
pub mod wire;

use std::{collections::HashMap, path::Path, sync::Arc};

use bytestring::ByteString;
use cellnet_core::{
    Fqcn,
    cell::Cell,
    fobs::{self, Array, ArrayKind, Download, Object, ReferenceError, Source},
    message::{Message, Payload},
    wire::{Limits, keys::cn},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::timeout;
use uuid::Uuid;

pub use self::{
    config::{DownloadConfig, PullConfig},
    encoded::Encoded,
    error::{CorruptError, OfferError, PullError},
    file::FilePull,
    offer::Offer,
    transaction::{Given, Outcome, Receiver, Status, Transaction},
    wire::WireError,
};
use self::{content::Content, pulled::Allowance, service::Service};

/// The downloads of a cell, both those that others pull from it and those that it pulls. Clones are the same, and so are
/// all that are attached to one cell; they keep the cell alive.
#[derive(Debug, Clone)]
pub struct Downloads {
    cell: Cell,
    service: Arc<Service>,
}

impl Downloads {
    /// The downloads of a cell, which from now on answers those who pull. Must be called on its runtime.
    pub fn attach(cell: &Cell) -> Self {
        Self::attach_with(cell, DownloadConfig::default())
    }

    /// The downloads of a cell, which behave as `config` says unless something was attached to the cell before.
    pub fn attach_with(cell: &Cell, config: DownloadConfig) -> Self {
        Self { cell: cell.clone(), service: Service::of(cell, || config) }
    }

    /// How they behave.
    pub fn config(&self) -> &DownloadConfig {
        &self.service.config
    }

    /// The cell.
    pub fn cell(&self) -> &Cell {
        &self.cell
    }

    /// Transactions that are open.
    pub fn open_transactions(&self) -> usize {
        self.service.ledger().len()
    }

    /// Encodes a message whose arrays others will pull: they become references under the terms of `offer`. Arrays of one
    /// kind that are smaller than [`DownloadConfig::inline_below`] together travel in the message.
    ///
    /// References that are in it already are passed on as they are, and then arrays of their kind travel in the message,
    /// as a message can name one source for each kind.
    ///
    /// The message can be sent as often as need be, and to all cells of the offer.
    pub fn encode(&self, mut object: Object, offer: Offer) -> Result<Encoded, OfferError> {
        let mut refs = Vec::new();
        for kind in ArrayKind::ALL {
            let source = Source::new(self.cell.name().clone(), Uuid::new_v4().to_string());
            let mut referring = object.clone();
            let content = Content::Items { kind, items: referring.refer(kind, &source) };
            if content.end() > 0 && content.held() >= self.config().inline_below as u64 {
                refs.push((source.ref_id, Arc::new(content)));
                object = referring;
            }
        }
        let transaction = match refs.is_empty() {
            true => None,
            false => Some(self.service.open(offer, refs)?),
        };
        Ok(Encoded { payload: Payload::Fobs(fobs::encode(&fobs::Document::new(object))), transaction })
    }

    /// Offers arrays by name, for a message that is made by hand.
    pub fn offer(
        &self,
        kind: ArrayKind,
        arrays: impl IntoIterator<Item = (ByteString, Array)>,
        offer: Offer,
    ) -> Result<(Source, Transaction), OfferError> {
        let items = arrays.into_iter().collect();
        self.open(Uuid::new_v4().to_string(), Content::Items { kind, items }, offer)
    }

    /// Offers a file as it is now. Whoever pulls it after it has changed is told that it failed.
    pub async fn offer_file(
        &self,
        path: impl AsRef<Path>,
        offer: Offer,
    ) -> Result<(Source, Transaction), OfferError> {
        let path = path.as_ref().to_owned();
        let opened = {
            let path = path.clone();
            tokio::task::spawn_blocking(move || Content::file(&path)).await
        };
        let content = match opened {
            Ok(content) => content.map_err(|source| OfferError::File { path, source })?,
            Err(_) => return Err(OfferError::ShuttingDown),
        };
        self.open(format!("R{}", Uuid::new_v4()), content, offer)
    }

    fn open(
        &self,
        ref_id: String,
        content: Content,
        offer: Offer,
    ) -> Result<(Source, Transaction), OfferError> {
        let source = Source::new(self.cell.name().clone(), ref_id);
        let refs = vec![(source.ref_id.clone(), Arc::new(content))];
        Ok((source, self.service.open(offer, refs)?))
    }

    /// Decodes a message that came on a channel, and pulls what it refers to.
    ///
    /// If the message asks for it (`cn__pass_through`), or the channel is one of
    /// [`DownloadConfig::pass_through_channels`], references stay, to be passed on with [`encode`](Self::encode) or
    /// followed with [`resolve`](Self::resolve). No payload is `Nil`, and bytes are `Bin`.
    pub async fn decode(&self, channel: &str, message: &Message) -> Result<Object, PullError> {
        match message.headers.flag(cn::PASS_THROUGH) || self.passes_through(channel) {
            true => open_payload(&message.payload),
            false => self.decode_payload(&message.payload).await,
        }
    }

    /// Decodes a payload, and pulls what it refers to, whatever the message around it said.
    pub async fn decode_payload(&self, payload: &Payload) -> Result<Object, PullError> {
        self.resolve(open_payload(payload)?).await
    }

    fn passes_through(&self, channel: &str) -> bool {
        self.config().pass_through_channels.iter().any(|known| known == channel)
    }

    /// Pulls all arrays that an object refers to, several references at once, and puts them in their places. A dropped
    /// future stops asking.
    pub async fn resolve(&self, mut object: Object) -> Result<Object, PullError> {
        let allowance = &self.allowance();
        let pulls = stream::iter(object.downloads()).map(move |download| async move {
            let arrays = self.pull(&download, allowance).await?;
            Ok::<_, PullError>((download, arrays))
        });
        let parallel = self.config().pull.parallel.max(1);
        let pulled: Vec<_> = pulls.buffer_unordered(parallel).try_collect().await?;
        for (download, arrays) in pulled {
            object.fill(&download, |item| arrays.get(item).cloned())?;
        }
        Ok(object)
    }

    fn allowance(&self) -> Allowance {
        Allowance::new(&self.config().pull, self.service.pulled.clone())
    }

    async fn pull(
        &self,
        download: &Download,
        allowance: &Allowance,
    ) -> Result<HashMap<ByteString, Array>, PullError> {
        let Download { kind, source, items } = download;
        let config = &self.config().pull;
        let turn = timeout(config.progress, self.service.pulling.take(&source.owner)).await;
        let _turn = turn.map_err(|_| PullError::Busy(config.at_once))?;
        let arrays = fetch::arrays(&self.cell, *kind, source, config, allowance).await?;
        match items.iter().find(|item| !arrays.contains_key(*item)) {
            Some(item) => Err(ReferenceError::Missing(item.clone()).into()),
            None => Ok(arrays),
        }
    }

    /// Pulls all arrays of a source by their names.
    pub async fn pull_arrays(
        &self,
        kind: ArrayKind,
        source: &Source,
    ) -> Result<HashMap<ByteString, Array>, PullError> {
        let download = Download { kind, source: source.clone(), items: Vec::new() };
        self.pull(&download, &self.allowance()).await
    }

    /// Pulls a file; where to is said next.
    pub fn pull_file(&self, owner: &Fqcn, ref_id: impl Into<ByteString>) -> FilePull {
        let source = Source::new(owner.clone(), ref_id);
        FilePull::new(self.cell.clone(), source, self.config().pull.clone())
    }
}

/// A payload with its references.
fn open_payload(payload: &Payload) -> Result<Object, PullError> {
    Ok(match payload {
        Payload::None => Object::Nil,
        Payload::Bytes(bytes) => Object::Bin(bytes.clone()),
        Payload::Fobs(payload) => fobs::decode(payload, Limits::PAYLOAD)?.into_object()?,
    })
}
