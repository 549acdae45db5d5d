//! The arrays of a result, which the server fetches from here.

use std::time::Duration;

use tokio::time::timeout;

use super::{End, SendError, life::Life};
use crate::download::{Outcome, Transaction};

/// The arrays of a result, as long as somebody may fetch them. Dropping it frees them.
#[derive(Debug)]
pub(super) struct Arrays(pub(super) Option<Transaction>);

impl Arrays {
    /// Waits until they are fetched. Once the job is done, nobody is waited for who does not fetch.
    pub(super) async fn fetched(&self, life: &Life) -> Result<(), SendError> {
        let Some(transaction) = &self.0 else { return Ok(()) };
        let outcome = tokio::select! {
            biased;
            outcome = transaction.done() => outcome,
            end = life.ended() => match end {
                End::Done => linger(transaction.clone()).await,
                end => return Err(SendError::Ended(end)),
            },
        };
        match outcome {
            Outcome::Delivered => Ok(()),
            outcome => Err(SendError::NotFetched(outcome)),
        }
    }
}

impl Arrays {
    /// Leaves them to whoever fetches them, until that has lasted too long.
    pub(super) fn stay(mut self) {
        self.0 = None;
    }
}

impl Drop for Arrays {
    fn drop(&mut self) {
        self.0.iter().for_each(Transaction::release);
    }
}

/// Waits for somebody who is at it. Arrays that nobody fetches now were not wanted, which harms nobody.
async fn linger(mut transaction: Transaction) -> Outcome {
    loop {
        let begun = !transaction.status().receivers.is_empty();
        let patience = if begun { BETWEEN_REQUESTS } else { FIRST_REQUEST };
        let outcome = match timeout(patience, transaction.changed()).await {
            Ok(Some(status)) => status.outcome,
            Ok(None) => Some(transaction.status().outcome.unwrap_or(Outcome::Stopped)),
            // An array travels in one answer, however long that takes.
            Err(_) if transaction.is_answering() => None,
            Err(_) => break,
        };
        if let Some(outcome) = outcome {
            return outcome;
        }
    }
    tracing::info!("the job is done and nobody fetches the arrays of the last result");
    Outcome::Delivered
}

/// The server begins as soon as it has the result.
const FIRST_REQUEST: Duration = Duration::from_secs(5);
/// What is in queues on the way arrives before the next request comes.
const BETWEEN_REQUESTS: Duration = Duration::from_secs(60);
