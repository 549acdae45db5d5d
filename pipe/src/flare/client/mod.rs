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

mod builder;
mod config;
mod end;
mod life;
mod metric;
mod properties;
#[cfg(unix)]
mod sigterm;

pub use self::{
    builder::{FlareClientBuilder, InitError},
    config::{CONFIG_FILE, ClientConfig, ConfigError, ExchangeFormat, MetricsExchange, TaskExchange, TransferType},
    end::End,
    metric::{Metric, MetricKind, Tracker},
    properties::{CellProperties, PipePlaceError},
};

/// A trainer's end of a FLARE job.
#[derive(Debug)]
pub struct FlareClient {
    config: ClientConfig,
    cell: cellnet_core::cell::Cell,
    tasks: crate::PipeHandler,
    metrics: Option<crate::PipeHandler>,
    life: std::sync::Arc<life::Life>,
}
