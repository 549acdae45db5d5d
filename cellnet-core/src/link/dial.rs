//! Dials a cell, keeps the link, dials again.

use std::{fmt, sync::Arc, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::sync::watch;
use tracing::Instrument;

use super::{
    Host, Link, LinkConfig, LinkError, chain,
    race::{Won, race},
    run::run,
};
use crate::{fqcn::Fqcn, url::CellUrl};

/// How dialling one cell goes.
#[derive(Debug, Clone, Default)]
pub(crate) struct DialState {
    /// Who answers there, while the link lives.
    pub(crate) peer: Option<Fqcn>,
    /// By which URL it was reached.
    pub(crate) url: Option<CellUrl>,
    /// Why there is no link.
    pub(crate) error: Option<DialError>,
}

/// Keeps a link to the cell that listens at these URLs, of which there is at least one, until the cell stops.
pub(crate) async fn dial_loop(host: Host, urls: Vec<CellUrl>, state: watch::Sender<DialState>) {
    let config = &host.links.config;
    let failed = |error| {
        state.send_replace(DialState { error: Some(error), ..DialState::default() });
    };
    let mut pauses = pauses(config);
    loop {
        let dialled = tokio::select! {
            biased;
            () = host.links.stop.cancelled() => return,
            dialled = dial(&host, &urls) => dialled,
        };
        match dialled {
            Ok((link, won)) => {
                let Won { url, connection, opened, span } = won;
                tracing::info!(peer = %link.peer, %url, "connected");
                let (peer, reached) = (Some(link.peer.clone()), Some(url.clone()));
                state.send_replace(DialState { peer, url: reached, error: None });
                run(host.clone(), link.clone(), connection, opened.early).instrument(span).await;
                let reason = link.reason();
                if link.opened.elapsed() >= config.healthy {
                    pauses = self::pauses(config);
                } else if !host.links.stop.is_cancelled() && !link.said_bye_before() {
                    tracing::warn!(%url, me = %host.links.identity.me, reason = chain(&*reason),
                        "the link ended soon after it began; another process may use this cell's name");
                }
                failed(DialError { attempts: vec![(url, reason)] });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot connect");
                failed(error);
            }
        }
        if host.links.stop.is_cancelled() {
            return;
        }
        let pause = pauses.next().unwrap_or(config.redial_max).min(config.redial_max);
        let _ = tokio::time::timeout(pause, host.links.stop.cancelled()).await;
    }
}

fn pauses(config: &LinkConfig) -> impl Iterator<Item = Duration> + use<> {
    ExponentialBuilder::default()
        .with_min_delay(config.redial_min)
        .with_max_delay(config.redial_max)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
        .build()
}

/// One round: the first way that leads to the cell, and the cell's name taken for it.
async fn dial(host: &Host, urls: &[CellUrl]) -> Result<(Arc<Link>, Won), DialError> {
    let links = &host.links;
    let won = race(links, urls).await?;
    let link = Link::new(links, &won.opened, &won.connection);
    match links.table.claim(&link, &links.config).await {
        Ok(()) => Ok((link, won)),
        Err(error) => Err(DialError { attempts: vec![(won.url, Arc::new(error))] }),
    }
}

/// Why there is no link to a cell that was dialled.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DialError {
    /// The URLs that were tried, in the order of the list, each with the reason why it did not lead to a link, or why
    /// the link by it ended.
    pub attempts: Vec<(CellUrl, Arc<LinkError>)>,
}

impl DialError {
    /// Of a round, with the places of the URLs.
    pub(super) fn of_round(urls: &[CellUrl], mut failures: Vec<(usize, LinkError)>) -> Self {
        failures.sort_by_key(|(at, _)| *at);
        let attempts = failures.into_iter().map(|(at, reason)| (urls[at].clone(), Arc::new(reason)));
        Self { attempts: attempts.collect() }
    }

    /// Whether it is known of one of the URLs that somebody is there who is not to be trusted or does not trust this
    /// cell: a certificate was refused on either side, or a name that the certificate does not allow.
    pub fn is_unauthorised(&self) -> bool {
        self.attempts.iter().any(|(_, reason)| reason.is_unauthorised())
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (url, reason)) in self.attempts.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}'{url}' ({})", chain(&**reason))?;
        }
        Ok(())
    }
}

impl std::error::Error for DialError {}
