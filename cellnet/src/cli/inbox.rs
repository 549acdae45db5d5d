//! What `cellnet serve` takes from others, and gives to them.

use std::{path::PathBuf, time::Duration};

use cellnet::{
    Cell,
    transfer::{Arrival, Arrivals, InboxConfig, TransferConfig, Transfers},
};
use serde::Serialize;

use super::{show, status::Failure, units};

/// Flags about files.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Files")]
pub(crate) struct Files {
    /// Take files that others send with `cellnet cp` into this folder, made with mode 0700 if it is absent
    #[arg(long, env = "CELLNET_INBOX", value_name = "DIR")]
    inbox: Option<PathBuf>,

    /// Most bytes that may be in the inbox; any number by default
    #[arg(long, env = "CELLNET_INBOX_QUOTA", value_name = "SIZE", value_parser = units::bytes)]
    inbox_quota: Option<u64>,

    /// Remove partial files that nobody wrote to for so long
    #[arg(long, env = "CELLNET_INBOX_KEEP", value_name = "TIME", default_value = "7d", value_parser = units::duration)]
    inbox_keep: Duration,

    /// Let others fetch what is below this folder
    #[arg(long, env = "CELLNET_OUTBOX", value_name = "DIR")]
    outbox: Option<PathBuf>,
}

impl Default for Files {
    fn default() -> Self {
        Self { inbox: None, inbox_quota: None, inbox_keep: Duration::from_secs(7 * 86_400), outbox: None }
    }
}

impl Files {
    /// Lets a cell take and give files, if it is to.
    pub(crate) async fn open(&self, cell: &Cell) -> Result<Option<Transfers>, Failure> {
        if self.inbox.is_none() && self.outbox.is_none() {
            return match self.inbox_quota {
                Some(_) => Err(Failure::usage("--inbox-quota is about an inbox; give --inbox DIR")),
                None => Ok(None),
            };
        }
        let mut config = TransferConfig::default();
        config.inbox = self.inbox.as_ref().map(|dir| {
            let mut inbox = InboxConfig::new(dir);
            inbox.quota = self.inbox_quota;
            inbox.partial_max_age = self.inbox_keep;
            inbox
        });
        config.outbox = self.outbox.clone();
        Ok(Some(Transfers::attach(cell, config).await?))
    }
}

/// Tells what arrives, until it is dropped: as a log, and as events on standard output if that is wanted.
pub(crate) async fn tell(mut arrivals: Arrivals, json: bool) {
    while let Some(Arrival { origin, path, outcome, .. }) = arrivals.next().await {
        match &outcome {
            Ok(receipt) => tracing::info!("'{origin}' sent '{path}': {receipt}"),
            Err(error) => {
                tracing::warn!(
                    "'{origin}' did not get '{path}' into the inbox: {error} ({})",
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
