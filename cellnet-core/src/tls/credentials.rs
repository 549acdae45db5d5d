//! The files that say who a cell is and whom it trusts.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant, SystemTime},
};

use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

use super::{TlsClient, TlsError, TlsMode, TlsServer, verify::ServerCheck};

/// Where the credentials are. The names are those of the reference's start-up kits.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CredentialFiles {
    /// Certificates of the authorities that are trusted: `rootCA.pem`. Must be there.
    pub ca_cert: PathBuf,
    /// Authorities that vouch for listeners in the mode `tls`, instead of `ca_cert`, if it is there: `customRootCA.pem`.
    pub custom_ca_cert: PathBuf,
    /// What listeners show, with the certificates between it and the authority: `server.crt`.
    pub server_cert: PathBuf,
    /// Its key: `server.key`.
    pub server_key: PathBuf,
    /// What diallers show in the mode `mtls`: `client.crt`.
    pub client_cert: PathBuf,
    /// Its key: `client.key`.
    pub client_key: PathBuf,
}

impl CredentialFiles {
    /// The usual names in one folder.
    pub fn in_dir(dir: impl AsRef<Path>) -> Self {
        let file = |name: &str| dir.as_ref().join(name);
        Self {
            ca_cert: file("rootCA.pem"),
            custom_ca_cert: file("customRootCA.pem"),
            server_cert: file("server.crt"),
            server_key: file("server.key"),
            client_cert: file("client.crt"),
            client_key: file("client.key"),
        }
    }

    fn all(&self) -> [&PathBuf; 6] {
        [
            &self.ca_cert,
            &self.custom_ca_cert,
            &self.server_cert,
            &self.server_key,
            &self.client_cert,
            &self.client_key,
        ]
    }
}

/// Credentials that are loaded, and how they are to be used. Clones are the same.
///
/// Files that change are loaded again when the next handshake begins, at most once a second; connections that are open
/// stay. New files that cannot be used are named in the log and leave the old ones in place.
#[derive(Clone)]
pub struct Tls {
    shared: Arc<Shared>,
    mode: Option<TlsMode>,
    check: ServerCheck,
}

struct Shared {
    files: CredentialFiles,
    provider: Arc<CryptoProvider>,
    loaded: RwLock<Arc<Loaded>>,
    /// When the files were last looked at.
    looked: Mutex<Instant>,
}

/// What the files held.
pub(super) struct Loaded {
    /// Differs for every load.
    pub(super) generation: u64,
    pub(super) roots: Arc<RootCertStore>,
    pub(super) custom_roots: Option<Arc<RootCertStore>>,
    pub(super) server: Option<Arc<CertifiedKey>>,
    pub(super) client: Option<Arc<CertifiedKey>>,
    stamps: Stamps,
}

/// When each file changed last and how long it is, if it is there.
type Stamps = [Option<(SystemTime, u64)>; 6];

