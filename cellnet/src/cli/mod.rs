//! The program `cellnet`: reads its arguments, runs one command, says how it ended.

mod bench;
mod call;
#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
mod cert;
mod config;
mod cp;
mod data;
mod demo;
mod figures;
mod inbox;
mod log;
mod net;
mod pipe;
mod security;
mod serve;
mod show;
mod sources;
mod status;
mod stop;
mod units;
mod web;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{
    CommandFactory, FromArgMatches, Parser, Subcommand, builder::FalseyValueParser, error::ErrorKind,
};

use sources::Silent;
use status::{Failure, Status};

/// Cells, relays and pipes for machines that only dial out
///
/// Data goes to standard output, progress and logs to standard error. A value comes from its flag, else from the
/// environment, else from the configuration file, else it is the default.
#[derive(Debug, Parser)]
#[command(name = "cellnet", version, arg_required_else_help = true, subcommand_required = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    /// Print JSON with stable field names on standard output
    #[arg(long, global = true, env = "CELLNET_JSON", value_parser = FalseyValueParser::new())]
    json: bool,

    /// Log more on standard error; -vv for every connection event. RUST_LOG has the last word
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,

    /// Read values from this TOML file: names of flags, for all commands or in a table named like one
    #[arg(long, global = true, env = "CELLNET_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Args),
    Call(call::Args),
    Cp(cp::Args),
    Pipe(pipe::Args),
    Bench(bench::Args),
    Demo(demo::Args),
    #[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
    Cert(cert::Args),
}

impl Command {
    /// Whether it runs until it is stopped.
    fn keeps_running(&self) -> bool {
        match self {
            Self::Serve(_) => true,
            Self::Pipe(args) => args.keeps_running(),
            Self::Bench(args) => args.keeps_running(),
            Self::Call(_) | Self::Cp(_) | Self::Demo(_) => false,
            #[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
            Self::Cert(_) => false,
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  cellnet demo
  cellnet serve --name server --listen tcp://0:8002 --echo task --inbox inbox
  cellnet cp model.safetensors server:models/ --root tcp://127.0.0.1:8002
  cellnet call server task greet 'hello' --root tcp://127.0.0.1:8002
  cellnet call server task greet 'hello' --root quic://server.example:8002,wss://server.example --credentials kit

Exit status: 0 ok, 1 other failure, 2 usage, 3 config, 4 unreachable, 5 not authorised, 6 timeout, 7 peer gone, \
8 limit, 9 integrity";

/// Runs the program.
pub(crate) fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let mut json = args.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--json");
    let ended = match parse(args) {
        Ok(Parsed::Run(cli)) => {
            json = cli.json;
            run(*cli)
        }
        Ok(Parsed::Say(text)) => show::print_line(text.trim_end()).map_err(Failure::from),
        Err(failure) => Err(failure),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if json && !show::printed_json() {
                // Should that fail, too, the sentence below has the better reason.
                let _ = show::print_json(&failure.report());
            }
            eprintln!("cellnet: {failure}");
            failure.status.into()
        }
    }
}

/// The arguments of a command, as its line gives them.
#[cfg(test)]
fn parsed<A: clap::Args>(line: &str) -> A {
    #[derive(Debug, clap::Parser)]
    struct Line<A: clap::Args> {
        #[command(flatten)]
        args: A,
    }
    let words = format!("cellnet {line}");
    <Line<A> as clap::Parser>::try_parse_from(words.split_whitespace()).expect("the line is valid").args
}

/// Threads that carry messages: half of the processors, or what `TOKIO_WORKER_THREADS` says. With one, that is the thread
/// of the program. Small messages hardly gain
/// from a second one, which on a machine of two processors costs them half of their rate; files are read, hashed and
/// written by other threads.
fn workers() -> usize {
    let said = std::env::var("TOKIO_WORKER_THREADS").ok().and_then(|said| said.parse().ok());
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    said.unwrap_or_else(|| processors.div_ceil(2)).max(1)
}

fn run(cli: Cli) -> Result<(), Failure> {
    log::start(cli.verbose, cli.command.keeps_running());
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    let runtime = match workers() {
        // Fairer than a worker thread: that one has room for 256 tasks, and with many connections the others wait long.
        1 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        workers => tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build(),
    };
    let runtime = runtime
        .map_err(|error| Failure::new(Status::Failed, format!("cannot start the runtime: {error}")))?;
    let ended = runtime.block_on(async {
        match cli.command {
            Command::Serve(args) => serve::run(args, cli.json).await,
            Command::Call(args) => call::run(args, cli.json).await,
            Command::Cp(args) => cp::run(args, cli.json).await,
            Command::Pipe(args) => pipe::run(args, cli.json).await,
            Command::Bench(args) => bench::run(args, cli.json).await,
            Command::Demo(args) => demo::run(args, cli.json).await,
            #[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
            Command::Cert(args) => cert::run(args, cli.json),
        }
    });
    runtime.shutdown_background();
    ended
}

/// What the arguments ask for.
#[derive(Debug)]
enum Parsed {
    Run(Box<Cli>),
    /// Help or the version.
    Say(String),
}

fn parse(args: Vec<OsString>) -> Result<Parsed, Failure> {
    let all = sources::without_empty(Cli::command());
    let line = match sources::line_only(all.clone()).try_get_matches_from(&args) {
        Ok(line) => line,
        // Told by the command that knows the environment, which help shows.
        Err(error) => return say_or_refuse(&all.try_get_matches_from(&args).err().unwrap_or(error)),
    };
    let file = line.get_one::<PathBuf>("config");
    let mut silent = Silent::of(&all, &line);
    let matches = loop {
        let mut command = silent.quiet(all.clone());
        if let Some(path) = file {
            command = config::apply(command, path, &silent).map_err(|error| {
                Failure::new(Status::Config, format!("{error} (configuration file '{}')", path.display()))
            })?;
        }
        match command.try_get_matches_from(&args) {
            Ok(matches) if silent.root_has_nobody_above(&matches) => {}
            Ok(matches) => break matches,
            Err(error) => return say_or_refuse(&error),
        }
    };
    let cli = Cli::from_arg_matches(&matches).map_err(|error| Failure::usage(one_line(&error)))?;
    Ok(Parsed::Run(Box::new(cli)))
}

fn say_or_refuse(error: &clap::Error) -> Result<Parsed, Failure> {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(Parsed::Say(error.render().to_string())),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let names = Cli::command().get_subcommands().map(|c| c.get_name().to_owned()).collect::<Vec<_>>();
            Err(Failure::usage(format!("no command given; use one of {}, or --help", names.join(", "))))
        }
        _ => Err(Failure::usage(one_line(error))),
    }
}

