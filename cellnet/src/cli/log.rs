//! Logs, on standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, fmt};

/// Starts logging: what the command itself says, and warnings if it `keeps_running`; one that ends says what went wrong
/// when it does. More with each `-v`.
pub(crate) fn start(verbose: u8, keeps_running: bool) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new(directives(verbose, keeps_running)));
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

fn directives(verbose: u8, keeps_running: bool) -> &'static str {
    match verbose {
        0 if keeps_running => "warn,cellnet::cli=info",
        0 => "error,cellnet::cli=info",
        1 => "info",
        2 => "info,cellnet=debug",
        _ => "info,cellnet=trace",
    }
}
