//! `mem://NAME`: connections inside one process, with faults on demand.
//!
//! A [`MemNet`] is a small network. It can be used for the cells of one process in production, and in tests its
//! wires can be slowed, parted, frozen and cut while they carry frames. All of it follows tokio's clock, paused or
//! not.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use cellnet_core::{stats::Budget, transport::{Bind, Target, Transport, mem::MemNet}};
//!
//! let net = MemNet::new();
//! let budget = Budget::new(16 << 20);
//! let mut listener = net.listen(&Bind::new("mem://server".parse()?, budget.clone())).await?;
//! let site = net.host("site-1").connect(&Target::new("mem://server".parse()?, budget)).await?;
//! let server = listener.accept().await?.await?;
//! assert_eq!((&*server.info.remote, &*site.info.remote), ("mem://site-1", "mem://server"));
//! net.partition("site-1", "server"); // bytes no longer arrive, and nobody gets an error
//! # Ok(())
//! # }
//! ```
//!
//! Faults and settings name the two hosts of a connection. The side that dialled has the name given to
//! [`MemNet::host`], or none if it used the net itself; the side that listens has the host of its URL.

mod pipe;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap},
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::{Notify, mpsc},
    time::{sleep, timeout},
};

use super::{
    Accepting, Bind, Connection, ConnectionInfo, Lane, Listener, Target, Transport, TransportError, framed,
};
use crate::{
    stats::Budget,
    url::{CellUrl, Scheme},
};
use pipe::{Conditions, Pipe, pipe};
pub use pipe::{MemReader, MemWriter};

/// A network in memory. Clones are the same network; as a [`Transport`] it dials without a name.
#[derive(Clone)]
pub struct MemNet {
    inner: Arc<Inner>,
    schemes: Arc<[Scheme]>,
    bulk_lanes: usize,
    legacy_max_frame: Option<usize>,
}

struct Inner {
    state: Mutex<State>,
    /// Some condition changed.
    changed: Notify,
}

struct State {
    listeners: HashMap<(String, Option<u16>), mpsc::Sender<Dialled>>,
    wires: Vec<Wire>,
    last_port: u16,
    /// Pairs in both orders.
    parted: BTreeSet<(String, String)>,
    frozen: BTreeSet<String>,
    /// From, to.
    latency: HashMap<(String, String), Duration>,
    capacity: HashMap<(String, String), usize>,
}

/// One direction of one lane, as long as one of its ends lives.
struct Wire {
    from: String,
    to: String,
    pipe: Weak<Pipe>,
}

/// What a listener gets of a new connection.
struct Dialled {
    from: String,
    lanes: Vec<(MemReader, MemWriter)>,
}

impl MemNet {
    /// A network without faults or latency, whose connections have one lane.
    pub fn new() -> Self {
        let state = State {
            listeners: HashMap::new(),
            wires: Vec::new(),
            last_port: 0,
            parted: BTreeSet::new(),
            frozen: BTreeSet::new(),
            latency: HashMap::new(),
            capacity: HashMap::new(),
        };
        Self {
            inner: Arc::new(Inner { state: Mutex::new(state), changed: Notify::new() }),
            schemes: ["mem".parse().expect("letters make a scheme")].into(),
            bulk_lanes: 0,
            legacy_max_frame: None,
        }
    }

    /// Connections dialled through this value have `lanes` bulk lanes; 0 by default, at most 16.
    pub fn with_bulk_lanes(mut self, lanes: usize) -> Self {
        self.bulk_lanes = lanes.min(16);
        self
    }

    /// Connections of this value say so in [`ConnectionInfo::legacy_max_frame`]; no limit by default.
    pub fn with_legacy_max_frame(mut self, bytes: usize) -> Self {
        self.legacy_max_frame = Some(bytes);
        self
    }

    /// The same network as seen from a host, which is the name that faults know its connections by.
    pub fn host(&self, name: impl Into<String>) -> MemHost {
        MemHost { net: self.clone(), name: name.into() }
    }

    /// Parts two hosts: bytes no longer arrive, in either direction and on new connections too, and nobody gets an
    /// error. What was written before waits.
    pub fn partition(&self, a: &str, b: &str) {
        self.change(|state| {
            state.parted.extend([(a.into(), b.into()), (b.into(), a.into())]);
        });
    }

    /// Ends a partition; everything that was written arrives.
    pub fn heal(&self, a: &str, b: &str) {
        self.change(|state| state.parted.retain(|(x, y)| (&**x, &**y) != (a, b) && (&**x, &**y) != (b, a)));
    }

