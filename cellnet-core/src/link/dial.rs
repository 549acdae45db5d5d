//! Dials a URL, keeps the link, dials again.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::sync::watch;
use tracing::Instrument;

use super::{Host, Link, LinkConfig, LinkError, chain, handshake, run::run};
use crate::{
    fqcn::Fqcn,
    transport::{Batch, Connection, Target},
    url::CellUrl,
};

/// How dialling one URL goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct DialState {
    /// Who answers there, while the link lives.
    pub(crate) peer: Option<Fqcn>,
    /// By which URL it was reached.
    pub(crate) url: Option<CellUrl>,
    /// Why there is no link.
    pub(crate) error: Option<String>,
}

/// Keeps a link to the cell that listens at these URLs, of which there is at least one, until the cell stops.
pub(crate) async fn dial_loop(host: Host, urls: Vec<CellUrl>, state: watch::Sender<DialState>) {
    let url = urls[0].clone();
    let span = tracing::debug_span!("dial", %url);
    let config = &host.links.config;
    let dialling = async {
        let mut pauses = pauses(config);
        loop {
            match dial(&host, &url).await {
                Ok((link, connection, early)) => {
                    state.send_replace(DialState {
                        peer: Some(link.peer.clone()),
                        url: Some(url.clone()),
                        error: None,
                    });
                    run(host.clone(), link.clone(), connection, early).await;
                    let reason = chain(&*link.reason());
                    if link.opened.elapsed() >= config.healthy {
                        pauses = self::pauses(config);
                    } else if !host.links.stop.is_cancelled() && !link.said_bye_before() {
                        tracing::warn!(%url, me = %host.links.identity.me, reason,
                            "the link ended soon after it began; another process may use this cell's name");
                    }
                    state.send_replace(DialState { error: Some(reason), ..DialState::default() });
                }
                Err(LinkError::ShuttingDown) => return,
                Err(error) => {
                    let error = chain(&error);
                    tracing::warn!(%url, error, "cannot connect");
                    state.send_replace(DialState { error: Some(error), ..DialState::default() });
                }
            }
            if host.links.stop.is_cancelled() {
                return;
            }
            let pause = pauses.next().unwrap_or(config.redial_max).min(config.redial_max);
            let _ = tokio::time::timeout(pause, host.links.stop.cancelled()).await;
        }
    };
    dialling.instrument(span).await;
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

async fn dial(host: &Host, url: &CellUrl) -> Result<(std::sync::Arc<Link>, Connection, Batch), LinkError> {
    let links = &host.links;
    let open = async {
        let mut target = Target::new(url.clone(), links.budgets.frames.clone());
        target.silence = links.config.silence;
        #[cfg(feature = "tls")]
        target.tls.clone_from(&links.tls);
        let mut connection = links.transports.connect(&target).await?;
        let opened = handshake::active(links, &mut connection).await?;
        let link = Link::new(links, &opened, &connection);
        links.table.claim(&link, links.config.probe).await?;
        Ok((link, connection, opened.early))
    };
    tokio::select! {
        biased;
        () = links.stop.cancelled() => Err(LinkError::ShuttingDown),
        opened = open => opened,
    }
}
