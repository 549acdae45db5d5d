//! Pipes through cells, on a network in memory.

mod exchange;
mod headers;
mod life;
mod losses;
mod support;