    /// Makes a host a dead peer: every read and write on its connections waits, on both sides.
    pub fn freeze(&self, host: &str) {
        self.change(|state| {
            state.frozen.insert(host.into());
        });
    }

    /// Brings a frozen host back.
    pub fn thaw(&self, host: &str) {
        self.change(|state| {
            state.frozen.remove(host);
        });
    }

    /// Cuts the present connections between two hosts: both sides get an error, bytes on the way are lost.
    pub fn cut(&self, a: &str, b: &str) {
        self.cut_where(|(x, y)| (x, y) == (a, b) || (x, y) == (b, a));
    }

    /// Cuts every present connection of a host, as if its process was killed.
    pub fn cut_all(&self, host: &str) {
        self.cut_where(|(x, y)| x == host || y == host);
    }

    /// Bytes from one host to another take this long; zero by default.
    pub fn set_latency(&self, from: &str, to: &str, latency: Duration) {
        self.change(|state| {
            state.latency.insert((from.into(), to.into()), latency);
        });
    }

    /// Bytes that one host can write to a lane before another reads them; 256 KiB by default.
    pub fn set_capacity(&self, from: &str, to: &str, bytes: usize) {
        self.change(|state| {
            state.capacity.insert((from.into(), to.into()), bytes);
        });
    }

    /// Connects without frames, to write what no driver would. The listener sees a connection with one lane.
    pub async fn connect_raw(&self, url: &CellUrl) -> Result<(MemReader, MemWriter), TransportError> {
        let mut lanes = self.dial("", url, 1).await?;
        lanes.pop().ok_or(TransportError::Closed)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.inner.state();
        change(&mut state);
        for wire in &state.wires {
            if let Some(pipe) = wire.pipe.upgrade() {
                pipe.set(state.conditions(&wire.from, &wire.to));
            }
        }
        drop(state);
        self.inner.changed.notify_waiters();
    }

    fn cut_where(&self, matches: impl Fn((&str, &str)) -> bool) {
        let state = self.inner.state();
        for wire in state.wires.iter().filter(|wire| matches((&wire.from, &wire.to))) {
            if let Some(pipe) = wire.pipe.upgrade() {
                pipe.cut();
            }
        }
    }

    async fn dial(
        &self,
        from: &str,
        url: &CellUrl,
        lanes: usize,
    ) -> Result<Vec<(MemReader, MemWriter)>, TransportError> {
        let to = host_of(url);
        let way = async {
            loop {
                // Made before the look, so that no change is missed.
                let changed = self.inner.changed.notified();
                let (out, back) = {
                    let state = self.inner.state();
                    (state.conditions(from, &to), state.conditions(&to, from))
                };
                if !(out.parted || out.frozen) {
                    sleep(out.latency + back.latency).await;
                    return;
                }
                changed.await;
            }
        };
        let late = || TransportError::Timeout(url.to_string(), CONNECT_TIMEOUT);
        timeout(CONNECT_TIMEOUT, way).await.map_err(|_| late())?;

        let mut state = self.inner.state();
        let refused =
            || TransportError::io(format!("connect to {url}"), io::ErrorKind::ConnectionRefused.into());
        let listener = state.listeners.get(&(to.clone(), url.port())).ok_or_else(refused)?.clone();
        let (mut here, mut there) = (Vec::new(), Vec::new());
        for _ in 0..lanes {
            let (tx, their_rx) = state.direction(from, &to);
            let (their_tx, rx) = state.direction(&to, from);
            here.push((rx, tx));
            there.push((their_rx, their_tx));
        }
        drop(state);
        // A full backlog refuses, as a system's does.
        listener.try_send(Dialled { from: from.into(), lanes: there }).map_err(|_| refused())?;
        Ok(here)
    }

    async fn connect_from(&self, from: &str, target: &Target) -> Result<Connection, TransportError> {
        let lanes = self.dial(from, &target.url, 1 + self.bulk_lanes).await?;
        let info = self.info(address(from), address(&host_of(&target.url)));
        connection(info, lanes, &target.budget)
    }

    fn info(&self, local: String, remote: String) -> ConnectionInfo {
        ConnectionInfo { legacy_max_frame: self.legacy_max_frame, ..ConnectionInfo::new(local, remote) }
    }
}

impl Default for MemNet {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Transport for MemNet {
    fn schemes(&self) -> &[Scheme] {
        &self.schemes
    }

    async fn connect(&self, target: &Target) -> Result<Connection, TransportError> {
        self.connect_from("", target).await
    }

