//! `cellnet pipe`
use super::status::Failure;
/// Link with another process
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}
pub(crate) async fn run(_: Args, _: bool) -> Result<(), Failure> { Ok(()) }
