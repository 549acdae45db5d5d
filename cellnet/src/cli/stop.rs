//! The signals that ask a command to end, or to read its credentials again.

use std::io;

use tokio::task::JoinHandle;

use super::security::Trust;

/// Waits for SIGINT and SIGTERM. They are caught from the moment this exists.
#[derive(Debug)]
pub(crate) struct Stop {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Stop {
    pub(crate) fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Completes with the next signal. Cancel safe.
    pub(crate) async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
impl Stop {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Completes when the user interrupts. Cancel safe.
    pub(crate) async fn asked(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Reads credentials again at every SIGHUP, until it is dropped.
#[derive(Debug)]
pub(crate) struct Reloading(Option<JoinHandle<()>>);

impl Reloading {
    /// The signal is caught from now on.
    #[cfg(unix)]
    pub(crate) fn new(trust: Trust) -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut hangup = signal(SignalKind::hangup())?;
        Ok(Self(Some(tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                trust.reload();
            }
        }))))
    }

    #[cfg(not(unix))]
    pub(crate) fn new(_: Trust) -> io::Result<Self> {
        Ok(Self(None))
    }
}

impl Drop for Reloading {
    fn drop(&mut self) {
        self.0.take().inspect(JoinHandle::abort);
    }
}
