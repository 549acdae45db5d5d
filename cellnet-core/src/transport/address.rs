//! Hosts and ports of URLs, for drivers on IP.

use std::{io, net::SocketAddr};

use tokio::net::lookup_host;

use super::TransportError;
use crate::url::CellUrl;

/// Host and port of a URL, or what is wrong with it. The host is empty for all interfaces.
pub fn endpoint(url: &CellUrl, default_port: Option<u16>) -> Result<(&str, u16), TransportError> {
    let port = url.port().or(default_port);
    let scheme = url.scheme();
    let port = port.ok_or_else(|| unusable(url, &format!("it names no port; write {scheme}://HOST:PORT")))?;
    Ok((url.host(), port))
}

/// [`endpoint`] of a URL that is dialled: it cannot be all interfaces.
pub fn remote_endpoint(url: &CellUrl, default_port: Option<u16>) -> Result<(&str, u16), TransportError> {
    let (host, port) = endpoint(url, default_port)?;
    if host.is_empty() {
        return Err(unusable(url, "'0' stands for all interfaces and can only be listened on"));
    }
    Ok((host, port))
}

/// Every address of a host, in the system's order; there is at least one. A dropped future leaves nothing behind.
pub async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, TransportError> {
    let found = async { lookup_host((host, port)).await.map(Iterator::collect::<Vec<_>>) }.await;
    match found {
        Ok(addresses) if !addresses.is_empty() => Ok(addresses),
        Ok(_) => Err(TransportError::io(format!("look up '{host}'"), io::ErrorKind::NotFound.into())),
        Err(error) => Err(TransportError::io(format!("look up '{host}'"), error)),
    }
}

/// An address, and the name it was found by if that says more.
pub fn named(host: &str, address: SocketAddr) -> String {
    if host.parse() == Ok(address.ip()) { address.to_string() } else { format!("{host} at {address}") }
}

/// IPv4 peers of a listener for both families look like IPv4.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Says that a URL cannot be used, and why.
pub fn unusable(url: &CellUrl, why: &str) -> TransportError {
    TransportError::Url { url: url.to_string(), why: why.into() }
}
