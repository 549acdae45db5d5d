//! The files that say who a cell is and whom it trusts.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock, TryLockError},
    time::SystemTime,
};

use rustls::{RootCertStore, crypto::CryptoProvider, sign::CertifiedKey};

use super::{Shown, TlsClient, TlsError, TlsMode, TlsServer, pem, verify::ServerCheck};

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

    fn all(&self) -> [&PathBuf; FILES] {
        [
            &self.ca_cert,
            &self.custom_ca_cert,
            &self.server_cert,
            &self.server_key,
            &self.client_cert,
            &self.client_key,
        ]
    }

    fn stamps(&self) -> Stamps {
        self.all().map(|path| Stamp::of(path))
    }

    fn read(&self) -> Result<Contents, TlsError> {
        let mut contents = Contents::default();
        for (content, path) in contents.iter_mut().zip(self.all()) {
            *content = pem::read_if_there(path)?;
        }
        Ok(contents)
    }
}

/// Places of files in [`CredentialFiles::all`].
const SERVER_CERT: usize = 2;
const CLIENT_CERT: usize = 4;
const FILES: usize = 6;

/// What is in each file that is there.
type Contents = [Option<Vec<u8>>; FILES];

/// How each file looks from outside.
type Stamps = [Option<Stamp>; FILES];

/// Differs for a file that was written or replaced, also by one of the same age and length.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    len: u64,
    #[cfg(unix)]
    inode: (u64, u64, i64, i64),
}

impl Stamp {
    /// `None` for a file that is not there.
    fn of(path: &Path) -> Option<Self> {
        let data = fs::metadata(path).ok()?;
        #[cfg(unix)]
        use std::os::unix::fs::MetadataExt;
        Some(Self {
            modified: data.modified().ok(),
            len: data.len(),
            #[cfg(unix)]
            inode: (data.dev(), data.ino(), data.ctime(), data.ctime_nsec()),
        })
    }
}

/// Credentials that are loaded, and how they are to be used. Clones are the same.
///
/// Before each handshake the files are looked at, and loaded again if one has changed; connections that are open stay.
/// Files that cannot be used, or that were there and are gone, are named in the log and leave all the old ones in place:
/// half of a change never counts. Looking is a few system calls on the thread of the handshake, so the files belong on a
/// local disk.
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
    /// Held by whoever looks at the files. The others go by what is loaded.
    looked: Mutex<Looked>,
}

/// What the last look at the files found.
struct Looked {
    stamps: Stamps,
    /// Why they could not be used, which is logged once.
    complaint: Option<String>,
}

/// What the files held.
pub(super) struct Loaded {
    /// Grows with every load.
    pub(super) generation: u64,
    pub(super) roots: Arc<RootCertStore>,
    pub(super) custom_roots: Option<Arc<RootCertStore>>,
    pub(super) server: Option<Arc<CertifiedKey>>,
    pub(super) client: Option<Arc<CertifiedKey>>,
    contents: Contents,
}

impl Tls {
    /// Loads credentials, for the cryptography that is compiled in: ring if it is there, else aws-lc-rs.
    pub fn load(files: CredentialFiles) -> Result<Self, TlsError> {
        Self::with_provider(files, default_provider()?)
    }

