//! What the benches share: two cells and a question; one way for frames, by a driver or by a bare library; and processes
//! that are measured.

pub mod apart;
pub mod bare;
pub mod built;
pub mod contest;
pub mod driver;
pub mod figure;
pub mod process;
pub mod spread;
pub mod way;

use bytes::Bytes;
use cellnet_core::{
    CellUrl,
    cell::{Cell, CellBuilder},
    message::Message,
    testkit::sim::{Tree, echo, fqcn},
    transport::{Transport, mem::MemNet},
};
use cellnet_tcp::Tcp;

/// A channel whose messages travel in one piece.
pub const PLAIN: &str = "task";

/// A channel whose messages travel as blobs.
pub const STREAMED: &str = "echo";

/// A server that echoes, and a site with a way to it.
#[derive(Debug)]
pub struct Pair {
    /// Answers on [`PLAIN`] and [`STREAMED`].
    pub server: Cell,
    /// Asks.
    pub site: Cell,
    _relay: Option<Cell>,
}

impl Pair {
    /// Two cells over the memory of this process.
    pub async fn over_mem() -> Self {
        let net = MemNet::new();
        Self::over(net.host("server"), net.host("site"), "mem://server".parse().expect("a valid URL")).await
    }

    /// Two cells over a TCP connection on the loopback interface.
    pub async fn over_tcp() -> Self {
        Self::over(Tcp::new(), Tcp::new(), loopback()).await
    }

    /// Two cells that both have such a connection to a third one.
    pub async fn through_relay() -> Self {
        let server = serve(Tcp::new(), loopback()).await;
        let relay = Cell::builder(fqcn("relay")).listen(loopback());
        let relay = dial(relay, Tcp::new(), &server).await;
        let site = dial(Cell::builder(fqcn("relay.site")), Tcp::new(), &relay).await;
        Self { server, site, _relay: Some(relay) }
    }

    async fn over(server: impl Transport, site: impl Transport, url: CellUrl) -> Self {
        let server = serve(server, url).await;
        let site = dial(Cell::builder(fqcn("site")), site, &server).await;
        Self { server, site, _relay: None }
    }

    /// Asks the server to echo, and waits for it.
    pub async fn ask(&self, channel: &'static str, payload: Bytes) {
        let reply = self.site.request(self.server.name(), channel, "t", Message::new(payload)).await;
        assert!(reply.expect("the server answers").is_ok());
    }
}

fn loopback() -> CellUrl {
    "tcp://127.0.0.1:0".parse().expect("a valid URL")
}

/// A server that echoes.
async fn serve(transport: impl Transport, url: CellUrl) -> Cell {
    let server = Cell::builder(fqcn("server")).transport(transport).resolver(Tree).listen(url).start().await;
    let server = server.expect("the address is free");
    for channel in [PLAIN, STREAMED] {
        server.handle(channel, "*", echo);
    }
    server
}

/// A cell with a link to another one.
async fn dial(cell: CellBuilder, transport: impl Transport, to: &Cell) -> Cell {
    let url = to.listening()[0].clone();
    let cell = cell.transport(transport).resolver(Tree).dial(url).start().await.expect("the address is free");
    cell.connected().await;
    cell
}
