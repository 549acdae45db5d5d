//! What FLARE puts into messages, and the client with which a program is a trainer of a FLARE job.

pub mod client;
mod provisional;

pub use provisional::{FlModel, ModelError, ParamsType, Shareable};
