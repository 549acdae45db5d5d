//! Those who are measured: each takes its turns.

mod cellnet;
mod nats;
mod nvflare;
mod program;

use std::io;

use crate::{
    load::{Load, Pace},
    turn::Turn,
};
pub(crate) use cellnet::Cellnet;
pub(crate) use nats::Nats;
pub(crate) use nvflare::Nvflare;
pub(crate) use program::Program;

/// Somebody who carries messages between processes.
pub(crate) trait Side {
    /// What it is called in the table.
    fn name(&self) -> &'static str;

    /// Whether it has something like it.
    fn does(&self, load: &Load) -> bool;

    /// Carries it once, by processes that are started for that.
    fn turn(&self, load: &Load, pace: Pace) -> io::Result<Turn>;
}
