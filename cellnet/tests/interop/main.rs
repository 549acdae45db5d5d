//! cellnet next to the reference: real processes of both kinds in one network, over loopback.

mod behaviour;
mod cells;
mod faults;
mod payload;
mod process;
mod python;
mod relays;
mod support;
