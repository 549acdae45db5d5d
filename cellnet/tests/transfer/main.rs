//! Files between real processes: what survives, what it costs, and what each failure looks like at both ends.

mod content;
mod fanout;
mod faults;
mod hub;
mod large;
mod network;
mod program;
mod proxy;
mod scratch;
mod toll;

#[path = "../interop/process.rs"]
#[allow(dead_code)] // Shared with the interop tests, which use more of it.
mod process;
