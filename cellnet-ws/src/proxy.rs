//! Ways around: HTTP proxies that tunnel with CONNECT.

use std::{fmt, net::IpAddr};

use base64::{Engine, prelude::BASE64_STANDARD};
use cellnet_core::{CellUrl, UrlError, transport::TransportError};
use http::{Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::{ask::authority, head};

/// Which proxy leads to which host.
///
/// ```
/// # use cellnet_ws::{Proxy, Ws};
/// let ws = Ws::new().with_proxy(Proxy::from_env());
/// let ws = Ws::new().with_proxy(Proxy::new("http://user:secret@proxy.example:3128")?.except("localhost,.lan"));
/// # Ok::<(), cellnet_ws::ProxyError>(())
/// ```
///
/// Proxies are HTTP/1.1 ones that know CONNECT, for `ws` as for `wss`; with TLS they see nothing but who talks to whom.
#[derive(Debug, Clone, Default)]
pub struct Proxy {
    plain: Way,
    secure: Way,
    except: Vec<Exception>,
}

/// A text is no URL of a proxy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// Only proxies spoken to in HTTP are known, not `https://` or `socks5://`.
    #[error("a proxy of the kind '{0}' is not known; write http://HOST:PORT")]
    Scheme(String),
    /// Host and port cannot be read.
    #[error("the URL of the proxy cannot be used")]
    Url(#[from] UrlError),
    /// `0` and the like.
    #[error("the URL of the proxy names no host")]
    Host,
}

/// How to get to a listener.
#[derive(Debug, Clone, Default)]
enum Way {
    #[default]
    Direct,
    Through(Server),
    /// What was configured cannot be used: the variable and why.
    Unusable(&'static str, ProxyError),
}

/// One proxy. Never shows its password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The value of Proxy-Authorization.
    authorization: Option<String>,
}

/// Hosts that are reached directly.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Exception {
    All,
    /// A name and all below it, or an address; with a port if only that one is meant.
    Host(String, Option<u16>),
    Net(IpAddr, u8),
}

impl Proxy {
    /// The same proxy for everything: `http://[USER:PASSWORD@]HOST[:PORT]`. The default port is 80; other characters
    /// than letters and digits in user and password are written as `%XX`.
    pub fn new(url: &str) -> Result<Self, ProxyError> {
        let server = Server::parse(url)?;
        Ok(Self { plain: Way::Through(server.clone()), secure: Way::Through(server), except: Vec::new() })
    }

    /// What the environment says: `https_proxy` or `HTTPS_PROXY` for connections under TLS, `http_proxy` for others
    /// (not `HTTP_PROXY`, which a CGI script's client can set), else `all_proxy` or `ALL_PROXY`; `no_proxy` or
    /// `NO_PROXY` for [exceptions](Self::except). Of two spellings the small one wins, and an empty value is none.
    /// A value that cannot be used is an error when a connection needs it.
    pub fn from_env() -> Self {
        Self::from_vars(|name| std::env::var(name).ok())
    }

