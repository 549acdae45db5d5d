//! A trainer of a FLARE job: takes tasks, gives back results, reports metrics.
//!
//! FLARE starts a trainer as a process of its own, tells it by a file where the job is, and hands it tasks through a pipe.
//! [`FlareClient`] is the trainer's end of that. Arrays come from and go to the server directly; the job process between
//! them only passes on where they are.
//!
//! ```no_run
//! # use cellnet_pipe::flare::client::{ClientConfig, FlareClient, Metric};
//! # use cellnet_core::cell::CellBuilder;
//! # fn drivers(cell: CellBuilder) -> CellBuilder { cell }
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = FlareClient::builder(ClientConfig::load()?).cell(drivers).open().await?;
//! while let Some(task) = client.receive().await? {
//!     let model = task.model().clone();
//!     // … train …
//!     client.log(&Metric::scalar("loss", 0.25)).await?;
//!     client.send(task, model).await?;
//! }
//! client.close().await;
//! # Ok(()) }
//! ```
//!
//! Source: `client/ex_process/api.py`, `client/flare_agent.py`, `client/model_registry.py`.

mod arrays;
mod builder;
mod config;
mod difference;
mod end;
mod error;
mod life;
mod metric;
mod properties;
#[cfg(unix)]
mod sigterm;
mod task;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use cellnet_core::cell::Cell;
use tokio::sync::Mutex as AsyncMutex;

use self::{arrays::Arrays, error::Unsent, life::Life};
pub use self::{
    builder::{FlareClientBuilder, InitError},
    config::{
        CONFIG_FILE, ClientConfig, ConfigError, ExchangeFormat, MetricsExchange, TaskExchange, TransferType,
    },
    difference::DifferenceError,
    end::End,
    error::{LogError, ReceiveError, SendError, TaskError},
    metric::{Metric, MetricKind, Tracker},
    properties::{CellProperties, PipePlaceError},
    task::{Task, TaskKind},
};
use super::{FlModel, Shareable, code};
use crate::{
    Delivery, MessageType, PipeEvent, PipeHandler, PipeMessage,
    download::{Downloads, Offer},
    text_payload,
};

/// A trainer's end of a FLARE job.
///
/// All methods take `&self`; one task may log while another trains. Dropping the client lets go of everything at once;
/// [`close`](Self::close) does it in order.
#[derive(Debug)]
pub struct FlareClient {
    config: ClientConfig,
    cell: Cell,
    tasks: PipeHandler,
    metrics: Option<PipeHandler>,
    downloads: Downloads,
    /// To whom the arrays of results are offered.
    offer: Offer,
    life: Arc<Life>,
    /// A message that was taken from the pipe and is not yet a task.
    incoming: AsyncMutex<Option<PipeMessage>>,
    /// Whether the job waits for a result.
    asked: AtomicBool,
}

impl FlareClient {
    /// Begins to describe a client for what FLARE said.
    pub fn builder(config: ClientConfig) -> FlareClientBuilder {
        FlareClientBuilder::new(config)
    }

    /// What FLARE said.
    pub fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// The id of the job.
    pub fn job_id(&self) -> &str {
        &self.config.job_id
    }

    /// The name of the site.
    pub fn site(&self) -> &str {
        &self.config.site
    }

    /// The cell of this process.
    pub fn cell(&self) -> &Cell {
        &self.cell
    }

    /// Whether the job may still want something.
    pub fn is_running(&self) -> bool {
        self.life.end().is_none()
    }

    /// How it ended, once it has.
    pub fn end(&self) -> Option<End> {
        self.life.end()
    }

    /// Waits for the end: so that a training that nobody wants any more can stop. Cancel safe.
    pub async fn ended(&self) -> End {
        self.life.ended().await
    }

    /// The next task with its model, whose arrays are here; `None` once the job is done.
    ///
    /// Cancel safe: what a dropped future had begun is begun anew by the next call. A task that cannot be read is
    /// answered with an error, so that the job does not wait for its result.
    ///
    /// # Errors
    ///
    /// If the job gave up or is gone, this process was asked to end, or a task could not be read.
    pub async fn receive(&self) -> Result<Option<Task>, ReceiveError> {
        let mut incoming = self.incoming.lock().await;
        let outcome = tokio::select! {
            biased;
            end = self.life.ended() => Err(end),
            read = self.next_task(&mut incoming) => Ok(read),
        };
        let error = match outcome {
            Err(End::Done) => return Ok(None),
            Err(end) => return Err(ReceiveError::Ended(end)),
            Ok(Ok(task)) => {
                *incoming = None;
                return Ok(Some(task));
            }
            Ok(Err(error)) => error,
        };
        if let Some(message) = &*incoming {
            let refusal = Shareable::failure(error.return_code(), &error.to_string());
            let reply = PipeMessage::new_reply(message, refusal.payload());
            // The message stays where it is until then, for the next call if this one is dropped.
            match self.hand_over(&reply).await {
                Ok(()) => self.asked.store(false, Relaxed),
                Err(error) => tracing::warn!(%error, "the job does not know that a task could not be read"),
            }
        }
        *incoming = None;
        Err(error.into())
    }

    /// Fills the slot if it is empty, and reads what is in it.
    async fn next_task(&self, slot: &mut Option<PipeMessage>) -> Result<Task, TaskError> {
        let message = loop {
            match slot {
                Some(message) if message.msg_type == MessageType::Request => {
                    self.asked.store(true, Relaxed);
                    break &*message;
                }
                Some(other) => {
                    tracing::warn!(topic = %other.topic, "an answer came to a trainer that asks nothing");
                    *slot = None;
                }
                None => match self.tasks.next().await {
                    Some(PipeEvent::Message(message)) => *slot = Some(message),
                    // The end is told elsewhere.
                    _ => std::future::pending().await,
                },
            }
        };
        Task::read(message, &self.config, &self.downloads).await
    }

