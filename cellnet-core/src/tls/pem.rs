//! Certificates and keys from files.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
    sync::Arc,
};

use rustls::{
    InconsistentKeys, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

use super::TlsError;

/// The content of a file, if it is there.
pub(super) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, TlsError> {
    match read(path) {
        Ok(Some(bytes)) => Ok(Some(bytes)),
        Ok(None) => Err(unusable(path, format!("it is no file of at most {MAX_FILE} bytes"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TlsError::Read { path: path.into(), source }),
    }
}

/// Authorities.
pub(super) fn roots(path: &Path, pem: &[u8]) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, pem)? {
        roots.add(certificate).map_err(|error| unusable(path, error))?;
    }
    Ok(Arc::new(roots))
}

/// A certificate, what is between it and its authority, and its key.
pub(super) fn certified(
    (cert, chain): (&Path, &[u8]),
    (key, pem): (&Path, &[u8]),
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(cert, chain)?;
    if contains(pem, b"ENCRYPTED") {
        return Err(unusable(key, "it is encrypted; remove the passphrase and keep others from reading it"));
    }
    let der = PrivateKeyDer::from_pem_slice(pem)
        .map_err(|error| unusable(key, format!("it holds no private key in PEM: {error}")))?;
    let signer = provider.key_provider.load_private_key(der).map_err(|error| unusable(key, error))?;
    let certified = CertifiedKey::new(chain, signer);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(unusable(key, format!("it is not the key of '{}'", cert.display())))
        }
        Err(error) => Err(unusable(cert, error)),
    }
}

/// Whether somebody besides its owner may read a file.
pub(super) fn is_open_to_others(path: &Path) -> bool {
    #[cfg(unix)]
    {
        let mode = |data: fs::Metadata| std::os::unix::fs::PermissionsExt::mode(&data.permissions());
        fs::metadata(path).is_ok_and(|data| mode(data) & 0o077 != 0)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        false
    }
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| unusable(path, error))?;
    if found.is_empty() { Err(unusable(path, "it holds no certificate in PEM")) } else { Ok(found) }
}

/// Far above a bundle of all public authorities.
const MAX_FILE: u64 = 4 << 20;

/// `None` for what is no file, or too long.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    // To open a pipe would wait for its other end.
    if !fs::metadata(path)?.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= MAX_FILE).then_some(bytes))
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn unusable(path: &Path, why: impl ToString) -> TlsError {
    TlsError::File { path: path.into(), why: why.to_string() }
}
