//! Describes a cell and starts it.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Cell, CellConfig, Handle, Inner, StartError, events::EventSender, filters::Filters, intake::Intake,
    pending::Pending,
};
#[cfg(feature = "tls")]
use crate::tls::Tls;
use crate::{
    fqcn::Fqcn,
    identity::{CommonNamePolicy, IdentityPolicy},
    link::{Budgets, DialState, Handshakes, Host, Identity, Links, Table, accept_loop, dial_loop},
    route::{NeighboursOnly, Resolver},
    stats::{Budget, Counters, LogLimit},
    transport::{Bind, RegistryError, Transport, Transports},
    url::CellUrl,
};

/// Describes a cell. Without a resolver it reaches neighbours only.
#[derive(Debug)]
#[must_use = "a cell runs once it is started"]
pub struct CellBuilder {
    name: Fqcn,
    config: CellConfig,
    transports: Transports,
    conflict: Option<RegistryError>,
    resolver: Box<dyn Resolver>,
    identity: Box<dyn IdentityPolicy>,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
    listen: Vec<CellUrl>,
    dial: Vec<Vec<CellUrl>>,
}

impl CellBuilder {
    pub(super) fn new(name: Fqcn) -> Self {
        Self {
            name,
            config: CellConfig::default(),
            transports: Transports::default(),
            conflict: None,
            resolver: Box::new(NeighboursOnly),
            identity: Box::new(CommonNamePolicy::new()),
            #[cfg(feature = "tls")]
            tls: None,
            listen: Vec::new(),
            dial: Vec::new(),
        }
    }

    /// Adds a driver. A scheme that is taken makes [`start`](Self::start) fail.
    pub fn transport(mut self, driver: impl Transport) -> Self {
        if let Err(conflict) = self.transports.add(driver) {
            self.conflict.get_or_insert(conflict);
        }
        self
    }

    /// Sets how the next hop is chosen.
    pub fn resolver(mut self, resolver: impl Resolver) -> Self {
        self.resolver = Box::new(resolver);
        self
    }

    /// Sets who may have which name, where peers show certificates: [`CommonNamePolicy`] if this is not called.
    pub fn identity(mut self, policy: impl IdentityPolicy) -> Self {
        self.identity = Box::new(policy);
        self
    }

    /// Sets who this cell is and whom it trusts, for URLs that ask for TLS.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Listens there; may be called several times.
    pub fn listen(mut self, url: CellUrl) -> Self {
        self.listen.push(url);
        self
    }

    /// Keeps a link to whoever listens there: the root of the network, or a parent. May be called several times.
    pub fn dial(self, url: CellUrl) -> Self {
        self.dial_any([url])
    }

    /// Keeps a link to one and the same cell, which can be reached by several URLs: they are tried in this order with a
    /// head start each, and the first that leads to a link is used until it is lost. An empty list dials nobody. May be
    /// called several times.
    pub fn dial_any(mut self, urls: impl IntoIterator<Item = CellUrl>) -> Self {
        let urls: Vec<_> = urls.into_iter().collect();
        if !urls.is_empty() {
            self.dial.push(urls);
        }
        self
    }

    /// Sets sizes, deadlines and intervals.
    pub fn config(mut self, config: CellConfig) -> Self {
        self.config = config;
        self
    }

    /// Changes sizes, deadlines and intervals.
    pub fn configure(mut self, change: impl FnOnce(&mut CellConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// Starts the cell on the current tokio runtime: binds every listener, then dials. A dropped future starts
    /// nothing.
    pub async fn start(self) -> Result<Cell, StartError> {
        if let Some(conflict) = self.conflict {
            return Err(conflict.into());
        }
        for url in self.dial.iter().flatten() {
            self.transports
                .driver(url)
                .map_err(|source| StartError::Dial { url: url.to_string(), source })?;
        }
        let config = self.config;
        let budgets =
            Budgets { frames: Budget::new(config.frame_budget), queues: Budget::new(config.queue_budget) };
        let mut listeners = Vec::new();
        for url in self.listen {
            let mut bind = Bind::new(url.clone(), budgets.frames.clone());
            bind.silence = config.link.silence;
            #[cfg(feature = "tls")]
            bind.tls.clone_from(&self.tls);
            let bound = self.transports.listen(&bind).await;
            listeners.push(bound.map_err(|source| StartError::Listen { url: url.to_string(), source })?);
        }
        let links = Arc::new(Links {
            identity: Identity::new(self.name),
            policy: self.identity,
            #[cfg(feature = "tls")]
            tls: self.tls,
            config: config.link.clone(),
            transports: self.transports,
            table: Table::default(),
            budgets,
            stop: CancellationToken::new(),
            kill: CancellationToken::new(),
            tasks: TaskTracker::new(),
            handshakes: Handshakes::default(),
            counters: Arc::<Counters>::default(),
            noise: LogLimit::new(),
            refusals: LogLimit::new(),
            forgeries: LogLimit::new(),
        });
        let (states, dials) =
            self.dial.iter().map(|_| watch::channel(DialState::default())).unzip::<_, _, Vec<_>, _>();
        let inner = Arc::new(Inner {
            pending: Pending::new(config.requests),
            handlers: Default::default(),
            filters: Filters::default(),
            interceptor: Default::default(),
            intake: Intake::new(&config),
            streams: crate::stream::Streams::new(&config),
            discarded: Default::default(),
            blocks: super::blocks::Blocks::new(&config, links.counters.clone()),
            events: EventSender::new(),
            extensions: Default::default(),
            listening: listeners.iter().map(|listener| listener.local_url().clone()).collect(),
            dialled: self.dial.clone(),
            dials,
            tasks: TaskTracker::new(),
            kill: CancellationToken::new(),
            resolver: self.resolver,
            config,
            links: links.clone(),
        });
        let host = Host { links: links.clone(), inbox: Arc::new(inner.clone()) };
        for listener in listeners {
            links.tasks.spawn(accept_loop(host.clone(), listener));
        }
        for (urls, state) in self.dial.into_iter().zip(states) {
            links.tasks.spawn(dial_loop(host.clone(), urls, state));
        }
        tracing::info!(name = %inner.me(), listening = ?inner.listening, dialling = ?inner.dialled, "cell started");
        Ok(Cell { handle: Arc::new(Handle { inner }) })
    }
}

/// How long [`Cell::shutdown`] should take where nothing else is known.
pub const SHUTDOWN: Duration = Duration::from_secs(5);
