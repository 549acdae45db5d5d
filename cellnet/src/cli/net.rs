//! How commands join a network.

use std::time::Duration;

use cellnet::{
    Cell, CellBuilder, CellUrl, Fqcn, ReturnCode, SHUTDOWN,
    link::DialError,
    pipe::{Place, PlaceError},
};
use clap::{Args, builder::FalseyValueParser};
use tokio::time::Instant;

use super::{
    security::Trust,
    status::{Failure, Status},
};

/// The cells above this one.
#[derive(Debug, Clone, Args)]
pub(crate) struct Upward {
    /// Where the server listens; several URLs are tried in this order, 250 ms apart, and the first that answers is used
    #[arg(long, env = "CELLNET_ROOT", value_name = "URL[,URL…]", value_parser = url, value_delimiter = ',')]
    pub(crate) root: Vec<CellUrl>,

    /// Where the parent listens: the relay or the site above this cell; several URLs as for --root
    #[arg(long, env = "CELLNET_PARENT", value_name = "URL[,URL…]", value_parser = url, value_delimiter = ',')]
    pub(crate) parent: Vec<CellUrl>,
}

impl Upward {
    /// The URLs to dial.
    pub(crate) fn urls(&self) -> impl Iterator<Item = &CellUrl> {
        self.root.iter().chain(&self.parent)
    }

    /// Refuses a command that has no way to its target.
    pub(crate) fn lead_to(&self, target: &Fqcn) -> Result<(), Failure> {
        if !self.is_empty() {
            return Ok(());
        }
        Err(Failure::usage(format!("no way to '{target}'; give --root URL or --parent URL")))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.root.is_empty() && self.parent.is_empty()
    }

    /// Lets a cell dial them.
    pub(crate) fn dial(&self, builder: CellBuilder) -> CellBuilder {
        builder.dial_any(self.root.clone()).dial_any(self.parent.clone())
    }
}

/// How a cell writes the heads of its messages.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct Heads {
    /// Write every head in full, also to cells that could read a short form: some 500 bytes instead of some 40 to 50
    #[arg(long, env = "CELLNET_PLAIN_HEADS", value_parser = FalseyValueParser::new())]
    plain_heads: bool,
}

impl Heads {
    /// Lets a cell do so.
    pub(crate) fn give(self, builder: CellBuilder) -> CellBuilder {
        builder.configure(|config| config.link.compact_heads = !self.plain_heads)
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

/// Reads `FQCN@URL,…` whose transports are there.
pub(crate) fn place(text: &str) -> Result<Place, String> {
    let place: Place = text.parse().map_err(|error: PlaceError| error.to_string())?;
    place.urls().iter().try_for_each(|url| self::url(&url.to_string()).map(drop))?;
    Ok(place)
}

/// Starts a cell for a command that ends, by its name or one that nobody else has, and waits until it has a way to each
/// target.
pub(crate) async fn join(
    trust: &Trust,
    upward: &Upward,
    name: Option<&Fqcn>,
    targets: &[Fqcn],
    within: Duration,
) -> Result<(Cell, Result<(), Unreached>), Failure> {
    let began = Instant::now();
    let start = async |name| upward.dial(trust.builder(name)).start().await;
    let reach_all = async |cell: &Cell| {
        for target in targets {
            reach(cell, target, began, within).await?;
        }
        Ok(())
    };
    let cell = start(name.cloned().unwrap_or_else(|| trust.random_name())).await?;
    let reached = reach_all(&cell).await;
    let routed = || targets.iter().all(|target| cell.route(target).is_some());
    if reached.is_err() || name.is_some() || routed() {
        return Ok((cell, reached));
    }
    // A parent passes on what comes from its children only, and now its name is known.
    let neighbours = cell.neighbours();
    let below = |parent: &Fqcn| format!("{parent}.{}", trust.random_name()).parse().ok();
    let Some(child) = neighbours.first().and_then(below) else { return Ok((cell, reached)) };
    cell.shutdown(SHUTDOWN).await;
    let cell = start(child).await?;
    let reached = reach_all(&cell).await;
    Ok((cell, reached))
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
    let unauthorised = errors.iter().any(DialError::is_unauthorised);
    let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
    Err(Unreached { told: told.join(" and "), within, unauthorised })
}

/// The URLs by which a cell reached those that it dialled.
pub(crate) fn via(cell: &Cell) -> Vec<String> {
    cell.dialled().into_iter().map(|(_, url)| url.to_string()).collect()
}

/// Nobody above could be reached in time.
#[derive(Debug, thiserror::Error)]
#[error("no connection to {} within {within:?}; {}", self.whom(), self.advice())]
pub(crate) struct Unreached {
    told: String,
    within: Duration,
    /// Somebody was there, and one side does not trust the other.
    unauthorised: bool,
}

impl Unreached {
    /// The return code that says so in JSON.
    pub(crate) fn code(&self) -> ReturnCode {
        if self.unauthorised { ReturnCode::AUTHENTICATION_ERROR } else { ReturnCode::TARGET_UNREACHABLE }
    }

    fn whom(&self) -> &str {
        if self.told.is_empty() { "any cell above" } else { &self.told }
    }

    fn advice(&self) -> &str {
        if self.unauthorised {
            "check the certificates of both sides and the name that each of them claims"
        } else {
            "check that a cell listens there, or give more --timeout"
        }
    }
}

impl From<Unreached> for Failure {
    fn from(error: Unreached) -> Self {
        let status = if error.unauthorised { Status::NotAuthorised } else { Status::Unreachable };
        Self::new(status, error.to_string()).with_code(error.code())
    }
}
