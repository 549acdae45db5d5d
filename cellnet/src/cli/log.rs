//! Logs, on standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, fmt};

/// Starts logging: warnings and what the commands themselves say; more with each `-v`.
pub(crate) fn start(verbose: u8) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(directives(verbose)));
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let log = fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(!no_color && io::stderr().is_terminal())
        .with_target(verbose > 1)
        .compact();
    // Only fails if logging has begun already.
    let _ = log.try_init();
}

fn directives(verbose: u8) -> &'static str {
    match verbose {
        0 => "warn,cellnet::cli=info",
        1 => "info",
        2 => "info,cellnet=debug",
        _ => "info,cellnet=trace",
    }
}
