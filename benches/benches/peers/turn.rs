//! What one turn of one side came to.

use std::io;

use cellnet_benches::process::Process;
use serde_json::Value;

/// The figures of a turn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Turn {
    pub(crate) msgs_s: f64,
    /// Of a round trip; messages that nobody answers have none.
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
    pub(crate) run: Cost,
    pub(crate) serve: Cost,
    /// Of a process between these two.
    pub(crate) between: Option<Cost>,
}

/// What one process needed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cost {
    /// Processor microseconds for each message.
    pub(crate) cpu_us: f64,
    /// The most memory that it had, in MiB.
    pub(crate) peak_mib: f64,
}

impl Turn {
    /// Of processes that follow the protocol of `child`. The clock of processors runs from WARM to DONE.
    pub(crate) fn hear(run: &mut Process, serve: &Process, between: Option<&Process>) -> io::Result<Self> {
        run.hear("WARM")?;
        let before = [Some(&*run), Some(serve), between].map(|process| process.map_or(0.0, Process::cpu));
        let figures = run.hear("DONE")?;
        let messages = known(&figures, "messages");
        let cost = |process: &Process, before| Cost::of(process, before, messages);
        Ok(Self {
            msgs_s: known(&figures, "msgs_s"),
            p50_us: figures["p50_us"].as_f64(),
            p99_us: figures["p99_us"].as_f64(),
            run: cost(run, before[0]),
            serve: cost(serve, before[1]),
            between: between.map(|process| cost(process, before[2])),
        })
    }
}

impl Cost {
    /// Of a process since it had used so many processor seconds.
    pub(crate) fn of(process: &Process, before: f64, messages: f64) -> Self {
        Self { cpu_us: (process.cpu() - before) / messages * 1e6, peak_mib: process.peak_mib() }
    }
}

/// A figure that an object should have.
pub(crate) fn known(figures: &Value, name: &str) -> f64 {
    figures[name].as_f64().unwrap_or(f64::NAN)
}
