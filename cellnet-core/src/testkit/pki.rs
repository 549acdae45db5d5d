//! An authority for tests: kits of certificates in a folder that goes when the authority goes.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};

pub use rcgen;

use crate::tls::{CredentialFiles, Tls, TlsMode};

/// An authority. Clones are the same.
#[derive(Debug, Clone)]
pub struct Pki {
    shared: Arc<Authority>,
}

#[derive(Debug)]
struct Authority {
    dir: PathBuf,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Drop for Authority {
    fn drop(&mut self) {
        // What cannot be removed is left to the system.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Default for Pki {
    fn default() -> Self {
        Self::new()
    }
}

impl Pki {
    /// A new authority. Panics if its folder cannot be made.
    pub fn new() -> Self {
        let id = uuid::Uuid::new_v4();
        let dir = std::env::temp_dir().join(format!("cellnet-pki-{id}"));
        fs::create_dir_all(&dir).expect("the temporary folder takes a folder");
        let mut params = CertificateParams::default();
        // Verifiers look for authorities by their names.
        params.distinguished_name.push(DnType::CommonName, format!("test authority {id}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { shared: Arc::new(Authority { dir, pem, issuer: Issuer::new(params, key) }) }
    }

    /// A folder with credentials for the common name, valid for the names and addresses of loopback.
    pub fn kit(&self, cn: &str) -> PathBuf {
        self.kit_for(cn, LOOPBACK)
    }

    /// The same for listeners at these hosts.
    pub fn kit_for(&self, cn: &str, hosts: &[&str]) -> PathBuf {
        self.write(cn, &self.params(cn, hosts))
    }

    /// The credentials of [`kit`](Self::kit) with certificates that are changed before they are signed.
    pub fn kit_with(&self, cn: &str, change: impl FnOnce(&mut CertificateParams)) -> PathBuf {
        let mut params = self.params(cn, LOOPBACK);
        change(&mut params);
        self.write(cn, &params)
    }

    /// Puts new certificates and keys of this authority into a folder that has some.
    pub fn renew(&self, dir: &Path, cn: &str) {
        self.fill(dir, &self.params(cn, LOOPBACK));
    }

    /// Credentials that ran out in 2001.
    pub fn expired_kit(&self, cn: &str) -> PathBuf {
        self.kit_with(cn, |params| {
            (params.not_before, params.not_after) = (date_time_ymd(2000, 1, 1), date_time_ymd(2001, 1, 1));
        })
    }

    /// The credentials of [`kit`](Self::kit), loaded.
    pub fn tls(&self, cn: &str, mode: TlsMode) -> Tls {
        let files = CredentialFiles::in_dir(self.kit(cn));
        Tls::load(files).expect("a kit can be loaded").with_mode(mode)
    }

    /// Where everything is.
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    fn params(&self, cn: &str, hosts: &[&str]) -> CertificateParams {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.into()).collect();
        let mut params = CertificateParams::new(hosts).expect("names of hosts");
        params.distinguished_name.push(DnType::CommonName, cn);
        params
    }

    fn write(&self, cn: &str, params: &CertificateParams) -> PathBuf {
        let dir = self.shared.dir.join(uuid::Uuid::new_v4().to_string()).join(cn);
        fs::create_dir_all(&dir).expect("a folder");
        self.fill(&dir, params);
        dir
    }

    fn fill(&self, dir: &Path, params: &CertificateParams) {
        fs::write(dir.join("rootCA.pem"), &self.shared.pem).expect("a file");
        for side in ["server", "client"] {
            let key = KeyPair::generate().expect("a key");
            let cert = params.signed_by(&key, &self.shared.issuer).expect("a certificate");
            fs::write(dir.join(side).with_extension("crt"), cert.pem()).expect("a file");
            let path = dir.join(side).with_extension("key");
            fs::write(&path, key.serialize_pem()).expect("a file");
            #[cfg(unix)]
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("a mode");
        }
    }
}

/// The names and addresses of loopback.
const LOOPBACK: &[&str] = &["localhost", "127.0.0.1", "::1"];
