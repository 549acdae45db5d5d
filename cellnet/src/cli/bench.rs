//! `cellnet bench`: measures what goes from one process to another, and what it costs both.
//!
//! ```text
//! talk       what the two processes say to one another
//! workload   what can be measured, and its limits          pure
//! report     figures, JSON, table                          pure
//! serve      the process that answers                      desk: whose turn it is · count · ends of pipes
//! run        the process that asks                         clients: its cells · load: what they do
//! ```

mod clients;
mod count;
mod desk;
mod ends;
mod load;
mod report;
mod run;
mod serve;
mod talk;
mod workload;

use clap::Subcommand;

use super::status::Failure;

/// Measure rates, latencies, processor time and memory between two processes
///
/// `serve` is one process, `run` the other, which also prints the figures. Every scheme works, under TLS as well, and
/// so does a relay between them, which is any `cellnet serve`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(Box<serve::Args>),
    Run(Box<run::Args>),
}

const EXAMPLES: &str = "\
Examples:
  cellnet bench serve --listen tcp://127.0.0.1:8002
  cellnet bench run --connect tcp://127.0.0.1:8002 --workload rr --size 64 --inflight 8 --seconds 5
  cellnet bench run --connect tcp://127.0.0.1:8002 --workload blob --size 16MiB --json";

pub(crate) async fn run(args: Args, json: bool) -> Result<(), Failure> {
    match args.command {
        Command::Serve(args) => serve::run(*args).await,
        Command::Run(args) => run::run(*args, json).await,
    }
}

impl Args {
    /// Whether the command runs until it is stopped.
    pub(crate) fn keeps_running(&self) -> bool {
        matches!(self.command, Command::Serve(_))
    }
}
