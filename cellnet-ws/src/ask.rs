//! The side of an upgrade that dials.

use cellnet_core::{CellUrl, transport::TransportError};
use http::{
    HeaderMap, Response, StatusCode,
    header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL, UPGRADE},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};

use crate::head::{self, HeadError};

/// Asks for WebSocket at the path of a URL. Gives what the peer said after it agreed. A dropped future leaves nothing.
pub(crate) async fn upgrade<S>(
    io: &mut S,
    url: &CellUrl,
    default_port: u16,
    path: &str,
) -> Result<Vec<u8>, TransportError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let refused = |why: String| TransportError::Refused { peer: url.to_string(), why };
    let key = generate_key();
    let host = authority(url.host(), url.port().filter(|&port| port != default_port));
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nUser-Agent: cellnet/{}\r\n\r\n",
        env!("CARGO_PKG_VERSION"),
    );
    let asked = async {
        io.write_all(request.as_bytes()).await?;
        io.flush().await
    };
    asked.await.map_err(|error| TransportError::io(format!("ask {url} for WebSocket"), error))?;
    let (response, early) = head::read::<Response<()>>(io).await.map_err(|error| match error {
        // Under TLS 1.3 a certificate that is refused is heard of here.
        HeadError::Io(source) => TransportError::io(format!("ask {url} for WebSocket"), source),
        error => refused(error.to_string()),
    })?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let said = said(early, io).await;
        return Err(refused(format!("it answered {}{said}", response.status())));
    }
    match fault(response.headers(), &key) {
        Some(fault) => Err(refused(format!("its answer to the upgrade {fault}"))),
        None => Ok(early),
    }
}

/// What is wrong with an answer that agrees.
fn fault(headers: &HeaderMap, key: &str) -> Option<&'static str> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !text(UPGRADE).eq_ignore_ascii_case("websocket") {
        return Some("names another protocol");
    }
    if !text(CONNECTION).split(',').any(|token| token.trim().eq_ignore_ascii_case("upgrade")) {
        return Some("does not upgrade the connection");
    }
    if text(SEC_WEBSOCKET_ACCEPT) != derive_accept_key(key.as_bytes()) {
        return Some("does not fit the key of the request");
    }
    if headers.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
        return Some("has an extension that was not offered");
    }
    headers.contains_key(SEC_WEBSOCKET_PROTOCOL).then_some("has a subprotocol that was not offered")
}

/// The beginning of the page that came instead, if it came at once.
async fn said(mut page: Vec<u8>, io: &mut (impl AsyncRead + Unpin)) -> String {
    if page.is_empty() {
        let _ = tokio::time::timeout(A_MOMENT, io.take(MAX_SAID as u64).read_buf(&mut page)).await;
    }
    let text = String::from_utf8_lossy(&page);
    let line: String = text.lines().next().unwrap_or_default().chars().take(MAX_SAID).collect();
    let line: String = line.chars().filter(|c| !c.is_control()).collect();
    if line.is_empty() { line } else { format!(": {line}") }
}

const MAX_SAID: usize = 200;
const A_MOMENT: std::time::Duration = std::time::Duration::from_millis(200);

/// Host and port as HTTP writes them.
pub(crate) fn authority(host: &str, port: Option<u16>) -> String {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    match port {
        Some(port) => format!("{host}:{port}"),
        None => host,
    }
}
