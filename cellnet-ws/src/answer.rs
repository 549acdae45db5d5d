//! The side of an upgrade that listens.

use std::time::Duration;

use cellnet_core::transport::TransportError;
use http::{
    HeaderMap, Method, Request, StatusCode, Version,
    header::{HOST, HeaderName, ORIGIN, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE},
    uri::Authority,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};
use tokio_tungstenite::tungstenite::handshake::server::{create_response, write_response};

use crate::head::{self, HeadError};

/// Who is let in.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    /// Where cells meet.
    pub(crate) path: String,
    /// The host that the listening URL names, if it names one.
    pub(crate) host: String,
    /// Foreign pages whose scripts may connect.
    pub(crate) origins: Vec<String>,
}

/// A request that is answered with a page.
#[derive(Debug, PartialEq, Eq)]
struct Page {
    status: StatusCode,
    header: Option<(HeaderName, &'static str)>,
    text: String,
}

impl Door {
    /// Answers the request of a peer. Gives what came after it if the peer is let in. A dropped future leaves nothing.
    pub(crate) async fn open<S>(&self, io: &mut S, peer: &str) -> Result<Vec<u8>, TransportError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let refused = |why: String| TransportError::Refused { peer: peer.into(), why };
        let (request, early) = match head::read::<Request<()>>(io).await {
            Ok(read) => read,
            Err(error) => {
                if let Some(page) = excuse(&error) {
                    turn_away(io, &page, true).await;
                }
                return Err(refused(error.to_string()));
            }
        };
        match self.judge(&request) {
            Ok(answer) => {
                let written = async {
                    io.write_all(&answer).await?;
                    io.flush().await
                };
                written.await.map_err(|error| TransportError::io(format!("answer {peer}"), error))?;
                Ok(early)
            }
            Err(page) => {
                turn_away(io, &page, request.method() != Method::HEAD).await;
                if page.status == StatusCode::OK {
                    return Err(TransportError::Closed);
                }
                let (method, path, status) = (request.method(), request.uri().path(), page.status);
                let path: String = path.chars().take(100).collect();
                Err(refused(format!("{method} {path} was answered with {status}: {}", page.text.trim_end())))
            }
        }
    }

    /// The answer that upgrades, or the page that says why not.
    fn judge(&self, request: &Request<()>) -> Result<Vec<u8>, Page> {
        let headers = request.headers();
        let path = request.uri().path();
        let looks = matches!(*request.method(), Method::GET | Method::HEAD);
        let host = host(headers);
        if host.is_none() && (request.version() >= Version::HTTP_11 || headers.contains_key(HOST)) {
            return Err(Page::new(StatusCode::BAD_REQUEST, "The header Host is missing or malformed."));
        }
        if path != self.path {
            return Err(match path {
                "/" | "/healthz" if looks => Page::new(StatusCode::OK, &self.about()),
                "/" | "/healthz" => Page::with(
                    StatusCode::METHOD_NOT_ALLOWED,
                    (http::header::ALLOW, "GET, HEAD"),
                    "Only GET is answered here.",
                ),
                _ => Page::new(StatusCode::NOT_FOUND, &format!("Nothing is here. {}", self.about())),
            });
        }
        if !self.admits(headers, host.as_ref()) {
            return Err(Page::new(
                StatusCode::FORBIDDEN,
                "Scripts of this origin may not connect; the listener can allow it.",
            ));
        }
        if !headers.contains_key(UPGRADE) {
            let text = format!("This is no page. {}", self.about());
            return Err(Page::with(StatusCode::UPGRADE_REQUIRED, (UPGRADE, "websocket"), &text));
        }
        if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            return Err(Page::with(
                StatusCode::UPGRADE_REQUIRED,
                (SEC_WEBSOCKET_VERSION, "13"),
                "Only version 13 of WebSocket is spoken here.",
            ));
        }
        let unusable = || Page::new(StatusCode::BAD_REQUEST, "This is no upgrade to WebSocket.");
        // 16 bytes in base64.
        let key = headers.get(SEC_WEBSOCKET_KEY).filter(|key| key.len() == 24);
        let single = headers.get_all(SEC_WEBSOCKET_KEY).iter().count() == 1;
        if key.is_none() || !single || host.is_none() {
            return Err(unusable());
        }
        let response = create_response(request).map_err(|_| unusable())?;
        let mut answer = Vec::new();
        write_response(&mut answer, &response).map_err(|_| unusable())?;
        Ok(answer)
    }

    /// Whether no page asks, or one that may.
    ///
    /// A page that came from here is not foreign, if that is certain: a name that a stranger's DNS points here is not.
    fn admits(&self, headers: &HeaderMap, host: Option<&Authority>) -> bool {
        let mut asking = headers.get_all(ORIGIN).iter();
        let Some(origin) = asking.next() else { return true };
        let Ok(origin) = origin.to_str() else { return false };
        if asking.next().is_some() {
            return false;
        }
        if self.origins.iter().any(|allowed| allowed.trim_end_matches('/').eq_ignore_ascii_case(origin)) {
            return true;
        }
        let (Some(host), Some((scheme, authority))) = (host, origin.split_once("://")) else { return false };
        let Ok(authority) = authority.parse::<Authority>() else { return false };
        let default = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return false,
        };
        let port = |authority: &Authority| authority.port_u16().unwrap_or(default);
        let name = host.host();
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        let certain = bare.parse::<std::net::IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || name.eq_ignore_ascii_case(&self.host);
        certain && authority.host().eq_ignore_ascii_case(name) && port(&authority) == port(host)
    }

    fn about(&self) -> String {
        format!("A cell of cellnet listens here. It speaks CellNet over WebSocket at the path {}.", self.path)
    }
}

