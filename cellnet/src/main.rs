//! The command line of cellnet.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
