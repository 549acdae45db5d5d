//! A messaging fabric for machines that only dial out: cells, relays and pipes.
//!
//! A *cell* is one process with a name; cells form a tree under the cell `server`, and any cell can ask any other, hop by
//! hop. A *pipe* links two processes of one site across that tree. The wire protocol is that of NVIDIA FLARE 2.8, so
//! every cell of a network may be a Rust or a Python process.
//!
//! This crate puts the parts together: [`builder`] describes a cell that routes as the reference does and speaks every
//! transport that is compiled in.
//!
//! ```
//! use cellnet::{Cell, HandlerError, Message, Request};
//!
//! # #[cfg(feature = "tcp")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server: Cell = cellnet::builder("server".parse()?).listen("tcp://127.0.0.1:0".parse()?).start().await?;
//! server.handle("task", "*", |request: Request| async move {
//!     Ok::<_, HandlerError>(Message::new(request.message.payload.to_bytes()))
//! });
//!
//! let site = cellnet::builder("site-1".parse()?).dial(server.listening()[0].clone()).start().await?;
//! site.connected().await;
//! let reply = site.request(server.name(), "task", "greet", Message::new("hello")).await?;
//! assert_eq!(reply.payload.as_bytes(), b"hello");
//!
//! site.shutdown(cellnet::SHUTDOWN).await;
//! server.shutdown(cellnet::SHUTDOWN).await;
//! # Ok(()) }
//! # #[cfg(not(feature = "tcp"))]
//! # fn main() {}
//! ```
//!
//! Features, all on by default but the last: `tcp`, `quic` and `ws` are the transports; `tls` is TLS by rustls with ring,
//! for `stcp://`, `wss://`, `https://` and `quic://` (which brings it along); `flare` lets a program be a trainer of a FLARE
//! job; `cli` is the program `cellnet`; `tls-aws-lc-rs` is TLS with aws-lc-rs, which is used where `tls` is not there as
//! well.

#[cfg(feature = "flare")]
pub mod flare;
mod missing;

pub use cellnet_core::{
    CellUrl, Fqcn, FqcnError, Scheme, UrlError, cell,
    cell::{
        ANY, Answer, Ask, Cell, CellBuilder, CellConfig, CellEvent, Events, Filter, HandlerError, Passing,
        Request, RequestError, RequestId, SHUTDOWN, Stage, StartError,
    },
    fobs, identity, link,
    message::{Message, MessageKind, Payload, ReturnCode},
    route, stats, stream, tls, transfer, transport, wire,
};
pub use cellnet_pipe as pipe;
#[cfg(feature = "quic")]
pub use cellnet_quic::Quic;
#[cfg(feature = "tcp")]
pub use cellnet_tcp::Tcp;
#[cfg(feature = "ws")]
pub use cellnet_ws::{Proxy, ProxyError, Ws};

/// Begins to describe a cell that routes by families, parents and the server, as the reference does, and speaks the
/// transports that are compiled in.
///
/// A URL whose transport is not compiled in fails with a text that names the feature. A driver of one's own for such a
/// scheme starts from [`Cell::builder`] instead, which presets nothing.
pub fn builder(name: Fqcn) -> CellBuilder {
    drivers(Cell::builder(name).resolver(pipe::TreePolicy))
}

/// Adds the transports that are compiled in, for cells that others describe, such as those of pipes.
///
/// ```
/// # use cellnet::pipe::{CellPipe, Mode};
/// let place = "relay-1@tcp://127.0.0.1:8003".parse()?;
/// let pipe = CellPipe::builder(Mode::Active, "site-1", "job-7", place).cell(cellnet::drivers).build()?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn drivers(builder: CellBuilder) -> CellBuilder {
    Drivers::default().add_to(builder)
}

/// The transports that are compiled in, each as its crate presets it, to be changed before a cell gets them.
///
/// ```
/// # #[cfg(feature = "ws")] {
/// # use cellnet::{Cell, Drivers, pipe::TreePolicy};
/// let mut drivers = Drivers::default();
/// drivers.ws = drivers.ws.with_allowed_origins(["https://app.example"]);
/// let cell = drivers.add_to(Cell::builder("site-1".parse()?).resolver(TreePolicy));
/// # }
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Drivers {
    /// `tcp` and `stcp`.
    #[cfg(feature = "tcp")]
    pub tcp: Tcp,
    /// `quic`.
    #[cfg(feature = "quic")]
    pub quic: Quic,
    /// `ws`, `wss`, `http` and `https`.
    #[cfg(feature = "ws")]
    pub ws: Ws,
}

impl Drivers {
    /// Adds them to a cell; schemes without a transport are refused by a text that names the feature.
    pub fn add_to(self, builder: CellBuilder) -> CellBuilder {
        #[cfg(feature = "tcp")]
        let builder = builder.transport(self.tcp);
        #[cfg(feature = "quic")]
        let builder = builder.transport(self.quic);
        #[cfg(feature = "ws")]
        let builder = builder.transport(self.ws);
        missing::all().fold(builder, CellBuilder::transport)
    }
}

/// The schemes that [`drivers`] has a transport for.
pub fn schemes() -> impl Iterator<Item = &'static str> {
    missing::SCHEMES.iter().filter(|(_, _, there)| *there).map(|(scheme, ..)| *scheme)
}

/// The feature that brings the transport for a scheme, compiled in or not; `None` for schemes that cellnet does not know.
pub fn feature_for(scheme: &str) -> Option<&'static str> {
    missing::SCHEMES.iter().find(|(known, ..)| *known == scheme).map(|(_, feature, _)| *feature)
}
