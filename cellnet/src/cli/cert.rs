//! `cellnet cert`: a private authority, and certificates for cells.

mod files;
pub(super) mod init;
pub(super) mod issue;
mod show;

use clap::Subcommand;

use super::status::Failure;

/// Make a private authority and certificates of it, for development and small networks
///
/// The folders that `issue` writes are what `--credentials` takes, and have the names of a FLARE start-up kit. Keep
/// `rootCA.key` to yourself: who has it can be any cell.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Args),
    Issue(issue::Args),
    Show(show::Args),
}

const EXAMPLES: &str = "\
Examples:
  cellnet cert init --dir PKI
  cellnet cert issue --dir PKI server --host server.example.org
  cellnet cert issue --dir PKI site-1
  cellnet cert show PKI";

pub(crate) fn run(args: Args, json: bool) -> Result<(), Failure> {
    match args.command {
        Command::Init(args) => init::run(args, json),
        Command::Issue(args) => issue::run(args, json),
        Command::Show(args) => show::run(args, json),
    }
}
