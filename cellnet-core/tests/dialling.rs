//! One cell that can be reached by several URLs: which way is taken, when, and what is left of the others.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use cellnet_core::{
    CellUrl, Scheme,
    cell::{Cell, CellEvent},
    stats::Budget,
    testkit::sim::{Sim, fqcn},
    transport::{Bind, Connection, Listener, Target, Transport, TransportError, mem::MemHost},
};
use tokio::time::Instant;

/// The wires of a host, with a note of every attempt to connect. The host `never` is dialled for ever.
#[derive(Debug, Clone)]
struct Watched {
    wires: MemHost,
    began: Instant,
    attempts: Arc<Mutex<Vec<(Duration, String)>>>,
    /// Attempts that have neither ended nor been dropped.
    open: Arc<AtomicUsize>,
}

impl Watched {
    fn new(sim: &Sim) -> Self {
        let wires = sim.net.host("site");
        Self { wires, began: Instant::now(), attempts: Arc::default(), open: Arc::default() }
    }

    fn attempts(&self) -> Vec<(u64, String)> {
        let attempts = self.attempts.lock().unwrap();
        attempts.iter().map(|(at, url)| (at.as_millis() as u64, url.clone())).collect()
    }

    fn open(&self) -> usize {
        self.open.load(Relaxed)
    }
}

#[async_trait]
impl Transport for Watched {
    fn schemes(&self) -> &[Scheme] {
        self.wires.schemes()
    }

    async fn connect(&self, target: &Target) -> Result<Connection, TransportError> {
        self.attempts.lock().unwrap().push((self.began.elapsed(), target.url.to_string()));
        let _open = Open::new(&self.open);
        if target.url.host() == "never" {
            std::future::pending::<()>().await;
        }
        self.wires.connect(target).await
    }

    async fn listen(&self, bind: &Bind) -> Result<Box<dyn Listener>, TransportError> {
        self.wires.listen(bind).await
    }
}

struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// A server that listens on hubs of these names.
async fn server(sim: &Sim, hubs: &[&str]) -> Cell {
    hubs.iter().fold(sim.builder("server"), |cell, hub| cell.listen(url(hub))).start().await.unwrap()
}

/// A site that dials hubs of these names, which lead to one cell.
async fn site(sim: &Sim, hubs: &[&str]) -> (Cell, Watched) {
    let wires = Watched::new(sim);
    let builder = Cell::builder(fqcn("site")).transport(wires.clone()).config(sim.config.clone());
    (builder.dial_any(hubs.iter().map(|hub| url(hub))).start().await.unwrap(), wires)
}

fn url(hub: &str) -> CellUrl {
    format!("mem://{hub}").parse().unwrap()
}

/// By which hub the one link goes.
fn way(cell: &Cell) -> String {
    let dialled = cell.dialled();
    assert_eq!(dialled.len(), 1, "{dialled:?} {:?}", cell.dial_errors());
    dialled[0].1.host().to_owned()
}

#[tokio::test(start_paused = true)]
async fn urls_are_tried_in_order_with_a_head_start_each() {
    let sim = Sim::new();
    for hub in ["a", "b", "c"] {
        sim.net.partition("site", hub);
    }
    let (_site, wires) = site(&sim, &["a", "b", "c"]).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let expected = [(0, "mem://a"), (250, "mem://b"), (500, "mem://c")];
    assert_eq!(wires.attempts(), expected.map(|(at, url)| (at, url.to_owned())));
}

#[tokio::test(start_paused = true)]
async fn a_first_that_answers_within_its_head_start_is_the_only_one() {
    let sim = Sim::new();
    let _server = server(&sim, &["a", "b"]).await;
    // There and back to connect, and again for HELLO and READY.
    sim.net.set_latency("site", "a", Duration::from_millis(50));
    sim.net.set_latency("a", "site", Duration::from_millis(50));
    let (site, wires) = site(&sim, &["a", "b"]).await;
    site.connected().await;
    assert_eq!((way(&site).as_str(), wires.attempts().len()), ("a", 1));
}

