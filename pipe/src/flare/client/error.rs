//! What can go wrong between a trainer and its job.

use cellnet_core::fobs::FobsError;

use super::{DifferenceError, End};
use crate::{
    Delivery,
    download::{OfferError, Outcome, PullError},
    flare::{ModelError, code},
};

/// Why there is no task.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// There will be none any more, and the job is not done.
    #[error("{0}")]
    Ended(End),
    /// A task came and cannot be read. The job was told; another may come.
    #[error("a task cannot be read")]
    Task(#[from] TaskError),
}

/// Why a task cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// Its content is no object, or not one that a task has.
    #[error("its content is no task")]
    Payload(#[from] FobsError),
    /// Its content holds no model.
    #[error("it has no model")]
    Model(#[from] ModelError),
    /// An array did not come.
    #[error("its arrays did not come")]
    Arrays(#[from] PullError),
}

impl TaskError {
    /// What the job is told.
    pub(super) fn return_code(&self) -> &'static str {
        match self {
            Self::Payload(_) | Self::Model(_) => code::BAD_TASK_DATA,
            Self::Arrays(_) => code::COMMUNICATION_ERROR,
        }
    }
}

/// Why a result did not reach the job.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The conversation ended before the result was taken, or while its arrays were fetched.
    #[error("{0}")]
    Ended(End),
    /// The model cannot be sent.
    #[error("the model cannot be sent")]
    Model(#[from] ModelError),
    /// The job wants differences, and there is none between this model and the one that came.
    #[error("there is no difference to the model that came")]
    Difference(#[from] DifferenceError),
    /// The arrays cannot be offered.
    #[error("the arrays cannot be offered")]
    Offer(#[from] OfferError),
    /// The job did not take it, however often it was sent.
    #[error("the job did not take it: {0}")]
    NotTaken(Delivery),
    /// The pipe is not open.
    #[error(transparent)]
    Pipe(#[from] crate::SendError),
    /// The job took the result, and nobody fetched its arrays to the end.
    #[error("the arrays of the result were not fetched: {0:?}")]
    NotFetched(Outcome),
}

/// Why a metric did not reach the job.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The job takes none.
    #[error("the job takes no metrics")]
    NoMetrics,
    /// The conversation ended.
    #[error("{0}")]
    Ended(End),
    /// The job did not take it, however often it was sent.
    #[error("the job did not take it: {0}")]
    NotTaken(Delivery),
    /// The pipe is not open.
    #[error(transparent)]
    Pipe(#[from] crate::SendError),
}

/// Why it is not known what became of a message.
#[derive(Debug)]
pub(super) enum Unsent {
    Ended(End),
    Pipe(crate::SendError),
}

impl From<crate::SendError> for Unsent {
    fn from(error: crate::SendError) -> Self {
        Self::Pipe(error)
    }
}

impl From<Unsent> for SendError {
    fn from(why: Unsent) -> Self {
        match why {
            Unsent::Ended(end) => Self::Ended(end),
            Unsent::Pipe(error) => Self::Pipe(error),
        }
    }
}

impl From<Unsent> for LogError {
    fn from(why: Unsent) -> Self {
        match why {
            Unsent::Ended(end) => Self::Ended(end),
            Unsent::Pipe(error) => Self::Pipe(error),
        }
    }
}
