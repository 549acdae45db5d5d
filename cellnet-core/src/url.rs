//! URLs that say over which transport a cell is reached.

use std::{fmt, str::FromStr};

/// The part of a URL that chooses the driver, always in lower case.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scheme(String);

impl Scheme {
    /// The scheme as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Scheme {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let mut chars = text.chars();
        let valid = chars.next().is_some_and(|c| c.is_ascii_alphabetic())
            && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
        if valid { Ok(Self(text.to_ascii_lowercase())) } else { Err(UrlError::Scheme(text.into())) }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// `SCHEME://HOST:PORT[/PATH][?KEY=VALUE&…]`
///
/// Host `0` means all interfaces, an IPv6 literal stands in brackets, and port 0 lets a listener choose. The scheme
/// decides whether a port is needed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CellUrl {
    scheme: Scheme,
    host: String,
    port: Option<u16>,
    path: String,
    params: Vec<(String, String)>,
}

impl CellUrl {
    /// What chooses the driver.
    pub fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// Host name or address, without brackets; empty for all interfaces.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, if the URL names one.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The path with its leading slash, or nothing.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The value of a query parameter; the last one wins, as in the reference.
    pub fn param(&self, key: &str) -> Option<&str> {
        self.params.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// All query parameters in the order of the URL.
    pub fn params(&self) -> impl Iterator<Item = (&str, &str)> {
        self.params.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// The same URL with another port, for listeners that chose one.
    pub fn with_port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// The same URL with one more query parameter, which replaces others with this key.
    pub fn with_param(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let key = key.into();
        self.params.retain(|(known, _)| *known != key);
        self.params.push((key, value.into()));
        self
    }
}

/// Why a text is not a URL of a cell.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// The text has no `://`.
    #[error("'{0}' is not a URL; write SCHEME://HOST:PORT, for example tcp://server.example:8002")]
    Form(String),
    /// Letters, digits, `+`, `-` and `.` only.
    #[error("'{0}' is not a URL scheme")]
    Scheme(String),
    /// Not a number from 0 to 65535.
    #[error("'{port}' in '{url}' is not a port number")]
    Port {
        /// The text.
        url: String,
        /// What stands where the port should.
        port: String,
    },
    /// Nothing before the port.
    #[error("'{0}' names no host; use '0' for all interfaces")]
    Host(String),
}

impl FromStr for CellUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let form = || UrlError::Form(text.into());
        let (scheme, rest) = text.split_once("://").ok_or_else(form)?;
        let scheme = scheme.parse()?;
        let rest = rest.split('#').next().unwrap_or_default();
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (host, port) = split_authority(authority).ok_or_else(form)?;
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || matches!(c, '@' | '[' | ']')) {
            return Err(UrlError::Host(text.into()));
        }
        let port = match port {
            None => None,
            Some(port) => {
                let wrong = || UrlError::Port { url: text.into(), port: port.into() };
                // `u16::from_str` takes a sign.
                let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
                Some(if digits { port.parse().map_err(|_| wrong())? } else { return Err(wrong()) })
            }
        };
        let params = query.split('&').filter(|item| !item.is_empty());
        Ok(Self {
            scheme,
            host: if host == "0" { String::new() } else { host.into() },
            port,
            path: path.into(),
            params: params
                .map(|item| item.split_once('=').unwrap_or((item, "")))
                .map(|(k, v)| (k.into(), v.into()))
                .collect(),
        })
    }
}

/// Host and port text of `host`, `host:port`, `[v6]` or `[v6]:port`.
fn split_authority(authority: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest {
            "" => Some((host, None)),
            rest => Some((host, Some(rest.strip_prefix(':')?))),
        };
    }
    Some(match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    })
}

impl fmt::Display for CellUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme)?;
        match self.host.as_str() {
            "" => f.write_str("0")?,
            host if host.contains(':') => write!(f, "[{host}]")?,
            host => f.write_str(host)?,
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(&self.path)?;
        for (i, (k, v)) in self.params.iter().enumerate() {
            write!(f, "{}{k}={v}", if i == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

impl fmt::Debug for CellUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_print_as_they_were_written() {
        for text in
            ["tcp://127.0.0.1:0", "tcp://[::1]:8002", "tcp://0:8002", "http://h:1/f3?a=1&b=x", "mem://hub"]
        {
            assert_eq!(text.parse::<CellUrl>().unwrap().to_string(), text);
        }
        let url: CellUrl = "TCP://host:9?k=1&k=2".parse().unwrap();
        assert_eq!((url.scheme().as_str(), url.port(), url.param("k")), ("tcp", Some(9), Some("2")));
    }

    #[test]
    fn broken_urls_are_refused_with_the_value() {
        for text in [
            "",
            "tcp",
            "tcp:/h:1",
            "://h:1",
            "tcp://:1",
            "tcp://h:x",
            "tcp://h:70000",
            "tcp://h:+1",
            "tcp://a@h:1",
            "t p://h:1",
        ] {
            let error = text.parse::<CellUrl>().unwrap_err();
            assert!(error.to_string().contains(text.split("://").next().unwrap()), "{error}");
        }
    }
}
