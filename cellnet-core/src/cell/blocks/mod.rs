//! Blocks of transfers that a relay keeps for its other children.

mod cache;
mod place;
mod pull;
#[cfg(test)]
mod simulation;