/// Files are looked at this often at most.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Tls {
    /// Loads credentials, for the cryptography that is compiled in: ring if it is there, else aws-lc-rs.
    pub fn load(files: CredentialFiles) -> Result<Self, TlsError> {
        Self::with_provider(files, default_provider()?)
    }

    /// Loads credentials, for this cryptography.
    pub fn with_provider(files: CredentialFiles, provider: Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let loaded = Loaded::read(&files, &provider, 1)?;
        let shared = Shared {
            files,
            provider,
            loaded: RwLock::new(Arc::new(loaded)),
            looked: Mutex::new(Instant::now()),
        };
        Ok(Self { shared: Arc::new(shared), mode: None, check: ServerCheck::Host })
    }

    /// The mode of connections whose URL does not say; without it, mtls for secure schemes and clear for the others.
    pub fn with_mode(mut self, mode: TlsMode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// The name that certificates of listeners must have, as an alternative name or as the common name, instead of the
    /// host in the URL.
    pub fn with_server_name(mut self, name: impl Into<String>) -> Self {
        self.check = ServerCheck::Pinned(name.into());
        self
    }

    /// Takes any certificate of the authority for any listener, as the reference does for tcp and http. Every use is
    /// logged as a warning.
    pub fn with_any_server_name(mut self) -> Self {
        self.check = ServerCheck::Waived;
        self
    }

    /// The mode for URLs that do not say, if there is one.
    pub fn mode(&self) -> Option<TlsMode> {
        self.mode
    }

    /// Where the credentials come from.
    pub fn files(&self) -> &CredentialFiles {
        &self.shared.files
    }

    /// What is needed to dial `host`, with the application protocols that are offered, most wanted first.
    pub fn client(&self, host: &str, mode: TlsMode, protocols: &[&[u8]]) -> Result<TlsClient, TlsError> {
        self.refresh();
        TlsClient::new(self, host, mode, protocols)
    }

    /// What is needed to listen, with the application protocols that are spoken.
    pub fn server(&self, mode: TlsMode, protocols: &[&[u8]]) -> Result<TlsServer, TlsError> {
        self.refresh();
        TlsServer::new(self, mode, protocols)
    }

    /// Loads the files again if they have changed since. Says whether they had; an error leaves everything as it is.
    pub fn reload(&self) -> Result<bool, TlsError> {
        *self.shared.looked.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let before = self.loaded();
        if stamps(&self.shared.files) == before.stamps {
            return Ok(false);
        }
        let loaded = Loaded::read(&self.shared.files, &self.shared.provider, before.generation + 1)?;
        *self.shared.loaded.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
        Ok(true)
    }

    /// [`reload`](Self::reload), now and then.
    pub(super) fn refresh(&self) {
        let looked = *self.shared.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if looked.elapsed() < LOOK_AGAIN {
            return;
        }
        let ca = self.shared.files.ca_cert.display();
        match self.reload() {
            Ok(true) => tracing::info!(%ca, "credentials loaded again"),
            Ok(false) => {}
            Err(error) => {
                let error = crate::link::chain(&error);
                tracing::warn!(%ca, error, "changed credentials cannot be used, the old ones stay");
            }
        }
    }

    pub(super) fn loaded(&self) -> Arc<Loaded> {
        self.shared.loaded.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn provider(&self) -> &Arc<CryptoProvider> {
        &self.shared.provider
    }

    pub(super) fn check(&self) -> &ServerCheck {
        &self.check
    }
}

/// The cryptography that is compiled in.
fn default_provider() -> Result<Arc<CryptoProvider>, TlsError> {
    #[cfg(feature = "ring")]
    return Ok(Arc::new(rustls::crypto::ring::default_provider()));
    #[cfg(all(feature = "aws-lc-rs", not(feature = "ring")))]
    return Ok(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    #[cfg(not(any(feature = "ring", feature = "aws-lc-rs")))]
    Err(TlsError::NoProvider)
}

impl Loaded {
    fn read(files: &CredentialFiles, provider: &CryptoProvider, generation: u64) -> Result<Self, TlsError> {
        // Before the files: a change while they are read is seen the next time.
        let stamps = stamps(files);
        let roots = roots(&files.ca_cert, &read(&files.ca_cert)?)?;
        let custom_roots = match read_if_there(&files.custom_ca_cert)? {
            Some(pem) => Some(self::roots(&files.custom_ca_cert, &pem)?),
            None => None,
        };
        let server = certified(&files.server_cert, &files.server_key, provider)?;
        let client = certified(&files.client_cert, &files.client_key, provider)?;
        Ok(Self { generation, roots, custom_roots, server, client, stamps })
    }
}

fn stamps(files: &CredentialFiles) -> Stamps {
    files.all().map(|path| {
        let data = fs::metadata(path).ok()?;
        Some((data.modified().ok()?, data.len()))
    })
}

fn roots(path: &Path, pem: &[u8]) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, pem)? {
        roots.add(certificate).map_err(|error| unusable(path, error))?;
    }
    Ok(Arc::new(roots))
}

/// A certificate and its key, if both files are there.
fn certified(
    cert: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<Option<Arc<CertifiedKey>>, TlsError> {
    let (Some(chain), Some(pem)) = (read_if_there(cert)?, read_if_there(key)?) else { return Ok(None) };
    warn_if_readable(key);
    let chain = certificates(cert, &chain)?;
    let key_der = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| unusable(key, error))?;
    let signer = provider.key_provider.load_private_key(key_der).map_err(|error| unusable(key, error))?;
    let certified = CertifiedKey::new(chain, signer);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok(Some(Arc::new(certified)))
        }
        Err(_) => Err(unusable(key, format!("it is not the key of '{}'", cert.display()))),
    }
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| unusable(path, error))?;
    if found.is_empty() { Err(unusable(path, "it holds no certificate")) } else { Ok(found) }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read { path: path.into(), source })
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, TlsError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TlsError::Read { path: path.into(), source }),
    }
}

fn unusable(path: &Path, why: impl ToString) -> TlsError {
    TlsError::File { path: path.into(), why: why.to_string() }
}

fn warn_if_readable(key: &Path) {
    #[cfg(unix)]
    if let Ok(data) = fs::metadata(key)
        && std::os::unix::fs::PermissionsExt::mode(&data.permissions()) & 0o077 != 0
    {
        tracing::warn!(key = %key.display(), "others than its owner may read this key; chmod 600 keeps them out");
    }
    #[cfg(not(unix))]
    let _ = key;
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("files", &self.shared.files)
            .field("mode", &self.mode)
            .field("check", &self.check)
            .finish_non_exhaustive()
    }
}