    async fn listen(&self, bind: &Bind) -> Result<Box<dyn Listener>, TransportError> {
        let mut state = self.inner.state();
        let url = match bind.url.port() {
            Some(0) => bind.url.clone().with_port(state.free_port(&host_of(&bind.url))),
            _ => bind.url.clone(),
        };
        let key = (host_of(&url), url.port());
        if state.listeners.contains_key(&key) {
            return Err(TransportError::io(format!("listen on {url}"), io::ErrorKind::AddrInUse.into()));
        }
        let (tx, dialled) = mpsc::channel(BACKLOG);
        state.listeners.insert(key.clone(), tx);
        Ok(Box::new(MemListener { net: self.clone(), url, key, dialled, budget: bind.budget.clone() }))
    }
}

/// A [`MemNet`] as seen from one host: the transport to give to the cell of that name.
#[derive(Debug, Clone)]
pub struct MemHost {
    net: MemNet,
    name: String,
}

#[async_trait]
impl Transport for MemHost {
    fn schemes(&self) -> &[Scheme] {
        self.net.schemes()
    }

    async fn connect(&self, target: &Target) -> Result<Connection, TransportError> {
        self.net.connect_from(&self.name, target).await
    }

    async fn listen(&self, bind: &Bind) -> Result<Box<dyn Listener>, TransportError> {
        self.net.listen(bind).await
    }
}

struct MemListener {
    net: MemNet,
    url: CellUrl,
    key: (String, Option<u16>),
    dialled: mpsc::Receiver<Dialled>,
    budget: Arc<Budget>,
}

#[async_trait]
impl Listener for MemListener {
    fn local_url(&self) -> &CellUrl {
        &self.url
    }

    async fn accept(&mut self) -> Result<Accepting, TransportError> {
        // The sender lives in the net until this listener is dropped.
        let Dialled { from, lanes } = self.dialled.recv().await.ok_or(TransportError::Closed)?;
        let info = self.net.info(address(&self.key.0), address(&from));
        let budget = self.budget.clone();
        Ok(Box::pin(async move { connection(info, lanes, &budget) }))
    }
}

impl Drop for MemListener {
    fn drop(&mut self) {
        self.net.inner.state().listeners.remove(&self.key);
    }
}

impl fmt::Debug for MemListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemListener").field("url", &self.url).finish_non_exhaustive()
    }
}

impl fmt::Debug for MemNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemNet")
            .field("bulk_lanes", &self.bulk_lanes)
            .field("legacy_max_frame", &self.legacy_max_frame)
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A new direction that [`MemNet::change`] will find.
    fn direction(&mut self, from: &str, to: &str) -> (MemWriter, MemReader) {
        let (tx, rx, pipe) = pipe(self.conditions(from, to));
        self.wires.retain(|wire| wire.pipe.strong_count() > 0);
        self.wires.push(Wire { from: from.into(), to: to.into(), pipe: Arc::downgrade(&pipe) });
        (tx, rx)
    }

    fn conditions(&self, from: &str, to: &str) -> Conditions {
        let way = (from.to_owned(), to.to_owned());
        Conditions {
            capacity: self.capacity.get(&way).copied().unwrap_or(CAPACITY),
            latency: self.latency.get(&way).copied().unwrap_or_default(),
            parted: self.parted.contains(&way),
            frozen: self.frozen.contains(from) || self.frozen.contains(to),
        }
    }

    fn free_port(&mut self, host: &str) -> u16 {
        loop {
            self.last_port = self.last_port.checked_add(1).unwrap_or(1);
            if !self.listeners.contains_key(&(host.to_owned(), Some(self.last_port))) {
                return self.last_port;
            }
        }
    }
}

fn connection(
    info: ConnectionInfo,
    lanes: Vec<(MemReader, MemWriter)>,
    budget: &Arc<Budget>,
) -> Result<Connection, TransportError> {
    let mut lanes = lanes.into_iter().map(|(rx, tx)| framed::lane(rx, tx, &info, budget.clone()));
    let control = lanes.next().ok_or(TransportError::Closed)?;
    let bulk: Vec<Lane> = lanes.collect();
    Ok(Connection { info, control, bulk })
}

fn host_of(url: &CellUrl) -> String {
    url.host().to_owned()
}

fn address(host: &str) -> String {
    format!("mem://{}", if host.is_empty() { "-" } else { host })
}

/// Bytes on the way in one direction of a lane.
const CAPACITY: usize = 256 * 1024;

/// Connections that wait to be accepted.
const BACKLOG: usize = 1024;

/// How long a host that cannot be reached is dialled, as with TCP.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
