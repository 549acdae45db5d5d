//! What a program may say about its client before it opens.

use std::{
    fmt, io,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use cellnet_core::{Fqcn, cell::CellBuilder};
use tokio::{sync::Mutex as AsyncMutex, time::timeout};

use super::{ClientConfig, End, FlareClient, PipePlaceError, life::Life};
use crate::{
    CellPipe, HandlerConfig, HandlerConfigError, InboxLimits, Mode, OpenError, Pipe, PipeArgs, PipeEvent,
    PipeHandler, PipeHost, PipeNameError,
    download::{DownloadConfig, Downloads, Offer},
    host::Describe,
};

/// Describes a client. At least drivers for the transports have to be added by [`cell`](Self::cell).
#[must_use = "a client is made by `open`"]
pub struct FlareClientBuilder {
    config: ClientConfig,
    describe: Describe,
    heartbeat_interval: Duration,
    connect: Duration,
    sigterm: Option<Duration>,
    inbox: InboxLimits,
    offer: Offer,
    downloads: DownloadConfig,
}

impl FlareClientBuilder {
    pub(super) fn new(config: ClientConfig) -> Self {
        Self {
            config,
            describe: Arc::new(|cell| cell),
            heartbeat_interval: HEARTBEAT,
            connect: CONNECT,
            sigterm: None,
            inbox: InboxLimits::default(),
            offer: Offer::below(Fqcn::server()),
            // Also small arrays go straight to the server: what travels in a message, the job process would offer anew.
            downloads: DownloadConfig { inline_below: 0, ..DownloadConfig::default() },
        }
    }

    /// What FLARE said.
    pub fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// Completes the description of the cell that both pipes share. Name, routing policy and URL are there already.
    pub fn cell(mut self, describe: impl Fn(CellBuilder) -> CellBuilder + Send + Sync + 'static) -> Self {
        let before = self.describe;
        self.describe = Arc::new(move |cell| describe(before(cell)));
        self
    }

    /// Time between signs of life; 5 s without, or less if the job waits for less.
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.heartbeat_interval = interval;
        self
    }

    /// How long the first connection may take; 60 s without.
    pub fn connect_within(mut self, limit: Duration) -> Self {
        self.connect = limit;
        self
    }

    /// What may wait until it is received. A message beyond that is refused, so the job sends it again.
    pub fn inbox(mut self, limits: InboxLimits) -> Self {
        self.inbox = limits;
        self
    }

    /// Who may fetch the arrays of results; without it the server and the cells below it, of which the job is one. The
    /// life-time is always [`TaskExchange::download_timeout`](super::TaskExchange::download_timeout).
    pub fn results_for(mut self, offer: Offer) -> Self {
        self.offer = offer;
        self
    }

    /// Sizes and deadlines for the arrays of tasks and results, for example how large a model may be
    /// ([`PullConfig::max_bytes`](crate::download::PullConfig::max_bytes)). Without it they are the usual ones, except that
    /// every array of a result becomes a reference, however small.
    pub fn downloads(mut self, config: DownloadConfig) -> Self {
        self.downloads = config;
        self
    }

    /// Lets SIGTERM, by which FLARE ends a trainer, end the client first: [`FlareClient::receive`] and whatever else
    /// waits come back with [`End::Stopped`]. If the process is still there `grace` later, it is ended with the status
    /// of [`End::exit_status`]. Without this, SIGTERM has its usual effect and ends the process at once.
    ///
    /// It counts from [`open`](Self::open) until the process ends, whatever becomes of the client. On systems that have no
    /// SIGTERM it does nothing.
    pub fn on_sigterm(mut self, grace: Duration) -> Self {
        self.sigterm = Some(grace);
        self
    }

    /// Opens the pipes, waits for the connection, and lets the job know that this process is there. A dropped future leaves
    /// nothing behind.
    ///
    /// # Errors
    ///
    /// If the configuration names no usable pipe, or no connection comes in time.
    pub async fn open(self) -> Result<FlareClient, InitError> {
        let life = Arc::new(Life::new());
        if let Some(grace) = self.sigterm {
            #[cfg(unix)]
            super::sigterm::obey_sigterm(life.clone(), grace).await.map_err(InitError::Signal)?;
            #[cfg(not(unix))]
            let _ = grace;
        }
        let host = PipeHost::new();
        let task = &self.config.task;
        let pipe = self.pipe(&task.pipe, &host)?;
        // The job fetches nothing: it hands on references, and the server fetches from here.
        let pipe = Arc::new(pipe.pass_through_on_send(true).build()?);
        pipe.open(&task.channel).await?;
        let cell = pipe.cell().ok_or(InitError::Closed)?;
        let mut settings = self.handler(task.heartbeat_timeout);
        settings.max_resends = task.max_resends;
        let metrics = match &self.config.metrics {
            Some(metrics) => {
                let pipe = Arc::new(self.pipe(&metrics.pipe, &host)?.build()?);
                pipe.open(&metrics.channel).await?;
                let mut settings = self.handler(metrics.heartbeat_timeout);
                settings.max_resends = task.max_resends;
                let told = life.clone();
                let handler = PipeHandler::new(pipe, settings)?;
                Some(handler.on_status(move |event| match event {
                    // The job says it on both pipes, and does not wait until either is heard.
                    PipeEvent::End(_) => told.finish(End::Done),
                    event => tracing::debug!(?event, "metrics go nowhere any more"),
                }))
            }
            None => None,
        };
        let told = life.clone();
        let tasks =
            PipeHandler::new(pipe.clone(), settings)?.on_status(move |event| told.finish(event.into()));
        tokio::select! {
            biased;
            end = life.ended() => return Err(InitError::Ended(end)),
            met = timeout(self.connect, cell.connected()) => {
                met.map_err(|_| InitError::NotConnected { cell: pipe.place().to_string(), after: self.connect })?;
            }
        }
        // The first heartbeat tells the job that the trainer is there.
        metrics.iter().for_each(PipeHandler::start);
        tasks.start();
        Ok(FlareClient {
            downloads: Downloads::attach_with(&cell, self.downloads),
            config: self.config,
            cell,
            tasks,
            metrics,
            offer: self.offer,
            life,
            incoming: AsyncMutex::default(),
            asked: AtomicBool::new(false),
        })
    }

    fn pipe(&self, args: &PipeArgs, host: &PipeHost) -> Result<crate::CellPipeBuilder, InitError> {
        let place = self.config.cells.place(args)?;
        let describe = self.describe.clone();
        Ok(CellPipe::builder(Mode::Active, &args.site_name, &args.token, place)
            .host(host)
            .cell(move |cell| describe(cell))
            .credentials(self.config.credentials.clone())
            .inbox(self.inbox)
            .workspace_dir(&args.workspace_dir))
    }

    fn handler(&self, silence: Option<Duration>) -> HandlerConfig {
        let often =
            silence.map_or(self.heartbeat_interval, |silence| self.heartbeat_interval.min(silence / 3));
        HandlerConfig { heartbeat_interval: often, heartbeat_timeout: silence, ..HandlerConfig::default() }
    }
}

