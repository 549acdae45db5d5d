//! Intervals and limits of a handler.

use std::time::Duration;

use crate::InboxLimits;

/// How a handler behaves. The defaults are the reference's (`fuel/utils/pipe/pipe_handler.py`).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandlerConfig {
    /// Time between heartbeats. 5 s.
    pub heartbeat_interval: Duration,
    /// How long the peer may be silent until it is gone; `None` for ever. More than the interval. 30 s.
    pub heartbeat_timeout: Option<Duration>,
    /// Time between a message that was not taken and its resend; `None` for no resends. 2 s.
    pub resend_interval: Option<Duration>,
    /// How often a message is sent again; `None` for no limit. 5.
    pub max_resends: Option<u32>,
    /// How long a message that came without a time-out may take, without progress. 5 s.
    pub default_request_timeout: Duration,
    /// What may wait for the application besides what waits in the pipe. 64 messages, 16 MiB.
    pub queue: InboxLimits,
}

impl Default for HandlerConfig {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_secs(5),
            heartbeat_timeout: Some(Duration::from_secs(30)),
            resend_interval: Some(Duration::from_secs(2)),
            max_resends: Some(5),
            default_request_timeout: Duration::from_secs(5),
            queue: InboxLimits { messages: 64, bytes: 16 << 20 },
        }
    }
}

impl HandlerConfig {
    pub(super) fn check(&self) -> Result<(), HandlerConfigError> {
        let interval = self.heartbeat_interval;
        if interval.is_zero() {
            return Err(HandlerConfigError::NoInterval);
        }
        if let Some(timeout) = self.heartbeat_timeout.filter(|timeout| *timeout <= interval) {
            return Err(HandlerConfigError::Timeout { timeout, interval });
        }
        if self.queue.messages == 0 || self.queue.bytes == 0 {
            return Err(HandlerConfigError::NoQueue);
        }
        Ok(())
    }
}

/// Why a configuration makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandlerConfigError {
    /// Heartbeats without end.
    #[error("the heartbeat interval is zero")]
    NoInterval,
    /// The peer would be gone between two heartbeats.
    #[error("heartbeat timeout {timeout:?} is not above the interval of {interval:?}")]
    Timeout {
        /// The time-out.
        timeout: Duration,
        /// The interval.
        interval: Duration,
    },
    /// Nothing could ever be received.
    #[error("the queue has no room")]
    NoQueue,
}
