//! The authority of the demo, and what it gives to each cell.

use cellnet::CellBuilder;

use crate::cli::status::Failure;
#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
use crate::cli::{
    cert::{init, issue},
    status::{Status, chain},
};

/// Issues credentials, in a folder that goes with it.
#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
#[derive(Debug)]
pub(super) struct Authority {
    dir: std::path::PathBuf,
}

/// Without TLS nobody has anything to show.
#[cfg(not(any(feature = "tls", feature = "tls-aws-lc-rs")))]
#[derive(Debug)]
pub(super) struct Authority {}

/// What a cell shows and trusts. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Kit {
    #[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
    tls: cellnet::tls::Tls,
}

impl Kit {
    pub(super) fn give(&self, builder: CellBuilder) -> CellBuilder {
        #[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
        let builder = builder.tls(self.tls.clone());
        builder
    }
}

#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
impl Authority {
    pub(super) fn new() -> Result<Self, Failure> {
        let name = format!("cellnet-demo-{}", uuid::Uuid::new_v4());
        let authority = Self { dir: std::env::temp_dir().join(name) };
        init::make(&authority.dir, "authority of the demo", 1, false)?;
        Ok(authority)
    }

    /// Credentials for both sides of connections, under this common name.
    pub(super) fn issue(&self, cn: &str) -> Result<Kit, Failure> {
        use cellnet::tls::{CredentialFiles, Tls};
        issue::make(&self.dir, cn, &["127.0.0.1".into()], 1, false)?;
        let tls = Tls::load(CredentialFiles::in_dir(self.dir.join(cn)));
        let tls = tls.map_err(|error| Failure::new(Status::Failed, chain(&error)))?;
        Ok(Kit { tls })
    }
}

#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
impl Drop for Authority {
    fn drop(&mut self) {
        // What cannot be removed is left to the system.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[cfg(not(any(feature = "tls", feature = "tls-aws-lc-rs")))]
impl Authority {
    pub(super) fn new() -> Result<Self, Failure> {
        Ok(Self {})
    }

    pub(super) fn issue(&self, _: &str) -> Result<Kit, Failure> {
        Ok(Kit {})
    }
}