#[tokio::test(start_paused = true)]
async fn a_failure_starts_the_next_at_once() {
    let sim = Sim::new();
    let _server = server(&sim, &["c"]).await;
    let (site, wires) = site(&sim, &["a", "b", "c"]).await;
    site.connected().await;
    assert_eq!(way(&site), "c");
    let expected = ["a", "b", "c"].map(|hub| (0, format!("mem://{hub}")));
    assert_eq!(wires.attempts(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_first_that_swallows_everything_costs_a_head_start() {
    let sim = Sim::new();
    let _server = server(&sim, &["a", "b"]).await;
    sim.net.partition("site", "a");
    let (site, wires) = site(&sim, &["a", "b"]).await;
    site.connected().await;
    assert_eq!((way(&site).as_str(), wires.began.elapsed()), ("b", Duration::from_millis(250)));
    assert_eq!(wires.open(), 0, "the loser goes on");
}

#[tokio::test(start_paused = true)]
async fn two_that_connect_at_the_same_time_make_one_link() {
    let sim = Sim::new();
    let server = server(&sim, &["a", "b"]).await;
    let mut events = server.events();
    // `a` is connected while the handshake by `b` goes on.
    sim.net.set_latency("site", "a", Duration::from_millis(280));
    sim.net.set_latency("site", "b", Duration::from_millis(10));
    sim.net.set_latency("b", "site", Duration::from_millis(10));
    let (site, wires) = site(&sim, &["a", "b"]).await;
    site.connected().await;
    assert_eq!((way(&site).as_str(), wires.attempts().len()), ("b", 2));
    assert!(matches!(events.next().await, Some(CellEvent::Connected { .. })));
    let more = tokio::time::timeout(Duration::from_secs(20), events.next()).await;
    assert!(more.is_err(), "{more:?}");
    assert_eq!(way(&site), "b");
}

#[tokio::test(start_paused = true)]
async fn who_connects_and_then_says_nothing_gives_way_to_the_next() {
    let sim = Sim::new();
    let server = server(&sim, &["b"]).await;
    let mut events = server.events();
    let _mute = sim.net.listen(&Bind::new(url("mute"), Budget::new(0))).await.unwrap();
    let (site, wires) = site(&sim, &["mute", "b"]).await;
    site.connected().await;
    assert_eq!((way(&site).as_str(), wires.began.elapsed()), ("b", Duration::from_secs(2)));
    assert!(matches!(events.next().await, Some(CellEvent::Connected { .. })));
    let more = tokio::time::timeout(Duration::from_secs(20), events.next()).await;
    assert!(more.is_err(), "{more:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_handshake_is_waited_for_where_nothing_else_is_connected() {
    let sim = Sim::new().configured(|config| config.link.accept_deadline = Duration::from_secs(20));
    let _server = server(&sim, &["a"]).await;
    sim.net.set_latency("a", "site", Duration::from_secs(8));
    let (site, _wires) = site(&sim, &["a", "nowhere"]).await;
    site.connected().await;
    assert_eq!(way(&site), "a");
}

#[tokio::test(start_paused = true)]
async fn after_a_loss_the_first_is_tried_first_again() {
    let sim = Sim::new();
    let _server = server(&sim, &["a", "b"]).await;
    sim.net.partition("site", "a");
    let (site, _wires) = site(&sim, &["a", "b"]).await;
    site.connected().await;
    assert_eq!(way(&site), "b");
    let mut events = site.events();
    sim.net.heal("site", "a");
    sim.net.cut("site", "b");
    while !matches!(events.next().await, Some(CellEvent::Connected { .. })) {}
    assert_eq!(way(&site), "a");
}

#[tokio::test(start_paused = true)]
async fn a_round_that_fails_names_every_url_with_its_reason_in_order() {
    let sim = Sim::new().configured(|config| config.link.dial_deadline = Duration::from_secs(3));
    let (site, wires) = site(&sim, &["never", "nobody"]).await;
    tokio::time::sleep(Duration::from_millis(3500)).await;
    let errors = site.dial_errors();
    let text = errors[0].to_string();
    assert!(
        text.starts_with("'mem://never' (transport failed: no connection to mem://never within 3s), "),
        "{text}"
    );
    assert!(text.contains("'mem://nobody' (transport failed: connect to mem://nobody"), "{text}");
    assert!(errors.len() == 1 && site.dialled().is_empty() && !errors[0].is_unauthorised());
    assert_eq!(wires.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_cell_that_stops_drops_every_attempt() {
    let sim = Sim::new();
    let (site, wires) = site(&sim, &["never", "never", "never"]).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(wires.open(), 2);
    let began = Instant::now();
    site.shutdown(Duration::from_secs(60)).await;
    assert_eq!((wires.open(), began.elapsed()), (0, Duration::ZERO));
}