/// The one host that a request names.
fn host(headers: &HeaderMap) -> Option<Authority> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next()?.to_str().ok()?;
    let well_formed = !host.contains('@') && hosts.next().is_none();
    host.parse().ok().filter(|host: &Authority| well_formed && !host.host().is_empty())
}

/// What to tell a peer without a request, if it listens.
fn excuse(error: &HeadError) -> Option<Page> {
    let status = match error {
        HeadError::TooLong => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        HeadError::Malformed(_) => StatusCode::BAD_REQUEST,
        HeadError::Io(_) | HeadError::Ended => return None,
    };
    Some(Page::new(status, "The request cannot be read."))
}

/// Sends a page and waits a moment for the peer to go: closing at once could take the page back.
async fn turn_away(io: &mut (impl AsyncRead + AsyncWrite + Unpin), page: &Page, body: bool) {
    let bytes = page.encode(body);
    let told = async {
        io.write_all(&bytes).await?;
        io.shutdown().await?;
        let mut unread = [0; 1024];
        for _ in 0..MAX_UNREAD {
            if io.read(&mut unread).await? == 0 {
                break;
            }
        }
        std::io::Result::Ok(())
    };
    let _ = timeout(FAREWELL, told).await;
}

/// How long a refused peer may take to read why.
const FAREWELL: Duration = Duration::from_secs(1);

/// Reads of what it still says.
const MAX_UNREAD: usize = 64;

impl Page {
    fn new(status: StatusCode, text: &str) -> Self {
        Self { status, header: None, text: format!("{text}\n") }
    }

    fn with(status: StatusCode, header: (HeaderName, &'static str), text: &str) -> Self {
        Self { header: Some(header), ..Self::new(status, text) }
    }

    fn encode(&self, body: bool) -> Vec<u8> {
        let mut text =
            format!("HTTP/1.1 {}\r\nConnection: close\r\nCache-Control: no-store\r\n", self.status);
        if let Some((name, value)) = &self.header {
            text += &format!("{name}: {value}\r\n");
        }
        let len = self.text.len();
        text += &format!("Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len}\r\n\r\n");
        if body {
            text += &self.text;
        }
        text.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(request: &str) -> u16 {
        let door =
            Door { path: "/f3".into(), host: "h.example".into(), origins: vec!["https://a.example".into()] };
        let request = request.replace('\n', "\r\n") + "\r\n\r\n";
        let (request, _) = head::Parse::parse(request.as_bytes()).unwrap().unwrap();
        match door.judge(&request) {
            Ok(_) => 101,
            Err(page) => page.status.as_u16(),
        }
    }

    #[test]
    fn every_request_gets_the_answer_it_deserves() {
        let host = "HTTP/1.1\nHost: 127.0.0.1:8002";
        let upgrade = "Upgrade: websocket\nConnection: keep-alive, Upgrade\nSec-WebSocket-Version: 13\n\
                       Sec-WebSocket-Key: sH4VrDfurCapHIFadd+/+Q==";
        for (request, expected) in [
            (format!("GET /f3 {host}\n{upgrade}"), 101),
            (format!("GET /f3?x=1 {host}\n{upgrade}"), 101),
            (format!("GET http://127.0.0.1/f3 {host}\n{upgrade}"), 101),
            (format!("GET /f3 {host}\n{upgrade}\nSec-WebSocket-Extensions: permessage-deflate"), 101),
            (format!("GET /f3 {host}\n{upgrade}\nOrigin: https://a.example"), 101),
            (format!("GET /f3 {host}\n{upgrade}\nOrigin: http://127.0.0.1:8002"), 101),
            (format!("GET /f3 {host}\n{upgrade}\nOrigin: http://127.0.0.1"), 403),
            (format!("GET /f3 {host}\n{upgrade}\nOrigin: null"), 403),
            (format!("GET /f3 {host}\n{upgrade}\nOrigin: https://a.example\nOrigin: https://b"), 403),
            (format!("GET /f3 {host}\n{upgrade}\nOrigin: https://evil.example"), 403),
            (format!("GET /f3 HTTP/1.1\nHost: h.example\n{upgrade}\nOrigin: http://h.example"), 101),
            (
                format!("GET /f3 HTTP/1.1\nHost: rebound.example\n{upgrade}\nOrigin: http://rebound.example"),
                403,
            ),
            (format!("GET /f3 HTTP/1.1\n{upgrade}"), 400),
            (format!("GET /f3 {host}\nHost: b\n{upgrade}"), 400),
            (format!("GET /f3 HTTP/1.1\nHost: user@h\n{upgrade}"), 400),
            (format!("GET /f3 HTTP/1.1\nHost: a b\n{upgrade}"), 400),
            (format!("GET /f3 HTTP/1.0\nHost: h\n{upgrade}"), 400),
            (format!("POST /f3 {host}\n{upgrade}"), 400),
            (format!("GET /f3 {host}\n{}", upgrade.replace("Q==", "Q")), 400),
            (format!("GET /f3 {host}\n{}", upgrade.replace("13", "8")), 426),
            (format!("GET /f3 {host}"), 426),
            (format!("GET / {host}"), 200),
            (format!("GET /healthz {host}"), 200),
            (format!("HEAD /healthz {host}"), 200),
            ("GET /healthz HTTP/1.0".into(), 200),
            (format!("POST / {host}"), 405),
            (format!("GET /other {host}\n{upgrade}"), 404),
        ] {
            assert_eq!(answered(&request), expected, "{request}");
        }
    }
}
