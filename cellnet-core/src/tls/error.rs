//! Why credentials cannot be used.

use std::{io, path::PathBuf};

use super::TlsMode;

/// Why credentials cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read '{path}'")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("'{path}' cannot be used: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A file that this side of this mode needs is not there.
    #[error("{mode} needs the file '{path}', which is not there")]
    Missing {
        /// The mode.
        mode: TlsMode,
        /// The file.
        path: PathBuf,
    },
    /// A file that was loaded before is not there any more.
    #[error("'{path}' was there and is gone")]
    Gone {
        /// The file.
        path: PathBuf,
    },
    /// A host that no certificate can name.
    #[error("'{0}' is neither a host name nor an address")]
    Host(String),
    /// The library for TLS refused a configuration.
    #[error("TLS cannot be configured")]
    Config(#[source] rustls::Error),
    /// No cryptography is compiled in.
    #[error(
        "no cryptography is compiled in; build with the feature 'tls' or 'tls-aws-lc-rs', or pass a provider"
    )]
    NoProvider,
}
