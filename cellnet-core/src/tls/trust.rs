//! Whom a certificate is for, and whether a handshake failed for want of trust.

use std::{error::Error, io};

use rustls::{AlertDescription, Error as TlsFailure};

use super::{Tls, common_name};

impl Tls {
    /// The common name of the certificate that this side shows where it dials, if there is one.
    pub fn own_name(&self) -> Option<String> {
        self.loaded().client.as_ref()?.cert.first().and_then(common_name)
    }
}

/// Whether an error, or one of its causes, is that a certificate was refused or missed: by this side, or by the peer as
/// its alert says.
pub fn is_about_trust(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(failure) = error.downcast_ref::<TlsFailure>() {
            return is_refusal(failure);
        }
        // An error of the system hides the one it was made of behind that one's cause.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source());
    }
    false
}

fn is_refusal(failure: &TlsFailure) -> bool {
    match failure {
        TlsFailure::InvalidCertificate(_) | TlsFailure::NoCertificatesPresented => true,
        TlsFailure::AlertReceived(alert) => alert_is_about_trust(u8::from(*alert)),
        _ => false,
    }
}

/// Whether an alert (RFC 8446, 6) says that a certificate was refused or missed, for transports that see its number only.
pub fn alert_is_about_trust(alert: u8) -> bool {
    use AlertDescription as Alert;
    matches!(
        Alert::from(alert),
        Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            // A signature that does not fit: of another authority with the same name, for one.
            | Alert::DecryptError
            | Alert::CertificateRequired
    )
}

#[cfg(test)]
mod tests {
    use rustls::CertificateError;

    use super::*;

    #[test]
    fn refusals_are_known_inside_errors_of_the_system() {
        for (failure, expected) in [
            (TlsFailure::InvalidCertificate(CertificateError::Expired), true),
            (TlsFailure::NoCertificatesPresented, true),
            (TlsFailure::AlertReceived(AlertDescription::CertificateRequired), true),
            (TlsFailure::AlertReceived(AlertDescription::UnknownCA), true),
            (TlsFailure::AlertReceived(AlertDescription::HandshakeFailure), false),
            (TlsFailure::HandshakeNotComplete, false),
        ] {
            assert_eq!(is_about_trust(&failure), expected, "{failure}");
            let wrapped = io::Error::new(io::ErrorKind::InvalidData, failure);
            assert_eq!(is_about_trust(&wrapped), expected, "{wrapped}");
        }
        assert!(!is_about_trust(&io::Error::from(io::ErrorKind::ConnectionReset)));
    }
}
