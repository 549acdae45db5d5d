//! The authority of the demo, and what it gives to each cell.

use cellnet::CellBuilder;

use crate::cli::status::Failure;
#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
use crate::cli::status::{Status, chain};

/// Issues credentials, in a folder that goes with it.
#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
#[derive(Debug)]
pub(super) struct Authority {
    dir: std::path::PathBuf,
    pem: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

/// Whatever a cell shows and trusts. Clones are the same.
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
        let (pem, issuer) = authority().map_err(|error| failed(&error))?;
        let dir = std::env::temp_dir().join(format!("cellnet-demo-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&dir).map_err(|error| failed(&error))?;
        Ok(Self { dir, pem, issuer })
    }

    /// Credentials for both sides of connections, under this common name and valid for loopback.
    pub(super) fn issue(&self, cn: &str) -> Result<Kit, Failure> {
        use cellnet::tls::{CredentialFiles, Tls};
        let dir = self.dir.join(cn);
        let files = CredentialFiles::in_dir(&dir);
        let (cert, key) = self.sign(cn).map_err(|error| failed(&error))?;
        let write = || {
            std::fs::create_dir(&dir)?;
            std::fs::write(&files.ca_cert, &self.pem)?;
            for (cert_path, key_path) in
                [(&files.server_cert, &files.server_key), (&files.client_cert, &files.client_key)]
            {
                std::fs::write(cert_path, &cert)?;
                write_secret(key_path, &key)?;
            }
            Ok(())
        };
        write().map_err(|error: std::io::Error| failed(&error))?;
        Ok(Kit { tls: Tls::load(files).map_err(|error| failed(&error))? })
    }

    /// A certificate and its key.
    fn sign(&self, cn: &str) -> Result<(String, String), rcgen::Error> {
        let mut params =
            rcgen::CertificateParams::new(["localhost", "127.0.0.1"].map(String::from).to_vec())?;
        params.distinguished_name.push(rcgen::DnType::CommonName, cn);
        let key = rcgen::KeyPair::generate()?;
        Ok((params.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem()))
    }
}

#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
impl Drop for Authority {
    fn drop(&mut self) {
        // What cannot be removed is left to the system.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
fn authority() -> Result<(String, rcgen::Issuer<'static, rcgen::KeyPair>), rcgen::Error> {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "authority of the demo");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let key = rcgen::KeyPair::generate()?;
    Ok((params.self_signed(&key)?.pem(), rcgen::Issuer::new(params, key)))
}

/// Writes a file that only its owner may read.
#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
fn write_secret(path: &std::path::Path, text: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    std::io::Write::write_all(&mut options.open(path)?, text.as_bytes())
}

#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
fn failed(error: &dyn std::error::Error) -> Failure {
    Failure::new(Status::Failed, format!("cannot make the credentials of the demo: {}", chain(error)))
}

/// Without TLS nobody has anything to show.
#[cfg(not(any(feature = "tls", feature = "tls-aws-lc-rs")))]
#[derive(Debug)]
pub(super) struct Authority {}

#[cfg(not(any(feature = "tls", feature = "tls-aws-lc-rs")))]
impl Authority {
    pub(super) fn new() -> Result<Self, Failure> {
        Ok(Self {})
    }

    pub(super) fn issue(&self, _: &str) -> Result<Kit, Failure> {
        Ok(Kit {})
    }
}
