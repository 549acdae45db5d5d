//! `cellnet demo`
use super::status::Failure;
/// Show
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}
pub(crate) async fn run(_: Args, _: bool) -> Result<(), Failure> {
    Ok(())
}
