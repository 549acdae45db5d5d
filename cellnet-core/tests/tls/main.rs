//! Handshakes by credentials in files, over a stream in memory.

mod anybody;
mod crypto;
mod files;
mod handshakes;
#[path = "../common/log.rs"]
mod log;
mod reload;
mod support;