    fn from_vars(var: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &&'static str| {
            let value = var(name).filter(|value| !value.trim().is_empty());
            value.map(|value| match Server::parse(value.trim()) {
                Ok(server) => Way::Through(server),
                Err(error) => Way::Unusable(name, error),
            })
        };
        let first = |names: &[&'static str]| names.iter().find_map(set).unwrap_or_default();
        let except = var("no_proxy").or_else(|| var("NO_PROXY")).unwrap_or_default();
        let proxy = Self {
            plain: first(&["http_proxy", "all_proxy", "ALL_PROXY"]),
            secure: first(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
            except: Vec::new(),
        };
        proxy.except(&except)
    }

    /// Adds hosts that are reached directly: names with everything below them (a leading dot or `*.` makes no
    /// difference), addresses, networks such as `10.0.0.0/8`, each but the networks with `:PORT` if only that port is
    /// meant, or `*` for all; separated by commas or spaces.
    pub fn except(mut self, hosts: &str) -> Self {
        let items = hosts.split([',', ' ', '\t']).filter(|item| !item.is_empty());
        self.except.extend(items.map(Exception::parse));
        self
    }

    /// The proxy that leads to a host, if one does.
    pub(crate) fn way(
        &self,
        url: &CellUrl,
        port: u16,
        secure: bool,
    ) -> Result<Option<&Server>, TransportError> {
        if self.except.iter().any(|exception| exception.covers(url.host(), port)) {
            return Ok(None);
        }
        match if secure { &self.secure } else { &self.plain } {
            Way::Direct => Ok(None),
            Way::Through(server) => Ok(Some(server)),
            Way::Unusable(name, error) => {
                let why = format!("{name} is of no use: {}", chain(error));
                Err(TransportError::Url { url: url.to_string(), why })
            }
        }
    }
}

/// An error with its cause.
fn chain(error: &ProxyError) -> String {
    match error {
        ProxyError::Url(cause) => format!("{error}: {cause}"),
        _ => error.to_string(),
    }
}

impl Server {
    fn parse(text: &str) -> Result<Self, ProxyError> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(ProxyError::Scheme(scheme.into()));
        }
        // What is secret comes off first, so that no error shows it.
        let (user, rest) = rest.rsplit_once('@').map_or((None, rest), |(user, rest)| (Some(user), rest));
        let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let url: CellUrl = format!("http://{rest}").parse()?;
        if url.host().is_empty() {
            return Err(ProxyError::Host);
        }
        let authorization = user.map(|user| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            let both = [decoded(name), decoded(password)].join(&b':');
            format!("Basic {}", BASE64_STANDARD.encode(both))
        });
        Ok(Self { host: url.host().into(), port: url.port().unwrap_or(80), authorization })
    }

    /// Asks for a tunnel. A dropped future leaves nothing.
    pub(crate) async fn tunnel<S>(&self, io: &mut S, host: &str, port: u16) -> Result<(), TransportError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let target = authority(host, Some(port));
        let refused = |why: String| TransportError::Refused { peer: format!("proxy {self}"), why };
        let authorization = match &self.authorization {
            Some(value) => format!("Proxy-Authorization: {value}\r\n"),
            None => String::new(),
        };
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n");
        let asked = async {
            io.write_all(request.as_bytes()).await?;
            io.flush().await
        };
        asked.await.map_err(|error| TransportError::io(format!("ask proxy {self} for {target}"), error))?;
        let answer = head::read::<Response<()>>(io).await;
        let (response, early) = answer.map_err(|error| refused(error.to_string()))?;
        match response.status() {
            status if status.is_success() && early.is_empty() => Ok(()),
            status if status.is_success() => Err(refused(format!("it spoke in the place of {target}"))),
            StatusCode::PROXY_AUTHENTICATION_REQUIRED if self.authorization.is_none() => {
                Err(refused(format!(
                    "it wants a user and a password to connect to {target}; write http://USER:PASSWORD@{self}"
                )))
            }
            status => Err(refused(format!("it answered '{status}' when asked for {target}"))),
        }
    }
}

