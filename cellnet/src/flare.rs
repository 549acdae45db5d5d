//! Trainers of FLARE jobs, on the transports that are compiled in.
//!
//! ```no_run
//! use cellnet::flare::{self, ClientConfig, Metric};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = flare::client(ClientConfig::load()?)?.open().await?;
//! while let Some(task) = client.receive().await? {
//!     let model = task.model().clone();
//!     // … train …
//!     client.log(&Metric::scalar("loss", 0.25)).await?;
//!     client.send(task, model).await?;
//! }
//! client.close().await;
//! # Ok(()) }
//! ```

pub use cellnet_pipe::flare::{client::*, *};

/// Begins to describe a client for what FLARE said, with the transports that are compiled in and, if a pipe asks for a
/// secured connection, the start-up kit of the site.
///
/// # Errors
///
/// If a secured connection is asked for, and there is no kit or no TLS.
pub fn client(config: ClientConfig) -> Result<FlareClientBuilder, KitError> {
    let secure = config.is_secure();
    let builder = FlareClient::builder(config).cell(crate::drivers);
    if secure { with_kit(builder) } else { Ok(builder) }
}

#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
fn with_kit(builder: FlareClientBuilder) -> Result<FlareClientBuilder, KitError> {
    use crate::tls::{CredentialFiles, Tls};

    let config = builder.config();
    let kit = config.kit().ok_or_else(|| KitError::NoKit(config.task.pipe.workspace_dir.clone()))?;
    let tls = Tls::load(CredentialFiles::in_dir(kit))?;
    Ok(builder.cell(move |cell| cell.tls(tls.clone())))
}

#[cfg(not(any(feature = "tls", feature = "tls-aws-lc-rs")))]
fn with_kit(_: FlareClientBuilder) -> Result<FlareClientBuilder, KitError> {
    Err(KitError::NoTls)
}

/// Why a client cannot secure its connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KitError {
    /// There is no start-up kit.
    #[error("no 'rootCA.pem' in '{0}' or its folder 'startup'")]
    NoKit(String),
    /// TLS is not compiled in.
    #[error("the pipe is secured; build cellnet with the feature 'tls'")]
    NoTls,
    /// The kit cannot be used.
    #[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
    #[error("the start-up kit cannot be used")]
    Kit(#[from] crate::tls::TlsError),
}