/// Why a client did not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// There is no usable configuration.
    #[error("the configuration of the client cannot be used")]
    Config(#[from] super::ConfigError),
    /// A pipe attaches nowhere.
    #[error("a pipe has no cell to attach to")]
    Place(#[from] PipePlaceError),
    /// A pipe has no name.
    #[error("a pipe has no name")]
    Name(#[from] PipeNameError),
    /// A pipe did not open.
    #[error("a pipe did not open")]
    Open(#[from] OpenError),
    /// The intervals make no sense together.
    #[error("the intervals of heartbeats make no sense")]
    Handler(#[from] HandlerConfigError),
    /// No connection came.
    #[error("not connected to {cell} after {after:?}")]
    NotConnected {
        /// The cell and its URLs.
        cell: String,
        /// How long that was tried.
        after: Duration,
    },
    /// The process was asked to end before it began.
    #[error("{0}")]
    Ended(End),
    /// A pipe closed while it was opened.
    #[error("the pipe was closed")]
    Closed,
    /// SIGTERM cannot be waited for.
    #[error("cannot wait for SIGTERM")]
    Signal(#[source] io::Error),
}

impl fmt::Debug for FlareClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlareClientBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}

/// The reference's.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// The job has been up when it started this process; what it attaches to may be busy.
const CONNECT: Duration = Duration::from_secs(60);
