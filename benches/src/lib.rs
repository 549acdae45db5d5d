//! What the benches share: two cells and a question; and one way for frames, by a driver or by a bare library.

pub mod apart;
pub mod bare;
pub mod contest;
pub mod driver;
pub mod way;

use bytes::Bytes;
use cellnet_core::{
    CellUrl,
    cell::Cell,
    message::Message,
    testkit::sim::{Tree, echo, fqcn},
    transport::{Transport, mem::MemNet},
};
use cellnet_tcp::Tcp;

/// A channel whose messages travel in one piece.
pub const PLAIN: &str = "task";

/// A channel whose messages travel as blobs.
pub const STREAMED: &str = "echo";

/// A server that echoes, and a site with a link to it.
#[derive(Debug)]
pub struct Pair {
    /// Answers on [`PLAIN`] and [`STREAMED`].
    pub server: Cell,
    /// Asks.
    pub site: Cell,
}

impl Pair {
    /// Two cells over the memory of this process.
    pub async fn over_mem() -> Self {
        let net = MemNet::new();
        Self::over(net.host("server"), net.host("site"), "mem://server".parse().expect("a valid URL")).await
    }

    /// Two cells over a TCP connection on the loopback interface.
    pub async fn over_tcp() -> Self {
        Self::over(Tcp::new(), Tcp::new(), "tcp://127.0.0.1:0".parse().expect("a valid URL")).await
    }

    async fn over(server: impl Transport, site: impl Transport, url: CellUrl) -> Self {
        let server = Cell::builder(fqcn("server")).transport(server).resolver(Tree).listen(url).start().await;
        let server = server.expect("the address is free");
        for channel in [PLAIN, STREAMED] {
            server.handle(channel, "*", echo);
        }
        let url = server.listening()[0].clone();
        let site = Cell::builder(fqcn("site")).transport(site).resolver(Tree).dial(url).start().await;
        let site = site.expect("the driver is known");
        site.connected().await;
        Self { server, site }
    }

    /// Asks the server to echo, and waits for it.
    pub async fn ask(&self, channel: &'static str, payload: Bytes) {
        let reply = self.site.request(self.server.name(), channel, "t", Message::new(payload)).await;
        assert!(reply.expect("the server answers").is_ok());
    }
}
