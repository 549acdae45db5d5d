//! Heads travel in their short form where both neighbours offer that, and in full everywhere else.

#[path = "common/raw.rs"]
mod raw;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use cellnet_core::{
    cell::{ANY, Cell, HandlerError, Request, Stage},
    message::Message,
    stats::Meter,
    testkit::sim::{Sim, Tree, blob, echo, fqcn},
    transport::{Bind, Connection, Listener, Target, Transport, TransportError, mem::MemHost},
    url::Scheme,
    wire::{
        COMPACT_HEADS, FrameKind, Headers, PREFIX_LEN, Value,
        hello::{Cellnet, Hello},
        keys::{cn, sm},
    },
};
use raw::Raw;
use tokio::time::{Duration, Instant};

/// The byte that no plain head begins with: a head in full that is to be kept follows.
const KEEP: u8 = 0xc1;

async fn server(sim: &Sim) -> Cell {
    let server = sim.cell("server", &[]).await;
    server.handle("task", "*", echo);
    server
}

/// The heads of the replies to equal requests, without their prefix.
async fn heads(raw: &mut Raw, requests: usize) -> Vec<Bytes> {
    let mut heads = Vec::new();
    for _ in 0..requests {
        raw.request("site", b"x", |_| {}).await;
        let frame = raw.next().await.unwrap();
        assert_eq!(frame.prefix().unwrap().frame_kind(), Some(FrameKind::Data));
        heads.push(frame.head().slice(PREFIX_LEN..));
    }
    heads
}

#[tokio::test(start_paused = true)]
async fn a_neighbour_that_offers_short_heads_gets_them() {
    let sim = Sim::new();
    let _server = server(&sim).await;
    let mut raw = Raw::connect(&sim).await;
    raw.hello_as("site", Some(&[COMPACT_HEADS, "something else"])).await;
    let heads = heads(&mut raw, 4).await;
    let full = Headers::decode(&heads[0]).unwrap();
    assert_eq!((heads[1][0], heads[1][1]), (KEEP, 0));
    assert_eq!(Headers::decode(&heads[1].slice(2..)).unwrap().len(), full.len());
    assert!(heads[2..].iter().all(|head| head[0] == 0 && head.len() < 40), "{heads:?}");
}

#[tokio::test(start_paused = true)]
async fn everybody_else_gets_plain_ones() {
    for (compact, features) in [
        (true, None),
        (true, Some(&[][..])),
        (true, Some(&["compact-heads/2"][..])),
        (false, Some(&[COMPACT_HEADS][..])),
    ] {
        let sim = Sim::new().configured(|config| config.link.compact_heads = compact);
        let _server = server(&sim).await;
        let mut raw = Raw::connect(&sim).await;
        raw.hello_as("site", features).await;
        for head in heads(&mut raw, 4).await {
            assert!(Headers::decode(&head).is_ok(), "{features:?}");
        }
    }
}

