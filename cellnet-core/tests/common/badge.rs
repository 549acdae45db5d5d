//! A wire on `mem://` on which a [`Badge`] stands for TLS: it says which common name each host has shown. Its near end may
//! lie about what the messages of a cell say.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::BytesMut;
use cellnet_core::{
    CellUrl, Scheme,
    cell::{Cell, CellBuilder},
    testkit::sim::{Sim, Tree, fqcn},
    tls::TlsMode,
    transport::{
        Accepting, Batch, Bind, Connection, Frame, FrameSender, Lane, Listener, Target, Transport,
        TransportError, mem::MemHost,
    },
    wire::{FrameKind, Headers, PREFIX_LEN, Prefix, keys::cn},
};
/// Common names by hosts.
pub(crate) type Names = Arc<BTreeMap<&'static str, &'static str>>;

pub(crate) type Change = Arc<dyn Fn(&mut Headers) + Send + Sync>;

/// What cells, by their names, change in messages with a topic before they send them.
pub(crate) type Lies = Arc<Mutex<BTreeMap<(String, String), Change>>>;

/// A wire whose ends have shown certificates, and whose near end may lie.
#[derive(Debug)]
pub(crate) struct Badge {
    host: MemHost,
    ends: Ends,
}

#[derive(Clone)]
pub(crate) struct Ends {
    name: String,
    pub(crate) mode: TlsMode,
    pub(crate) names: Names,
    pub(crate) lies: Lies,
}

#[derive(Debug)]
pub(crate) struct BadgeListener {
    listener: Box<dyn Listener>,
    ends: Ends,
}

#[derive(Debug)]
pub(crate) struct Liar {
    sender: Box<dyn FrameSender>,
    ends: Ends,
}

#[async_trait]
impl Transport for Badge {
    fn schemes(&self) -> &[Scheme] {
        self.host.schemes()
    }

    async fn connect(&self, target: &Target) -> Result<Connection, TransportError> {
        let connection = self.host.connect(target).await?;
        Ok(self.ends.put_on(connection))
    }

    async fn listen(&self, bind: &Bind) -> Result<Box<dyn Listener>, TransportError> {
        Ok(Box::new(BadgeListener { listener: self.host.listen(bind).await?, ends: self.ends.clone() }))
    }
}

#[async_trait]
impl Listener for BadgeListener {
    fn local_url(&self) -> &CellUrl {
        self.listener.local_url()
    }

    async fn accept(&mut self) -> Result<Accepting, TransportError> {
        let (accepting, ends) = (self.listener.accept().await?, self.ends.clone());
        Ok(Box::pin(async move { Ok(ends.put_on(accepting.await?)) }))
    }
}

#[async_trait]
impl FrameSender for Liar {
    fn feed(&mut self, batch: &mut Batch) {
        for frame in &mut *batch {
            if let Some(changed) = self.ends.change(frame) {
                *frame = changed;
            }
        }
        self.sender.feed(batch);
    }

    async fn flush(&mut self) -> Result<(), TransportError> {
        self.sender.flush().await
    }

    async fn close(&mut self) -> Result<(), TransportError> {
        self.sender.close().await
    }
}

impl Ends {
    fn put_on(&self, mut connection: Connection) -> Connection {
        let info = &mut connection.info;
        info.tls = self.mode;
        info.peer_cn = self.names.get(&*info.remote.replace("mem://", "")).map(|&name| name.to_owned());
        let Lane { tx, rx } = connection.control;
        let tx = Box::new(Liar { sender: tx, ends: self.clone() });
        connection.control = Lane { tx, rx };
        connection
    }

    /// A frame with a lie, if there is one for it.
    fn change(&self, frame: &Frame) -> Option<Frame> {
        let prefix = frame.prefix().ok().filter(|prefix| prefix.frame_kind() == Some(FrameKind::Data))?;
        let mut headers = Headers::decode(&frame.head().slice(PREFIX_LEN..)).ok()?;
        let topic = headers.text(cn::TOPIC)?.to_string();
        self.lies.lock().unwrap().get(&(self.name.clone(), topic))?(&mut headers);
        let mut block = BytesMut::new();
        headers.encode(&mut block).unwrap();
        let length = (PREFIX_LEN + block.len() + frame.body().len()) as u32;
        let mut head = BytesMut::new();
        Prefix { length, header_len: block.len() as u16, ..prefix }.encode(&mut head);
        head.extend_from_slice(&block);
        Some(Frame::new(head.freeze(), frame.body().clone()))
    }
}

impl fmt::Debug for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ends").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A network in which hosts have shown these common names.
pub(crate) struct Net {
    pub(crate) sim: Sim,
    pub(crate) mode: TlsMode,
    pub(crate) names: Names,
    pub(crate) lies: Lies,
}

impl Net {
    pub(crate) fn new(mode: TlsMode, names: &[(&'static str, &'static str)]) -> Self {
        Self {
            sim: Sim::new(),
            mode,
            names: Arc::new(names.iter().copied().collect()),
            lies: Lies::default(),
        }
    }

    /// A cell on a host.
    pub(crate) fn builder(&self, name: &str, host: &str) -> CellBuilder {
        let ends =
            Ends { name: name.into(), mode: self.mode, names: self.names.clone(), lies: self.lies.clone() };
        let badge = Badge { host: self.sim.net.host(host), ends };
        Cell::builder(fqcn(name)).transport(badge).resolver(Tree).config(self.sim.config.clone())
    }
}

pub(crate) fn url(host: &str) -> CellUrl {
    format!("mem://{host}").parse().unwrap()
}
