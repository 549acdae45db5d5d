//! How a connection is protected.

use std::{fmt, str::FromStr};

use crate::{transport::TransportError, url::CellUrl};

/// How a connection is protected. The names are those of the reference's `connection_security`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum TlsMode {
    /// Not at all.
    #[default]
    Clear,
    /// The listener shows a certificate.
    Tls,
    /// Both sides show one.
    Mtls,
}

impl TlsMode {
    /// What a URL asks for: its parameter `tls` (or `connection_security`, the reference's name) with the name of a mode,
    /// or `secure=true`; else what is `configured`; else [`Mtls`](Self::Mtls) if the scheme is `secure`, and
    /// [`Clear`](Self::Clear) if it is not. A secure scheme cannot be used in the clear.
    pub fn of(url: &CellUrl, secure: bool, configured: Option<Self>) -> Result<Self, TransportError> {
        let unusable = |why: String| TransportError::Url { url: url.to_string(), why };
        let asked = match url.param("tls").or_else(|| url.param("connection_security")) {
            Some(mode) => Some(mode.parse::<Self>().map_err(|error| unusable(error.to_string()))?),
            None => configured,
        };
        let secure_by_param = match url.param("secure").map(str::to_ascii_lowercase).as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(other) => return Err(unusable(format!("'secure={other}' is neither true nor false"))),
        };
        match asked {
            Some(Self::Clear) if secure => {
                Err(unusable(format!("'{}' is never in the clear; take another scheme", url.scheme())))
            }
            Some(Self::Clear) if secure_by_param && url.param("tls").is_some() => {
                Err(unusable("'secure=true' and 'tls=clear' exclude each other".into()))
            }
            Some(Self::Clear) if secure_by_param => Ok(Self::Mtls),
            Some(mode) => Ok(mode),
            None if secure || secure_by_param => Ok(Self::Mtls),
            None => Ok(Self::Clear),
        }
    }

    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clear => "clear",
            Self::Tls => "tls",
            Self::Mtls => "mtls",
        }
    }
}

/// A text is no mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a TLS mode; use clear, tls or mtls")]
pub struct TlsModeError(String);

impl FromStr for TlsMode {
    type Err = TlsModeError;

    fn from_str(text: &str) -> Result<Self, TlsModeError> {
        let modes = [Self::Clear, Self::Tls, Self::Mtls];
        let found = modes.into_iter().find(|mode| text.eq_ignore_ascii_case(mode.as_str()));
        found.ok_or_else(|| TlsModeError(text.into()))
    }
}

impl fmt::Display for TlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_speaks_first_then_the_configuration_then_the_scheme() {
        use TlsMode::*;
        for (url, secure, configured, expected) in [
            ("tcp://h:1", false, None, Some(Clear)),
            ("tcp://h:1", false, Some(Tls), Some(Tls)),
            ("tcp://h:1?tls=mtls", false, Some(Tls), Some(Mtls)),
            ("tcp://h:1?secure=true", false, None, Some(Mtls)),
            ("tcp://h:1?secure=TRUE", false, Some(Tls), Some(Tls)),
            ("tcp://h:1?secure=false", false, None, Some(Clear)),
            ("tcp://h:1?secure=maybe", false, None, None),
            ("tcp://h:1?secure=true&tls=clear", false, None, None),
            ("tcp://h:1?connection_security=tls", false, None, Some(Tls)),
            ("stcp://h:1", true, None, Some(Mtls)),
            ("stcp://h:1", true, Some(Tls), Some(Tls)),
            ("stcp://h:1?tls=tls", true, None, Some(Tls)),
            ("stcp://h:1", true, Some(Clear), None),
            ("stcp://h:1?tls=clear", true, None, None),
            ("stcp://h:1?tls=very", true, None, None),
        ] {
            let mode = TlsMode::of(&url.parse().unwrap(), secure, configured);
            assert_eq!(mode.as_ref().ok(), expected.as_ref(), "{url} {configured:?}: {mode:?}");
            if let Err(error) = mode {
                assert!(error.to_string().contains(url), "{error}");
            }
        }
    }
}
