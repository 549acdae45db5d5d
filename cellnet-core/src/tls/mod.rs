//! Who a cell is and whom it trusts: modes, credentials, and the two sides of a TLS handshake.
//!
//! Drivers ask [`Target::tls_mode`](crate::transport::Target::tls_mode) or
//! [`Bind::tls_mode`](crate::transport::Bind::tls_mode) what a URL wants, and take a [`TlsClient`] or a [`TlsServer`]
//! from the [`Tls`] that came with it. Whether the name that a peer claims fits its certificate is not decided here but
//! in [`identity`](crate::identity).
//!
//! Nothing global is read or set: the provider of cryptography travels by value.

mod mode;

#[cfg(feature = "tls")]
mod certificate;
#[cfg(feature = "tls")]
mod credentials;
#[cfg(feature = "tls")]
mod error;
#[cfg(feature = "tls")]
mod pem;
#[cfg(feature = "tls")]
mod sides;
#[cfg(feature = "tls")]
mod trust;
#[cfg(feature = "tls")]
mod verify;

pub use mode::TlsMode;

#[cfg(feature = "tls")]
pub use self::{
    certificate::{Shown, common_name},
    credentials::{CredentialFiles, Reloaded, Tls, check_key},
    error::TlsError,
    sides::{TlsClient, TlsServer},
    trust::{alert_is_about_trust, is_about_trust},
};
