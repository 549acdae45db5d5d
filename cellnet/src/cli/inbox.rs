//! What `cellnet serve` takes from others, and gives to them.

use std::{path::PathBuf, time::Duration};

use cellnet::{
    Cell, CellBuilder,
    transfer::{Arrival, Arrivals, InboxConfig, TransferConfig, Transfers},
};
use serde::Serialize;

use super::{show, status::Failure, units};

/// Flags about files.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Files")]
pub(crate) struct Files {
    /// Take files that others send with `cellnet cp` into this folder, made with mode 0700 if it is absent
    #[arg(long, env = "CELLNET_INBOX", value_name = "DIR")]
    inbox: Option<PathBuf>,

    /// Most bytes that may be in the inbox; any number by default
    #[arg(long, env = "CELLNET_INBOX_QUOTA", value_name = "SIZE", value_parser = units::bytes)]
    inbox_quota: Option<u64>,

    /// Remove partial files that nobody wrote to for so long; 7d by default
    #[arg(long, env = "CELLNET_INBOX_KEEP", value_name = "TIME", value_parser = units::duration)]
    inbox_keep: Option<Duration>,

    /// Let others fetch what is below this folder
    #[arg(long, env = "CELLNET_OUTBOX", value_name = "DIR")]
    outbox: Option<PathBuf>,

    /// Memory for blocks that pass, so that several cells behind this one cost one copy; 0 keeps none. 16MiB by default
    #[arg(long, env = "CELLNET_BLOCK_CACHE", value_name = "SIZE", value_parser = units::size)]
    block_cache: Option<usize>,
}

impl Files {
    /// Lets a cell keep blocks that pass.
    pub(crate) fn relay(&self, builder: CellBuilder) -> CellBuilder {
        match self.block_cache {
            Some(bytes) => builder.configure(|config| config.block_cache = bytes),
            None => builder,
        }
    }

    /// Lets a cell take and give files, if it is to.
    pub(crate) async fn open(&self, cell: &Cell) -> Result<Option<Transfers>, Failure> {
        if self.inbox.is_none() && self.outbox.is_none() {
            let about =
                [("--inbox-quota", self.inbox_quota.is_some()), ("--inbox-keep", self.inbox_keep.is_some())];
            return match about.into_iter().find(|(_, given)| *given) {
                Some((flag, _)) => Err(Failure::usage(format!("{flag} is about an inbox; give --inbox DIR"))),
                None => Ok(None),
            };
        }
        let mut config = TransferConfig::default();
        config.inbox = self.inbox.as_ref().map(|dir| {
            let mut inbox = InboxConfig::new(dir);
            inbox.quota = self.inbox_quota;
            inbox.partial_max_age = self.inbox_keep.unwrap_or(inbox.partial_max_age);
            inbox
        });
        config.outbox = self.outbox.clone();
        Ok(Some(Transfers::attach(cell, config).await?))
    }
}

/// Tells what arrives, until it is dropped: as a log, and as events on standard output if that is wanted.
pub(crate) async fn tell(mut arrivals: Arrivals, json: bool) {
    while let Some(Arrival { origin, path, outcome, .. }) = arrivals.next().await {
        let place = if path.is_empty() {
            "the inbox".to_owned()
        } else {
            format!("'{}' in the inbox", path.escape_debug())
        };
        match &outcome {
            Ok(receipt) => tracing::info!("'{origin}' sent to {place}: {receipt}"),
            Err(error) => {
                tracing::warn!(
                    "'{origin}' did not get into {place} what it sent: {error} ({})",
                    error.reason()
                );
            }
        }
        if json {
            let receipt = outcome.as_ref().ok();
            let arrived = Arrived {
                event: "arrived",
                peer: origin.as_str(),
                path: &path,
                files: receipt.map_or(0, |receipt| receipt.files),
                bytes: receipt.map_or(0, |receipt| receipt.bytes),
                resumed_bytes: receipt.map_or(0, |receipt| receipt.resumed),
                moved_bytes: receipt.map_or(0, |receipt| receipt.received),
                hash: receipt.map(|receipt| receipt.digest_hex()),
                reason: outcome.as_ref().err().map(|error| error.reason().as_str()),
                error: outcome.as_ref().err().map(ToString::to_string),
            };
            // Who closed standard output has the log.
            let _ = show::print_event(&arrived);
        }
    }
}

/// Names as in the last line of `cellnet cp --json`.
#[derive(Debug, Serialize)]
struct Arrived<'a> {
    event: &'static str,
    peer: &'a str,
    path: &'a str,
    files: u64,
    bytes: u64,
    resumed_bytes: u64,
    moved_bytes: u64,
    hash: Option<String>,
    reason: Option<&'static str>,
    error: Option<String>,
}
