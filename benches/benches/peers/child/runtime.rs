//! Threads of libraries whose requests are futures.

use std::{num::NonZero, thread};

use tokio::runtime::{Builder, Runtime};

/// A runtime with the [threads] that a side may have.
pub(crate) fn runtime() -> Runtime {
    let runtime = Builder::new_multi_thread().worker_threads(threads()).enable_all().build();
    runtime.expect("a runtime starts")
}

/// As many threads as `cellnet` has: half of the processors.
pub(crate) fn threads() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get).div_ceil(2)
}
