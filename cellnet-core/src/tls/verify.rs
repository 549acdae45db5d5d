//! Whether a listener's certificate is the one that was meant.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::certificate::common_name;

/// By which name a listener must be known to its certificate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum ServerCheck {
    /// The host of the URL, as one of the subject's alternative names.
    #[default]
    Host,
    /// This name instead, as an alternative name or as the common name.
    Pinned(String),
    /// None: any certificate of the authority will do, as for the reference's tcp and http.
    Waived,
}

/// The usual verification of the chain, and of the name what [`ServerCheck`] says.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    pub(super) chain: Arc<WebPkiServerVerifier>,
    pub(super) check: ServerCheck,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verify = |name: &ServerName<'_>| {
            self.chain.verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
        };
        match &self.check {
            ServerCheck::Host => verify(server_name),
            ServerCheck::Pinned(pinned) => {
                let name = ServerName::try_from(pinned.as_str()).ok();
                match verify(name.as_ref().unwrap_or(server_name)) {
                    // The chain is checked before the name, so only the name is wrong, or there is none that can be an
                    // alternative name.
                    Ok(verified) if name.is_some() => Ok(verified),
                    Err(error) if !is_about_name(&error) => Err(error),
                    _ if common_name(end_entity).as_ref() == Some(pinned) => {
                        Ok(ServerCertVerified::assertion())
                    }
                    Ok(_) => Err(CertificateError::NotValidForName.into()),
                    Err(error) => Err(error),
                }
            }
            ServerCheck::Waived => match verify(server_name) {
                Err(error) if is_about_name(&error) => {
                    tracing::warn!(
                        host = %server_name.to_str(), cn = common_name(end_entity),
                        "the certificate names another host; used all the same, because the check is switched off"
                    );
                    Ok(ServerCertVerified::assertion())
                }
                verified => verified,
            },
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

fn is_about_name(error: &Error) -> bool {
    use CertificateError::{NotValidForName, NotValidForNameContext};
    matches!(error, Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }))
}