    /// Loads credentials, for this cryptography.
    pub fn with_provider(files: CredentialFiles, provider: Arc<CryptoProvider>) -> Result<Self, TlsError> {
        // Before the files are read: a change meanwhile is seen the next time.
        let looked = Looked { stamps: files.stamps(), complaint: None };
        let loaded = Loaded::new(&files, files.read()?, &provider, 1)?;
        loaded.note_flaws(&files);
        let shared =
            Shared { files, provider, loaded: RwLock::new(Arc::new(loaded)), looked: Mutex::new(looked) };
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

    /// The certificate that this cell shows to listeners, if there is one.
    pub fn client_certificate(&self) -> Option<Shown> {
        self.loaded().client.as_deref().and_then(shown)
    }

    /// The certificate that this cell shows to those who connect, if there is one.
    pub fn server_certificate(&self) -> Option<Shown> {
        self.loaded().server.as_deref().and_then(shown)
    }

    /// Reads the files again, for example when the operator says so by a signal. Says what is new; an error leaves
    /// everything as it is.
    pub fn reload(&self) -> Result<Reloaded, TlsError> {
        let mut looked = self.shared.looked.lock().unwrap_or_else(PoisonError::into_inner);
        looked.stamps = self.shared.files.stamps();
        looked.complaint = None;
        self.read_again()
    }

    /// [`reload`](Self::reload) if a file looks different from the last time, and nobody else is at it.
    pub(super) fn refresh(&self) {
        let mut looked = match self.shared.looked.try_lock() {
            Ok(looked) => looked,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let stamps = self.shared.files.stamps();
        if stamps == looked.stamps {
            return;
        }
        match self.read_again() {
            Ok(reloaded) => {
                *looked = Looked { stamps, complaint: None };
                tracing::info!("credentials: {reloaded}");
            }
            Err(error) => {
                // The system's refusal may be over the next time, with no change of the files.
                if !matches!(error, TlsError::Read { .. }) {
                    looked.stamps = stamps;
                }
                let error = crate::link::chain(&error);
                if looked.complaint.as_ref() != Some(&error) {
                    tracing::warn!(error, "changed credentials cannot be used, the old ones stay");
                    looked.complaint = Some(error);
                }
            }
        }
    }

    /// To be called by whoever holds `looked`.
    fn read_again(&self) -> Result<Reloaded, TlsError> {
        let Shared { files, provider, loaded, .. } = &*self.shared;
        let before = self.loaded();
        let contents = files.read()?;
        let changed: Vec<PathBuf> = std::iter::zip(files.all(), std::iter::zip(&contents, &before.contents))
            .filter(|(_, (now, then))| now != then)
            .map(|(path, _)| path.clone())
            .collect();
        let after = if changed.is_empty() {
            before
        } else {
            let after = Loaded::new(files, contents, provider, before.generation + 1)?;
            let lost = |path: &Path, had: bool, has: bool| match had && !has {
                true => Err(TlsError::Gone { path: path.into() }),
                false => Ok(()),
            };
            for (at, (cert, key), had, has) in [
                (SERVER_CERT, (&files.server_cert, &files.server_key), &before.server, &after.server),
                (CLIENT_CERT, (&files.client_cert, &files.client_key), &before.client, &after.client),
            ] {
                let path = if after.contents[at].is_none() { cert } else { key };
                lost(path, had.is_some(), has.is_some())?;
            }
            after.note_flaws(files);
            let after = Arc::new(after);
            *loaded.write().unwrap_or_else(PoisonError::into_inner) = after.clone();
            after
        };
        let (server, client) =
            (after.server.as_deref().and_then(shown), after.client.as_deref().and_then(shown));
        Ok(Reloaded { changed, server, client })
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

/// Whether a file holds the key of the first certificate in another: the error says why not.
pub fn check_key(cert: &Path, key: &Path) -> Result<(), TlsError> {
    let read = |path: &Path| {
        let missing = || TlsError::Read { path: path.into(), source: io::ErrorKind::NotFound.into() };
        pem::read_if_there(path)?.ok_or_else(missing)
    };
    pem::certified((cert, &read(cert)?), (key, &read(key)?), &*default_provider()?).map(drop)
}

/// What [`Tls::reload`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reloaded {
    /// The files that are new, different or gone. If there is none, nothing has happened.
    pub changed: Vec<PathBuf>,
    /// What this cell now shows to those who connect.
    pub server: Option<Shown>,
    /// What this cell now shows to listeners.
    pub client: Option<Shown>,
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.changed.is_empty() {
            return f.write_str("nothing has changed");
        }
        let names = self.changed.iter().map(|path| format!("'{}'", path.display()));
        write!(f, "loaded again after a change of {}", names.collect::<Vec<_>>().join(", "))?;
        for (side, shown) in [("listeners show", &self.server), ("diallers show", &self.client)] {
            if let Some(shown) = shown {
                write!(f, "; {side} {shown}")?;
            }
        }
        Ok(())
    }
}

impl Loaded {
    fn new(
        files: &CredentialFiles,
        contents: Contents,
        provider: &CryptoProvider,
        generation: u64,
    ) -> Result<Self, TlsError> {
        let [ca, custom, server_cert, server_key, client_cert, client_key] = &contents;
        let Some(ca) = ca else {
            let source = io::ErrorKind::NotFound.into();
            return Err(TlsError::Read { path: files.ca_cert.clone(), source });
        };
        let custom = custom.as_ref().map(|pem| pem::roots(&files.custom_ca_cert, pem)).transpose()?;
        let certified = |cert: &Path, key: &Path, contents: (&Option<Vec<u8>>, &Option<Vec<u8>>)| {
            let (Some(chain), Some(pem)) = contents else { return Ok(None) };
            pem::certified((cert, chain), (key, pem), provider).map(|certified| Some(Arc::new(certified)))
        };
        Ok(Self {
            generation,
            roots: pem::roots(&files.ca_cert, ca)?,
            custom_roots: custom,
            server: certified(&files.server_cert, &files.server_key, (server_cert, server_key))?,
            client: certified(&files.client_cert, &files.client_key, (client_cert, client_key))?,
            contents,
        })
    }

    /// Warns of what others may refuse or read.
    fn note_flaws(&self, files: &CredentialFiles) {
        for (certified, cert, key) in [
            (&self.server, &files.server_cert, &files.server_key),
            (&self.client, &files.client_cert, &files.client_key),
        ] {
            let Some(certified) = certified else { continue };
            for flaw in shown(certified).map(|shown| shown.flaws).unwrap_or_default() {
                tracing::warn!(certificate = %cert.display(), "peers may refuse this certificate: {flaw}");
            }
            if pem::is_open_to_others(key) {
                tracing::warn!(key = %key.display(), "others than its owner may read this key; chmod 600 keeps them out");
            }
        }
    }
}

fn shown(certified: &CertifiedKey) -> Option<Shown> {
    certified.cert.first().and_then(Shown::read)
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
