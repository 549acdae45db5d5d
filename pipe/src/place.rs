//! The cells that a pipe may attach to.

use std::{fmt, str::FromStr};

use cellnet_core::{CellUrl, Fqcn, FqcnError, UrlError};

/// A cell that a pipe attaches to, and where that cell listens: `FQCN@URL`, or `FQCN@URL,URL,…` if there are several ways
/// to it, which are tried in this order with a head start each.
///
/// ```
/// # use cellnet_pipe::Place;
/// let cp: Place = "site-1@tcp://127.0.0.1:9000".parse()?;
/// assert_eq!(cp.fqcn().as_str(), "site-1");
/// assert!(!cp.is_root());
/// # Ok::<_, cellnet_pipe::PlaceError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    fqcn: Fqcn,
    /// At least one.
    urls: Vec<CellUrl>,
    security: Option<ConnectionSecurity>,
}

impl Place {
    /// The cell `fqcn`, which listens on `url`.
    pub fn new(fqcn: Fqcn, url: CellUrl) -> Self {
        Self { fqcn, urls: vec![url], security: None }
    }

    /// The server, which listens on `url`.
    pub fn root(url: CellUrl) -> Self {
        Self::new(Fqcn::server(), url)
    }

    /// Adds another URL of the same cell, to be tried after those before.
    pub fn or(mut self, url: CellUrl) -> Self {
        self.urls.push(url);
        self
    }

    /// Says how the connection to this cell is secured; without it the scheme of the URL decides.
    pub fn with_security(mut self, security: ConnectionSecurity) -> Self {
        self.security = Some(security);
        self
    }

    /// The name of the cell.
    pub fn fqcn(&self) -> &Fqcn {
        &self.fqcn
    }

    /// Where the cell listens: the first of its URLs, and the one that is told to others.
    pub fn url(&self) -> &CellUrl {
        &self.urls[0]
    }

    /// Every URL of the cell, of which there is at least one, in the order in which they are tried.
    pub fn urls(&self) -> &[CellUrl] {
        &self.urls
    }

    /// How the connection is secured, if that was said.
    pub fn security(&self) -> Option<ConnectionSecurity> {
        self.security
    }

    /// The URLs with what was said about security, where they do not say so themselves.
    pub(crate) fn secured_urls(&self) -> impl Iterator<Item = CellUrl> {
        self.urls.iter().cloned().map(|url| match self.security {
            Some(security) if url.param("tls").is_none() => url.with_param("tls", security.as_str()),
            _ => url,
        })
    }

    /// Whether the URL is that of the server and the pipe's cell a root of its own; otherwise the URL is the parent's.
    pub fn is_root(&self) -> bool {
        self.fqcn.is_server()
    }
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let (fqcn, urls) = text.split_once('@').ok_or_else(|| PlaceError::Form(text.into()))?;
        // Even nothing splits into one part, which is no URL.
        let urls = urls.split(',').map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { fqcn: fqcn.parse()?, urls, security: None })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.fqcn, self.url())?;
        self.urls[1..].iter().try_for_each(|url| write!(f, ",{url}"))
    }
}

/// Why a text is not a place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// The text has no `@`.
    #[error(
        "'{0}' does not name a cell and its URL; write FQCN@URL, for example site-1@tcp://127.0.0.1:8102"
    )]
    Form(String),
    /// What stands before the `@`.
    #[error(transparent)]
    Fqcn(#[from] FqcnError),
    /// What stands after the `@`.
    #[error(transparent)]
    Url(#[from] UrlError),
}

/// How a connection is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectionSecurity {
    /// Not at all.
    Clear,
    /// The listener shows a certificate.
    Tls,
    /// Both sides show a certificate.
    Mtls,
}

impl ConnectionSecurity {
    /// The value as the reference writes it: `clear`, `tls` or `mtls`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clear => "clear",
            Self::Tls => "tls",
            Self::Mtls => "mtls",
        }
    }
}

impl fmt::Display for ConnectionSecurity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ConnectionSecurity {
    type Err = ConnectionSecurityError;

    fn from_str(text: &str) -> Result<Self, ConnectionSecurityError> {
        let all = [Self::Clear, Self::Tls, Self::Mtls];
        all.into_iter()
            .find(|known| known.as_str() == text)
            .ok_or_else(|| ConnectionSecurityError(text.into()))
    }
}