/// Bytes of a text in which `%XX` stands for any byte.
fn decoded(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.filter(|_| first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    bytes
}

impl Exception {
    fn parse(text: &str) -> Self {
        if text == "*" {
            return Self::All;
        }
        let net = text.split_once('/').and_then(|(net, bits)| Some((net.parse().ok()?, bits.parse().ok()?)));
        if let Some((net, bits)) = net {
            return Self::Net(net, bits);
        }
        let bare = text.trim_start_matches('*').trim_start_matches('.');
        if bare.parse::<IpAddr>().is_ok() {
            return Self::Host(bare.into(), None);
        }
        let (host, port) = match bare.rsplit_once(':').map(|(host, port)| (host, port.parse())) {
            Some((host, Ok(port))) => (host, Some(port)),
            _ => (bare, None),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Self::Host(host.to_ascii_lowercase(), port)
    }

    fn covers(&self, host: &str, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Host(_, Some(only)) if *only != port => false,
            Self::Host(name, _) => {
                let host = host.to_ascii_lowercase();
                let host = host.trim_end_matches('.');
                let below = host.strip_suffix(name.as_str());
                let same = || host.parse::<IpAddr>().is_ok_and(|ip| name.parse() == Ok(ip));
                below.is_some_and(|below| below.is_empty() || below.ends_with('.')) || same()
            }
            Self::Net(net, bits) => host.parse().is_ok_and(|ip| within(ip, *net, *bits)),
        }
    }
}

fn within(ip: IpAddr, net: IpAddr, bits: u8) -> bool {
    let same = |ip: u128, net: u128, width: u32| {
        let rest = width.saturating_sub(bits.into());
        rest >= width || ip >> rest == net >> rest
    };
    match (ip, net) {
        (IpAddr::V4(ip), IpAddr::V4(net)) => same(ip.to_bits().into(), net.to_bits().into(), 32),
        (IpAddr::V6(ip), IpAddr::V6(net)) => same(ip.to_bits(), net.to_bits(), 128),
        _ => false,
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&authority(&self.host, Some(self.port)))
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(proxy: &Proxy, url: &str, secure: bool) -> Option<String> {
        let url: CellUrl = url.parse().unwrap();
        let port = url.port().unwrap_or(80);
        proxy.way(&url, port, secure).unwrap().map(ToString::to_string)
    }

    #[test]
    fn the_environment_is_read_by_convention() {
        let of = |vars: &'static [(&str, &str)]| {
            Proxy::from_vars(|name| {
                vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into())
            })
        };
        let proxy =
            of(&[("HTTPS_PROXY", "http://a:1"), ("HTTP_PROXY", "http://b:2"), ("NO_PROXY", "x,.lan")]);
        assert_eq!(way(&proxy, "wss://h", true).as_deref(), Some("a:1"));
        assert_eq!(way(&proxy, "ws://h", false), None, "HTTP_PROXY is not trusted");
        assert_eq!(way(&proxy, "wss://b.lan", true), None);
        let proxy = of(&[("https_proxy", "small:1"), ("HTTPS_PROXY", "http://big:1"), ("ALL_PROXY", "all")]);
        assert_eq!(way(&proxy, "wss://h", true).as_deref(), Some("small:1"));
        assert_eq!(way(&proxy, "ws://h", false).as_deref(), Some("all:80"));
        let proxy = of(&[("https_proxy", "socks5://h:1")]);
        let error = proxy.way(&"wss://h".parse().unwrap(), 443, true).unwrap_err().to_string();
        assert!(error.contains("https_proxy") && error.contains("socks5"), "{error}");
    }

    #[test]
    fn exceptions_are_names_addresses_networks_and_all() {
        for (list, host, port, expected) in [
            ("example.com", "example.com", 80, true),
            ("example.com", "a.EXAMPLE.com", 80, true),
            (".example.com", "a.example.com", 80, true),
            ("*.example.com", "a.example.com", 80, true),
            ("example.com", "badexample.com", 80, false),
            ("example.com:81", "example.com", 80, false),
            ("example.com:80", "example.com", 80, true),
            ("10.0.0.0/8 a", "10.9.9.9", 80, true),
            ("10.0.0.0/8", "11.0.0.1", 80, false),
            ("0.0.0.0/0", "11.0.0.1", 80, true),
            ("fd00::/8", "fd12::1", 80, true),
            ("::1", "::1", 80, true),
            ("[::1]:80", "::1", 80, true),
            ("127.0.0.1", "127.0.0.1", 80, true),
            ("a, *", "whatever", 80, true),
            ("", "whatever", 80, false),
        ] {
            let covered = Proxy::default().except(list).except.iter().any(|one| one.covers(host, port));
            assert_eq!(covered, expected, "{host}:{port} in '{list}'");
        }
    }

    #[test]
    fn a_password_is_sent_and_never_shown() {
        let proxy = Proxy::new("http://me:p%40ss@h:3128").unwrap();
        let Way::Through(server) = &proxy.plain else { panic!("{proxy:?}") };
        let expected = format!("Basic {}", BASE64_STANDARD.encode("me:p@ss"));
        assert_eq!(server.authorization.as_deref(), Some(expected.as_str()));
        let shown = format!("{proxy:?} {server}");
        assert!(
            !shown.contains("p@ss") && !shown.contains("p%40ss") && !shown.contains(&expected),
            "{shown}"
        );
    }
}