/// Nobody answers a READY, so who opens with one never hears that this cell reads short heads.
#[tokio::test(start_paused = true)]
async fn who_was_offered_nothing_neither_gets_short_heads_nor_may_send_them() {
    let sim = Sim::new();
    let server = server(&sim).await;
    let mut raw = Raw::connect(&sim).await;
    raw.open(FrameKind::Ready, "site", Some(&[COMPACT_HEADS])).await;
    for head in heads(&mut raw, 4).await {
        assert!(Headers::decode(&head).is_ok(), "{head:?}");
    }
    raw.head(&[0]).await;
    assert!(raw.is_alive("site").await);
    assert_eq!(server.counters().dropped.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_offered_is_said_in_ready() {
    for compact in [true, false] {
        let sim = Sim::new().configured(|config| config.link.compact_heads = compact);
        let server = server(&sim).await;
        let site = sim.cell("site", &["server"]).await;
        let offers = |cell: &Cell, peer: &Cell| cell.features(peer.name()).unwrap();
        for offered in [offers(&server, &site), offers(&site, &server)] {
            assert_eq!(offered.iter().any(|feature| *feature == COMPACT_HEADS), compact);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_head_without_its_entry_ends_the_link_and_no_other() {
    let sim = Sim::new();
    let server = server(&sim).await;
    let site = sim.cell("friend", &["server"]).await;
    let began = Instant::now();
    for head in [&[9][..], &[KEEP, 5, 0x80], &[KEEP]] {
        let mut raw = Raw::connect(&sim).await;
        raw.hello_as("site", Some(&[COMPACT_HEADS])).await;
        raw.head(head).await;
        assert!(raw.next().await.is_none(), "{head:?}");
    }
    assert_eq!(began.elapsed(), Duration::ZERO, "a peer that is silent for long is left as well");
    let reply = site.request(server.name(), "task", "echo", blob(10)).await.unwrap();
    assert!(reply.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_short_head_from_a_stranger_is_dropped() {
    let sim = Sim::new();
    let server = server(&sim).await;
    let mut raw = Raw::connect(&sim).await;
    raw.hello("site").await;
    raw.head(&[0]).await;
    assert!(raw.is_alive("site").await);
    assert_eq!(server.counters().dropped.get(), 1);
}

/// Every leg agrees for itself, and whoever is between two kinds translates.
#[tokio::test(start_paused = true)]
async fn messages_cross_relays_of_both_kinds_unchanged() {
    let plain = Chain::new([false; 3]).await.talk().await;
    for kinds in [[true, true, false], [false, true, true], [true, false, true], [true, true, true]] {
        let Talk { seen, written } = Chain::new(kinds).await.talk().await;
        let legs = [kinds[2] && kinds[1], kinds[1] && kinds[0]];
        assert_eq!(written.map(|bytes| bytes < 300), legs, "{kinds:?}: {written:?} bytes");
        for (seen, plain) in seen.iter().zip(&plain.seen) {
            let [seen, plain] = [seen, plain].map(|seen| unchanging(seen, &IDS));
            assert_eq!(seen, plain, "{kinds:?}");
        }
        let [server, relay, site] = seen.map(|seen| unchanging(&seen, &[]));
        let (up, down): (Vec<_>, Vec<_>) = relay.into_iter().partition(|seen| server.contains(seen));
        assert_eq!((up, down), (server, site), "{kinds:?}");
    }
}

/// A site, the relay above it, and the server above that.
struct Chain {
    site: Cell,
    /// What came to the server, the relay and the site.
    seen: [Seen; 3],
    /// Of the connections from the site and from the relay upwards.
    meters: [Meters; 2],
    _above: [Cell; 2],
}

type Seen = Arc<Mutex<Vec<Headers>>>;
type Meters = Arc<Mutex<Vec<Arc<Meter>>>>;

/// What there was to see of a conversation.
struct Talk {
    seen: [Vec<Headers>; 3],
    /// Bytes of the last small request on each leg.
    written: [u64; 2],
}

impl Chain {
    /// The server, the relay and the site each offer short heads or not.
    async fn new([server, relay, site]: [bool; 3]) -> Self {
        let net = Sim::new().net;
        let meters = [Meters::default(), Meters::default()];
        let cell = async |name: &str, up: Option<&str>, meters: &Meters, compact: bool| {
            let host = Counted { host: net.host(name), meters: meters.clone() };
            let url = |name: &str| format!("mem://{name}").parse().unwrap();
            let builder = Cell::builder(fqcn(name)).transport(host).resolver(Tree).listen(url(name));
            let builder =
                builder.dial_any(up.map(url)).configure(|config| config.link.compact_heads = compact);
            let cell = builder.start().await.unwrap();
            cell.connected().await;
            cell
        };
        let server = cell("server", None, &Meters::default(), server).await;
        let relay = cell("relay", Some("server"), &meters[1], relay).await;
        let site = cell("relay.site", Some("relay"), &meters[0], site).await;
        server.handle("task", "*", |request: Request| async move {
            let mut reply = Message::new(request.message.payload);
            reply.headers.set("mark", request.message.headers.get("mark").unwrap());
            Ok::<_, HandlerError>(reply)
        });
        server.handle("model", "*", echo);
        let seen = [&server, &relay, &site].map(watch);
        Self { site, seen, meters, _above: [server, relay] }
    }

    /// Small and large requests with their replies.
    async fn talk(self) -> Talk {
        let written = || self.meters.each_ref().map(|meters| meters.lock().unwrap()[0].tx());
        let mut last = [0; 2];
        for round in 0..6_u64 {
            let message = blob(100 + round as usize).with_header("mark", round % 2);
            let message =
                message.with_header(cn::MSG_ROOT_ID, format!("5a8a1c5e-43f0-4c83-8f0e-0a4a4b1cbb5{round}"));
            let before = written();
            let reply = self.site.request(&fqcn("server"), "task", "echo", message.clone()).await.unwrap();
            let after = written();
            last = [after[0] - before[0], after[1] - before[1]];
            assert!(reply.is_ok(), "{:?}", reply.error());
            assert_eq!(reply.payload, message.payload);
            assert_eq!(reply.headers.uint("mark"), Some(round % 2));
            let large = blob(3 << 20);
            let reply = self.site.request(&fqcn("server"), "model", "echo", large.clone()).await.unwrap();
            assert_eq!(reply.payload, large.payload);
        }
        Talk { seen: self.seen.map(|seen| seen.lock().unwrap().clone()), written: last }
    }
}

/// Notes the headers of all that comes to a cell, but for ACKs, some of which may stay away.
fn watch(cell: &Cell) -> Seen {
    let seen = Seen::default();
    let note = seen.clone();
    cell.add_filter(Stage::Incoming, ANY, ANY, move |passing| {
        if passing.headers.text(cn::TOPIC) != Some(sm::ACK_TOPIC) {
            note.lock().unwrap().push(passing.headers.clone());
        }
        Ok(())
    });
    seen
}

/// Headers without those that each hop writes anew, and without `others`.
fn unchanging(seen: &[Headers], others: &[&str]) -> Vec<Vec<(Value, Value)>> {
    let dropped = |key: &Value| {
        let key = key.as_text().unwrap();
        [cn::ROUTE, cn::FROM, cn::TO, cn::SEND_TIME].iter().chain(others).any(|other| key == other)
    };
    seen.iter().map(|headers| headers.iter().filter(|(key, _)| !dropped(key)).collect()).collect()
}

/// What is another one in each conversation.
const IDS: [&str; 3] = [cn::REQ_ID, sm::REQ_ID, sm::ID];

/// A host that lends the meters of the connections it makes.
#[derive(Debug)]
struct Counted {
    host: MemHost,
    meters: Meters,
}

#[async_trait]
impl Transport for Counted {
    fn schemes(&self) -> &[Scheme] {
        self.host.schemes()
    }

    async fn connect(&self, target: &Target) -> Result<Connection, TransportError> {
        let connection = self.host.connect(target).await?;
        self.meters.lock().unwrap().push(connection.info.meter.clone());
        Ok(connection)
    }

    async fn listen(&self, bind: &Bind) -> Result<Box<dyn Listener>, TransportError> {
        self.host.listen(bind).await
    }
}

/// The name under which the feature is known to others must not change by accident.
#[test]
fn the_name_of_the_feature_is_part_of_the_protocol() {
    assert_eq!(COMPACT_HEADS, "compact-heads/1");
    let cellnet = Cellnet { features: vec![COMPACT_HEADS.into()], ..Cellnet::new([0; 16]) };
    let hello = Hello { name: "a".into(), cellnet: Some(cellnet), timestamp: 0.0 };
    assert!(hello.encode().windows(15).any(|bytes| bytes == b"compact-heads/1"));
}
