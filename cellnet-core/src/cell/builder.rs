//! Describes a cell and starts it.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Cell, CellConfig, Handle, Inner, StartError, events::EventSender, filters::Filters, intake::Intake,
    pending::Pending,
};
use crate::{
    fqcn::Fqcn,
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
    listen: Vec<CellUrl>,
    dial: Vec<CellUrl>,
}

impl CellBuilder {
    pub(super) fn new(name: Fqcn) -> Self {
        Self {
            name,
            config: CellConfig::default(),
            transports: Transports::default(),
            conflict: None,
            resolver: Box::new(NeighboursOnly),
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

    /// Listens there; may be called several times.
    pub fn listen(mut self, url: CellUrl) -> Self {
        self.listen.push(url);
        self
    }

    /// Keeps a link to whoever listens there: the root of the network, or a parent. May be called several times.
    pub fn dial(mut self, url: CellUrl) -> Self {
        self.dial.push(url);
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
        for url in &self.dial {
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
            let bound = self.transports.listen(&bind).await;
            listeners.push(bound.map_err(|source| StartError::Listen { url: url.to_string(), source })?);
        }
        let links = Arc::new(Links {
            identity: Identity::new(self.name),
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
            events: EventSender::new(),
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
        for (url, state) in self.dial.into_iter().zip(states) {
            links.tasks.spawn(dial_loop(host.clone(), url, state));
        }
        tracing::info!(name = %inner.me(), listening = ?inner.listening, dialling = ?inner.dialled, "cell started");
        Ok(Cell { handle: Arc::new(Handle { inner }) })
    }
}

/// How long [`Cell::shutdown`] should take where nothing else is known.
pub const SHUTDOWN: Duration = Duration::from_secs(5);