    /// Sends the result of a task, and waits until whoever needs its arrays has fetched them. If this process was started
    /// for one task, that was it: [`receive`](Self::receive) then says `None`.
    ///
    /// The waits count from the last progress: [`TaskExchange::submit_timeout`] for each try to hand over the result, and
    /// [`TaskExchange::download_timeout`] for its arrays, or a few seconds once the job is done. If that is zero, nobody is
    /// waited for: the arrays stay for [`TaskExchange::submit_timeout`] since somebody fetched last, as long as the client
    /// is there. A dropped future gives up;
    /// whether the job has the result is then not known.
    ///
    /// # Errors
    ///
    /// If the model cannot be sent, the job does not take it, or nobody fetched its arrays.
    pub async fn send(&self, task: Task, model: FlModel) -> Result<(), SendError> {
        let model = match self.config.task.transfer_type {
            TransferType::Diff => difference::from_received(model, task.model())?,
            TransferType::Full => model,
        };
        let mut shareable = model.to_shareable()?;
        shareable.set_return_code(code::OK);
        let task_config = &self.config.task;
        let waits = !task_config.download_timeout.is_zero();
        let life = if waits { task_config.download_timeout } else { task_config.submit_timeout };
        let offer = self.offer.clone().ttl(life);
        let encoded = self.downloads.encode(shareable.into_object(), offer)?;
        let reply = PipeMessage::new_reply(&task.reply_to, encoded.payload.clone());
        // However this ends, nobody needs the arrays after it.
        let arrays = Arrays(encoded.transaction);
        self.hand_over(&reply).await?;
        self.asked.store(false, Relaxed);
        let fetched = if waits {
            arrays.fetched(&self.life).await
        } else {
            arrays.stay();
            Ok(())
        };
        if !self.config.task.launch_once {
            self.life.finish(End::Done);
        }
        fetched
    }

    /// Tells the job that there will be no result, and why, so that it does not wait.
    ///
    /// # Errors
    ///
    /// If the job does not take that.
    pub async fn fail(&self, task: Task, why: &str) -> Result<(), SendError> {
        let failure = Shareable::failure(code::EXECUTION_EXCEPTION, why);
        self.hand_over(&PipeMessage::new_reply(&task.reply_to, failure.payload())).await?;
        self.asked.store(false, Relaxed);
        if !self.config.task.launch_once {
            self.life.finish(End::Done);
        }
        Ok(())
    }

    async fn hand_over(&self, reply: &PipeMessage) -> Result<(), SendError> {
        let sent = self.unless_ended(&self.tasks, reply).await?;
        if sent.is_taken() { Ok(()) } else { Err(SendError::NotTaken(sent)) }
    }

    /// Reports a metric, and waits until the job has it. A dropped future gives up.
    ///
    /// # Errors
    ///
    /// If the job takes no metrics, or does not take this one.
    pub async fn log(&self, metric: &Metric) -> Result<(), LogError> {
        let pipe = self.metrics.as_ref().ok_or(LogError::NoMetrics)?;
        let topic = METRIC.parse().expect("it is a topic");
        let message = PipeMessage::new_request(topic, metric.payload());
        let sent = self.unless_ended(pipe, &message).await?;
        if sent.is_taken() { Ok(()) } else { Err(LogError::NotTaken(sent)) }
    }

    async fn unless_ended(&self, pipe: &PipeHandler, message: &PipeMessage) -> Result<Delivery, Unsent> {
        tokio::select! {
            biased;
            end = self.life.ended() => Err(Unsent::Ended(end)),
            sent = pipe.send_to_peer(message, Some(self.config.task.submit_timeout), None) => Ok(sent?),
        }
    }

    /// Lets go of everything in order: a job that still waits for a result, also of a task that nobody
    /// [received](Self::receive) yet, is told that there will be none, and the cell says goodbye to its neighbours. Gives
    /// the end, [`End::Stopped`] if there was none before.
    pub async fn close(self) -> End {
        let gives_up = matches!(self.life.end(), None | Some(End::Stopped));
        // From now on what comes stays in the pipe.
        self.tasks.stop().await;
        if gives_up && (self.asked.load(Relaxed) || self.is_asked_unheard().await) {
            self.tasks.notify_abort(text_payload("the trainer gives up")).await;
        }
        self.life.finish(End::Stopped);
        for handler in self.metrics.iter().chain([&self.tasks]) {
            handler.stop().await;
            handler.pipe().close().await;
        }
        self.life.end().unwrap_or(End::Stopped)
    }

    /// Whether there is a task that the job takes for received, because this side has acknowledged it. What waits is taken
    /// out.
    async fn is_asked_unheard(&self) -> bool {
        let asks =
            |message: &PipeMessage| message.msg_type == MessageType::Request && !message.topic.is_last();
        while let Some(event) = self.tasks.next().await {
            if matches!(&event, PipeEvent::Message(message) if asks(message)) {
                return true;
            }
        }
        for _ in 0..MOST_UNHEARD {
            match self.tasks.pipe().receive(Some(Duration::ZERO)).await {
                Ok(Some(message)) if asks(&message) => return true,
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break,
            }
        }
        false
    }
}

/// What metrics are sent about. Source: `client/flare_agent.py`.
const METRIC: &str = "metric";
/// Messages that are looked at for a task before this side leaves; a job sends one at a time.
const MOST_UNHEARD: usize = 1024;