/// What clap says over several lines, as one sentence.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let said = text.split("Usage:").next().unwrap_or_default().split("For more information").next();
    let words = said.unwrap_or_default().trim_start_matches("error:").split_whitespace();
    format!("{}; see --help", words.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(line: &str) -> Failure {
        parse(line.split(' ').map(Into::into).collect()).expect_err(line)
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn bad_arguments_give_one_line_with_the_value() {
        let table = [
            ("cellnet", "no command"),
            ("cellnet fly", "'fly'"),
            ("cellnet call server", "<CHANNEL>"),
            ("cellnet call a..b task echo", "'a..b'"),
            ("cellnet call server task echo --root nowhere", "'nowhere'"),
            ("cellnet call server task echo --root foo://h:1", "'foo'"),
            ("cellnet call server task echo --root tcp://h:99999", "'99999'"),
            ("cellnet call server task echo --timeout soon", "'soon'"),
            ("cellnet call server task echo --count none", "'none'"),
            ("cellnet cp", "<FILE|TARGET:PATH|->"),
            ("cellnet cp a b..c:d", "'b..c'"),
            ("cellnet cp a site-1: --timeout soon", "'soon'"),
            ("cellnet serve --name a/b", "'a/b'"),
            ("cellnet serve --flag", "'--flag'"),
            ("cellnet pipe --mode both", "'both'"),
        ];
        for (line, value) in table {
            let failure = refused(line);
            assert_eq!(failure.status, Status::Usage, "{line}");
            let text = failure.to_string();
            assert!(text.contains(value) && !text.contains('\n'), "{line}: {text}");
        }
    }

    #[test]
    fn help_of_every_command_has_an_example() {
        for command in ["serve", "call", "cp", "pipe", "bench", "demo"] {
            let Ok(Parsed::Say(help)) = parse(["cellnet", command, "--help"].map(Into::into).into()) else {
                panic!("{command} has no help");
            };
            assert!(help.contains(&format!("  cellnet {command}")), "{help}");
        }
    }
}
