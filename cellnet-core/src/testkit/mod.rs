//! What the tests of drivers, cells and pipes share.

pub mod conformance;
pub mod sim;