/// A text is not a connection security.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a connection security; write 'clear', 'tls' or 'mtls'")]
pub struct ConnectionSecurityError(String);

/// The cells that a process of a site may attach to, as the site's agent tells it.
///
/// A process that was told nothing attaches to the server; see [`Place::root`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionProperties {
    /// The server.
    pub root: Place,
    /// The site's own agent, the client parent.
    pub cp: Place,
    /// The relay above the site, if there is one.
    pub relay: Option<Place>,
}

impl ConnectionProperties {
    /// The place that the root URL of a pipe means: the client parent if it is empty, else the place with that URL.
    ///
    /// If two places have the same URL, the relay is preferred to the client parent and that to the root, as in the
    /// reference (nvflare/fuel/utils/pipe/cell_pipe.py).
    ///
    /// # Errors
    ///
    /// If no place has that URL.
    pub fn choose(&self, root_url: &str) -> Result<&Place, UnknownUrl> {
        if root_url.is_empty() {
            return Ok(&self.cp);
        }
        let wanted: Option<CellUrl> = root_url.parse().ok();
        let mut places = self.relay.iter().chain([&self.cp, &self.root]);
        places
            .find(|place| wanted.as_ref().is_some_and(|url| place.urls.contains(url)))
            .ok_or_else(|| UnknownUrl(root_url.into()))
    }
}

/// None of the known cells listens on a URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is neither the URL of the root nor of the client parent nor of the relay")]
pub struct UnknownUrl(String);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mode, pipe_fqcn};

    fn known() -> ConnectionProperties {
        ConnectionProperties {
            root: "server@tcp://127.0.0.1:1".parse().unwrap(),
            cp: "site-1@tcp://127.0.0.1:2".parse().unwrap(),
            relay: Some("relay-1@tcp://127.0.0.1:3".parse().unwrap()),
        }
    }

    #[test]
    fn the_url_decides_the_parent_and_so_the_name() {
        let table = [
            ("tcp://127.0.0.1:1", "site-1_tok_active"),
            ("", "site-1.site-1_tok_active"),
            ("tcp://127.0.0.1:2", "site-1.site-1_tok_active"),
            ("tcp://127.0.0.1:3", "relay-1.site-1_tok_active"),
        ];
        let known = known();
        for (root_url, expected) in table {
            let place = known.choose(root_url).unwrap();
            let name = pipe_fqcn(Mode::Active, "site-1", "tok", place.fqcn()).unwrap();
            assert_eq!(name.as_str(), expected, "{root_url:?}");
            assert_eq!(place.is_root(), name.parent().is_none());
        }
    }

    #[test]
    fn a_url_of_nobody_is_refused() {
        for root_url in ["tcp://127.0.0.1:4", "http://127.0.0.1:1", "server"] {
            assert_eq!(known().choose(root_url), Err(UnknownUrl(root_url.into())));
        }
        let without_relay = ConnectionProperties { relay: None, ..known() };
        assert!(without_relay.choose("tcp://127.0.0.1:3").is_err());
    }

    #[test]
    fn of_two_places_with_one_url_the_nearest_is_taken() {
        let url: CellUrl = "tcp://127.0.0.1:1".parse().unwrap();
        let cp = Place::new("site-1".parse().unwrap(), url);
        let known = ConnectionProperties { cp: cp.clone(), relay: None, ..known() };
        assert_eq!(known.choose("tcp://127.0.0.1:1"), Ok(&cp));
    }

    #[test]
    fn places_print_as_they_were_written() {
        for text in ["server@tcp://127.0.0.1:1", "relay-1.site-1@http://h:2/f3", "r@quic://h:1,tcp://h:2"] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
        for text in ["tcp://127.0.0.1:1", "a b@tcp://h:1", "site-1@h:1", "site-1@tcp://h:1,", ""] {
            assert!(text.parse::<Place>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn security_is_read_as_it_is_written() {
        use ConnectionSecurity::{Clear, Mtls, Tls};
        for known in [Clear, Tls, Mtls] {
            assert_eq!(known.as_str().parse(), Ok(known));
        }
        assert!("TLS".parse::<ConnectionSecurity>().is_err());
    }
}
