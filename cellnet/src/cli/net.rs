//! How commands join a network.

use std::time::Duration;

use cellnet::{Cell, CellBuilder, CellUrl, Fqcn, ReturnCode};
use clap::Args;
use tokio::time::Instant;

use super::status::{Failure, Status};

/// The cells above this one.
#[derive(Debug, Clone, Args)]
pub(crate) struct Upward {
    /// Where the server listens
    #[arg(long, env = "CELLNET_ROOT", value_name = "URL", value_parser = url)]
    pub(crate) root: Option<CellUrl>,

    /// Where the parent listens: the relay or the site above this cell
    #[arg(long, env = "CELLNET_PARENT", value_name = "URL", value_parser = url)]
    pub(crate) parent: Option<CellUrl>,
}

impl Upward {
    /// The URLs to dial.
    pub(crate) fn urls(&self) -> impl Iterator<Item = CellUrl> {
        self.root.iter().chain(&self.parent).cloned()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.root.is_none() && self.parent.is_none()
    }

    /// Lets a cell dial them.
    pub(crate) fn dial(&self, builder: CellBuilder) -> CellBuilder {
        self.urls().fold(builder, CellBuilder::dial)
    }
}

/// Reads a URL whose transport is there.
pub(crate) fn url(text: &str) -> Result<CellUrl, String> {
    let url: CellUrl = text.parse().map_err(|error: cellnet::UrlError| error.to_string())?;
    let known: Vec<_> = cellnet::schemes().collect();
    let scheme = url.scheme().as_str();
    if known.contains(&scheme) {
        return Ok(url);
    }
    Err(match cellnet::feature_for(scheme) {
        Some(feature) => format!("'{scheme}' is not compiled in; build cellnet with the feature '{feature}'"),
        None => format!("no transport for the scheme '{scheme}'; use one of: {}", known.join(", ")),
    })
}

/// Waits until there is a way to a target, or at least as many links as there will be in time, which counts since
/// `began`.
pub(crate) async fn reach(
    cell: &Cell,
    target: &Fqcn,
    began: Instant,
    within: Duration,
) -> Result<(), Unreached> {
    let linked = async {
        cell.connected_any().await;
        if cell.route(target).is_none() {
            cell.connected().await;
        }
    };
    let in_time = tokio::time::timeout_at(began + within, linked).await.is_ok();
    if in_time || !cell.neighbours().is_empty() {
        return Ok(());
    }
    let errors = cell.dial_errors();
    let told = errors.iter().map(ToString::to_string);
    Err(Unreached { told: told.collect::<Vec<_>>().join(" and "), within })
}

/// Nobody above could be reached in time.
#[derive(Debug, thiserror::Error)]
#[error("no connection to {} within {within:?}; check that a cell listens there, or give more --timeout", self.whom())]
pub(crate) struct Unreached {
    told: String,
    within: Duration,
}

impl Unreached {
    /// The return code that says so in JSON.
    pub(crate) fn code(&self) -> ReturnCode {
        ReturnCode::TARGET_UNREACHABLE
    }

    fn whom(&self) -> &str {
        if self.told.is_empty() { "any cell above" } else { &self.told }
    }
}

impl From<Unreached> for Failure {
    fn from(error: Unreached) -> Self {
        Self::new(Status::Unreachable, error.to_string()).with_code(error.code())
    }
}
