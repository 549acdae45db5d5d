//! A QUIC client that does by hand what the driver does.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use cellnet_core::{
    CellUrl,
    tls::{Tls, TlsMode},
};
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, crypto::rustls::QuicClientConfig};
use tokio::io::AsyncWrite;

/// Connects with these credentials and protocols.
pub(crate) async fn connect(
    tls: &Tls,
    mode: TlsMode,
    protocols: &[&[u8]],
    url: &CellUrl,
) -> io::Result<Connection> {
    connecting(tls, mode, protocols, url)?.await.map_err(io::Error::from)
}

/// A connection that is being opened.
pub(crate) fn connecting(
    tls: &Tls,
    mode: TlsMode,
    protocols: &[&[u8]],
    url: &CellUrl,
) -> io::Result<quinn::Connecting> {
    let config = config(tls, mode, protocols);
    let address = address(url);
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let endpoint = Endpoint::client(any.parse().unwrap())?;
    endpoint.connect_with(config, address, url.host()).map_err(io::Error::other)
}

pub(crate) fn config(tls: &Tls, mode: TlsMode, protocols: &[&[u8]]) -> ClientConfig {
    let client = tls.client("127.0.0.1", mode, protocols).unwrap();
    ClientConfig::new(Arc::new(QuicClientConfig::try_from(client.config().clone()).unwrap()))
}

pub(crate) fn address(url: &CellUrl) -> SocketAddr {
    SocketAddr::new(url.host().parse().unwrap(), url.port().unwrap())
}

/// A UDP address that nobody else gets, and nobody reads.
pub(crate) fn nobody() -> SocketAddr {
    let unused = UdpSocket::bind("127.0.0.1:0").unwrap();
    let nobody = unused.local_addr().unwrap();
    std::mem::forget(unused);
    nobody
}

/// What carries the bytes of a control lane. Dropping it closes the connection, after what was written has arrived.
pub(crate) struct Control {
    pub(crate) tx: SendStream,
    pub(crate) rx: RecvStream,
    pub(crate) connection: Connection,
}

/// Opens a control lane and no bulk lanes.
pub(crate) async fn control(connection: Connection) -> io::Result<Control> {
    let (mut tx, mut rx) = connection.open_bi().await?;
    tx.write_all(&[0, 0]).await?;
    let mut agreed = [9];
    rx.read_exact(&mut agreed).await.map_err(io::Error::other)?;
    assert_eq!(agreed, [0]);
    Ok(Control { tx, rx, connection })
}

impl AsyncWrite for Control {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.tx), cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.tx), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(&mut self.tx), cx)
    }
}
