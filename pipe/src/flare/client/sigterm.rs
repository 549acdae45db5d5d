//! The signal by which FLARE ends a trainer.

use std::{io, sync::Arc, thread, time::Duration};

use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    time::sleep,
};

use super::{End, life::Life};

/// From now on SIGTERM ends `life`, and `grace` later the process.
///
/// The launcher waits for the process without a limit, and a program that computes does not look at `life`, perhaps not
/// even at its runtime. So this has a thread and a runtime of its own, until the process ends: the signal has lost its
/// usual effect for good.
pub(super) async fn obey_sigterm(life: Arc<Life>, grace: Duration) -> io::Result<()> {
    let (tell, told) = oneshot::channel();
    thread::Builder::new().name("sigterm".into()).spawn(move || match prepare() {
        Ok((runtime, signals)) => {
            // Nobody listens only if that thread is gone, and with it the process.
            let _ = tell.send(Ok(()));
            runtime.block_on(wait(signals, &life, grace));
        }
        Err(error) => {
            let _ = tell.send(Err(error));
        }
    })?;
    told.await.map_err(|_| io::Error::other("the thread for signals broke"))?
}

fn prepare() -> io::Result<(Runtime, Signal)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let signals = runtime.block_on(async { signal(SignalKind::terminate()) })?;
    Ok((runtime, signals))
}

async fn wait(mut signals: Signal, life: &Life, grace: Duration) {
    if signals.recv().await.is_none() {
        return;
    }
    life.finish(End::Stopped);
    sleep(grace).await;
    let status = life.end().map_or(0, |end| end.exit_status());
    tracing::warn!(?grace, status, "asked to end and still at work; ending the process");
    std::process::exit(status.into());
}
