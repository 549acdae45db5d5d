//! What the tests of drivers, cells and pipes share.

pub mod conformance;
#[cfg(feature = "tls")]
pub mod pki;
pub mod sim;
