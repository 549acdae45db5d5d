//! Threads of libraries whose requests are futures.

use std::{num::NonZero, thread};

use tokio::runtime::{Builder, Runtime};

/// As many threads as `cellnet` has: half of the processors.
pub(crate) fn runtime() -> Runtime {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let runtime = Builder::new_multi_thread().worker_threads(processors.div_ceil(2)).enable_all().build();
    runtime.expect("a runtime starts")
}
