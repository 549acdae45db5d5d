//! What certificates say.

use std::{fmt, time::SystemTime};

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The common name of a certificate's subject, if it has exactly one and that is text. Of several nobody could say which
/// one its authority has looked at.
pub fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    only_name(&certificate)
}

/// A certificate that this cell shows.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shown {
    /// Its common name, if it has exactly one.
    pub common_name: Option<String>,
    /// When it ends, as `Nov 23 12:00:00 2027 +00:00`.
    pub until: String,
    /// Why peers may refuse it.
    pub flaws: Vec<&'static str>,
}

impl Shown {
    /// `None` for bytes that are no certificate.
    pub(super) fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let common_name = only_name(&certificate);
        let validity = certificate.validity();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let flaws = [
            (validity.not_after.timestamp() < now, "it has expired"),
            (validity.not_before.timestamp() > now, "it is not valid yet"),
            (common_name.is_none(), "it has not exactly one common name"),
            (certificate.is_ca(), "it is the certificate of an authority"),
        ];
        let flaws = flaws.into_iter().filter_map(|(there, flaw)| there.then_some(flaw)).collect();
        Some(Self { common_name, until: validity.not_after.to_string(), flaws })
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' until {}", self.common_name.as_deref().unwrap_or_default(), self.until)
    }
}

fn only_name(certificate: &X509Certificate<'_>) -> Option<String> {
    let mut names = certificate.subject().iter_common_name();
    let name = names.next().filter(|_| names.next().is_none())?;
    name.as_str().ok().map(str::to_owned)
}
