//! Who may have which name by its certificate, and who speaks for whom.
//!
//! The cells are on `mem://`; a [`Badge`] stands for TLS and says which common name each host has shown.

#[path = "common/log.rs"]
mod log;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::BytesMut;
use cellnet_core::{
    CellUrl, Fqcn, Scheme,
    cell::{Cell, CellBuilder, HandlerError, OriginCheck, Request, Stage},
    identity::{Claim, CommonNamePolicy, IdentityPolicy},
    message::Message,
    route::{Neighbours, Resolver},
    stream::IncomingStream,
    testkit::sim::{Sim, Tree, blob, echo, fqcn},
    tls::TlsMode,
    transport::{
        Accepting, Batch, Bind, Connection, Frame, FrameSender, Lane, Listener, Target, Transport,
        TransportError, mem::MemHost,
    },
    wire::{FrameKind, Headers, PREFIX_LEN, Prefix, Value, keys::cn},
};
use log::Log;
use tokio::sync::mpsc;

/// Common names by hosts.
type Names = Arc<BTreeMap<&'static str, &'static str>>;

type Change = Arc<dyn Fn(&mut Headers) + Send + Sync>;

/// What cells, by their names, change in messages with a topic before they send them.
type Lies = Arc<Mutex<BTreeMap<(String, String), Change>>>;

/// A wire whose ends have shown certificates, and whose near end may lie.
#[derive(Debug)]
struct Badge {
    host: MemHost,
    ends: Ends,
}

#[derive(Clone)]
struct Ends {
    name: String,
    mode: TlsMode,
    names: Names,
    lies: Lies,
}

#[derive(Debug)]
struct BadgeListener {
    listener: Box<dyn Listener>,
    ends: Ends,
}

#[derive(Debug)]
struct Liar {
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
struct Net {
    sim: Sim,
    mode: TlsMode,
    names: Names,
    lies: Lies,
}

impl Net {
    fn new(mode: TlsMode, names: &[(&'static str, &'static str)]) -> Self {
        Self {
            sim: Sim::new(),
            mode,
            names: Arc::new(names.iter().copied().collect()),
            lies: Lies::default(),
        }
    }

    /// A cell on a host.
    fn builder(&self, name: &str, host: &str) -> CellBuilder {
        let ends =
            Ends { name: name.into(), mode: self.mode, names: self.names.clone(), lies: self.lies.clone() };
        let badge = Badge { host: self.sim.net.host(host), ends };
        Cell::builder(fqcn(name)).transport(badge).resolver(Tree).config(self.sim.config.clone())
    }

    async fn listening(&self, name: &str, host: &str) -> Cell {
        self.builder(name, host).listen(url(host)).start().await.unwrap()
    }

    /// A cell that dials a host; there may be no link.
    async fn dialling(&self, name: &str, host: &str, to: &str) -> Cell {
        self.builder(name, host).dial(url(to)).start().await.unwrap()
    }
}

fn url(host: &str) -> CellUrl {
    format!("mem://{host}").parse().unwrap()
}

/// Whether there is a link, once it is clear.
async fn is_let_in(cell: &Cell) -> bool {
    tokio::select! {
        () = cell.connected() => true,
        () = async {
            while cell.dial_errors().is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        } => false,
    }
}

/// For what must come.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn evil_is_not_let_in_as_site_1_and_disturbs_nobody() {
    let net = Net::new(TlsMode::Mtls, &[("hub", "server"), ("good", "site-1"), ("bad", "evil")]);
    let log = Log::begin();
    let server = net.listening("server", "hub").await;
    server.handle("task", "*", echo);
    // Whether the name is free or taken makes no difference.
    let early = net.dialling("site-1", "bad", "hub").await;
    assert!(!is_let_in(&early).await);
    assert!(server.neighbours().is_empty());
    early.cancel();
    let site = net.dialling("site-1", "good", "hub").await;
    assert!(is_let_in(&site).await);
    let evil = net.dialling("site-1", "bad", "hub").await;
    assert!(!is_let_in(&evil).await);
    assert_eq!(log.count("a certificate for 'evil' does not allow the name 'site-1'"), 2, "{}", log.text());
    assert_eq!(server.counters().failed_handshakes.get(), 2);
    assert_eq!(server.neighbours(), [fqcn("site-1")]);
    let reply = site.request(server.name(), "task", "t", Message::new("x")).await.unwrap();
    assert!(reply.is_ok() && site.dial_errors().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_proved_name_is_not_put_out_by_another_certificate_while_its_holder_is_mute() {
    let net = Net::new(TlsMode::Mtls, &[("hub", "server"), ("good", "site-1"), ("bad", "evil")]);
    let log = Log::begin();
    let server = net.builder("server", "hub").identity(CommonNamePolicy::new().lenient()).listen(url("hub"));
    let server = server.start().await.unwrap();
    server.handle("task", "*", echo);
    let site = net.dialling("site-1", "good", "hub").await;
    assert!(is_let_in(&site).await);
    // For longer than the holder of a name has to answer.
    net.sim.net.freeze("good");
    let evil = net.dialling("site-1", "bad", "hub").await;
    assert!(!is_let_in(&evil).await);
    tokio::time::sleep(net.sim.config.link.probe * 3).await;
    net.sim.net.thaw("good");
    assert!(log.count("the name 'site-1' is taken by another live process") > 0, "{}", log.text());
    let reply = site.request(server.name(), "task", "t", Message::new("x")).await.unwrap();
    assert!(reply.is_ok() && site.dial_errors().is_empty(), "{:?}", site.dial_errors());
}

#[tokio::test(start_paused = true)]
async fn neighbours_are_limited_in_number() {
    let net = Net::new(TlsMode::Clear, &[]);
    let log = Log::begin();
    let server =
        net.builder("server", "hub").configure(|config| config.link.max_links = 1).listen(url("hub"));
    let server = server.start().await.unwrap();
    let first = net.dialling("site-1", "first", "hub").await;
    assert!(is_let_in(&first).await);
    let second = net.dialling("site-2", "second", "hub").await;
    assert!(!is_let_in(&second).await);
    assert_eq!(server.neighbours(), [fqcn("site-1")]);
    assert!(log.count("this cell has 1 neighbours already") > 0, "{}", log.text());
}

#[tokio::test(start_paused = true)]
async fn a_certificate_lets_in_its_own_name_and_those_below_and_its_pipes() {
    for (name, cn, allowed) in [
        ("site-1", Some("site-1"), true),
        ("site-1.job-7", Some("site-1"), true),
        ("server.site-1", Some("site-1"), true),
        ("site-1_7_active", Some("site-1"), true),
        ("site-1_7_passive", Some("site-1"), true),
        ("site-1_7", Some("site-1"), false),
        ("site-10", Some("site-1"), false),
        ("relay-9.site-1", Some("site-1"), false),
        ("site-1", None, false),
        ("_cli_1", Some("site-1"), false),
        ("_admin_1", Some("site-1"), false),
        ("_admin_1", Some("_admin_1"), false),
        ("_admin_1", Some("boss@example.org"), true),
    ] {
        let mut names = vec![("hub", "server")];
        names.extend(cn.map(|cn| ("it", cn)));
        let net = Net::new(TlsMode::Mtls, &names);
        let policy = CommonNamePolicy::new().with_admins(["boss@example.org"]);
        let server = net.builder("server", "hub").identity(policy).listen(url("hub")).start().await.unwrap();
        let peer = net.dialling(name, "it", "hub").await;
        assert_eq!(is_let_in(&peer).await, allowed, "'{name}' by {cn:?}");
        assert_eq!(server.counters().failed_handshakes.get() == 0, allowed, "'{name}' by {cn:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_behind_a_relay_needs_that_relay() {
    let names = [("hub", "server"), ("r", "relay-1"), ("s", "site-1")];
    let net = Net::new(TlsMode::Mtls, &names);
    let server = net.listening("server", "hub").await;
    let alone = net.dialling("relay-1.site-1", "s", "hub").await;
    assert!(!is_let_in(&alone).await);
    alone.cancel();
    let relay = net.builder("relay-1", "r").listen(url("r")).dial(url("hub")).start().await.unwrap();
    assert!(is_let_in(&relay).await);
    for to in ["hub", "r"] {
        let site = net.dialling("relay-1.site-1", "s", to).await;
        assert!(is_let_in(&site).await, "{to}");
        site.shutdown(PATIENCE).await;
    }
    assert_eq!(server.counters().failed_handshakes.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_server_may_have_any_certificate_for_its_host_where_it_is_dialled_and_nowhere_else() {
    let names = [("hub", "fl.example.org"), ("s", "site-1"), ("r", "relay-1"), ("bad", "evil")];
    let net = Net::new(TlsMode::Mtls, &names);
    let _server = net.listening("server", "hub").await;
    assert!(is_let_in(&net.dialling("site-1", "s", "hub").await).await);
    // Who listens must own any other name.
    let _false_relay = net.listening("relay-1", "bad").await;
    let log = Log::begin();
    assert!(!is_let_in(&net.dialling("relay-1.site-1", "s", "bad").await).await);
    assert!(
        log.text().contains("a certificate for 'evil' does not allow the name 'relay-1'"),
        "{}",
        log.text()
    );
    let _relay = net.listening("relay-1", "r").await;
    assert!(is_let_in(&net.dialling("relay-1.site-1", "s", "r").await).await);
    // Who connects is not taken for the server.
    for host in ["bad", "hub"] {
        assert!(!is_let_in(&net.dialling("server", host, "r").await).await, "{host}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_lenient_rule_lets_everybody_in_and_warns() {
    let net = Net::new(TlsMode::Mtls, &[("hub", "server"), ("bad", "evil")]);
    let log = Log::begin();
    let policy = CommonNamePolicy::new().lenient();
    let _server = net.builder("server", "hub").identity(policy).listen(url("hub")).start().await.unwrap();
    assert!(is_let_in(&net.dialling("site-1", "bad", "hub").await).await);
    let warning = "a certificate for 'evil' does not allow the name 'site-1'; allowed all the same";
    assert!(log.text().contains(warning), "{}", log.text());
}

#[tokio::test(start_paused = true)]
async fn without_a_certificate_any_name_is_taken_but_none_above_a_cell_with_credentials() {
    use cellnet_core::testkit::pki::Pki;
    for mode in [TlsMode::Tls, TlsMode::Clear] {
        let net = Net::new(mode, &[("r", "relay-1")]);
        let tls = Pki::new().tls("relay-1", TlsMode::Tls);
        let relay = net.builder("relay-1.relay-2", "r").tls(tls).listen(url("r"));
        let relay = relay.start().await.unwrap();
        for (name, allowed) in
            [("site-1", true), ("relay-1.relay-2.site-2", true), ("server", false), ("relay-1", false)]
        {
            let peer = net.dialling(name, "it", "r").await;
            assert_eq!(is_let_in(&peer).await, allowed, "{mode} {name}");
            assert_eq!(relay.neighbours().len(), usize::from(allowed), "{mode} {name}");
            peer.shutdown(PATIENCE).await;
        }
    }
    let clear = Net::new(TlsMode::Clear, &[]);
    let _relay = clear.listening("relay-1", "r").await;
    assert!(is_let_in(&clear.dialling("server", "it", "r").await).await);
}

/// Lets in whom it was told to.
#[derive(Debug)]
struct Only(&'static str);

impl IdentityPolicy for Only {
    fn check(&self, claim: &Claim<'_>) -> Result<(), String> {
        if claim.cn == self.0 { Ok(()) } else { Err(format!("only '{}' may come", self.0)) }
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_of_ones_own_decides_alone() {
    let net = Net::new(TlsMode::Mtls, &[("hub", "server"), ("a", "friend"), ("b", "site-2")]);
    let log = Log::begin();
    let _server =
        net.builder("server", "hub").identity(Only("friend")).listen(url("hub")).start().await.unwrap();
    assert!(is_let_in(&net.dialling("site-1", "a", "hub").await).await);
    assert!(!is_let_in(&net.dialling("site-2", "b", "hub").await).await);
    assert!(log.text().contains("only 'friend' may come"), "{}", log.text());
}

/// A network in the clear whose cells may lie.
fn liars() -> Net {
    Net::new(TlsMode::Clear, &[])
}

impl Net {
    /// Lets a cell change what it sends under a topic.
    fn lie(&self, name: &str, topic: &str, change: impl Fn(&mut Headers) + Send + Sync + 'static) {
        self.lies.lock().unwrap().insert((name.into(), topic.into()), Arc::new(change));
    }

    /// A cell that listens under its name.
    async fn cell(&self, name: &str, up: &[&str]) -> Cell {
        let builder = self.builder(name, name).listen(url(name));
        let cell = up.iter().fold(builder, |builder, up| builder.dial(url(up))).start().await.unwrap();
        cell.connected().await;
        cell
    }

    /// server ← relay ← relay.site, server ← other
    async fn tree(&self) -> [Cell; 4] {
        [
            self.cell("server", &[]).await,
            self.cell("relay", &["server"]).await,
            self.cell("relay.site", &["relay"]).await,
            self.cell("other", &["server"]).await,
        ]
    }
}

/// Notes the origins of what reaches a cell.
fn origins(cell: &Cell) -> mpsc::Receiver<Fqcn> {
    let (tx, rx) = mpsc::channel(8);
    cell.handle("task", "*", move |request: Request| {
        let _ = tx.try_send(request.origin.clone());
        async { Ok::<_, HandlerError>(Message::empty()) }
    });
    rx
}

fn foreign(cell: &Cell) -> u64 {
    cell.counters().foreign_origins.get()
}

#[tokio::test(start_paused = true)]
async fn a_child_speaks_for_itself_and_below_and_for_nobody_else() {
    let net = liars();
    let [server, relay, site, other] = net.tree().await;
    let mut seen = origins(&server);
    let log = Log::begin();
    for (i, claimed) in
        ["server", "server.job", "relay", "relay.site-2", "other", "relay.sit"].into_iter().enumerate()
    {
        let topic = format!("as {claimed}");
        net.lie("relay.site", &topic, move |headers| headers.set(cn::ORIGIN, claimed));
        let ask =
            site.request(server.name(), "task", topic, Message::empty()).timeout(Duration::from_secs(1));
        assert!(ask.await.is_err(), "{claimed}");
        assert_eq!(foreign(&relay), i as u64 + 1, "{claimed}");
        assert!(log.text().contains(&format!("'relay.site' does not speak for its origin '{claimed}'")));
    }
    assert_eq!(relay.counters().dropped.get(), 6);
    net.lie("relay.site", "child", |headers| headers.set(cn::ORIGIN, "relay.site.job"));
    site.fire_and_forget(server.name(), "task", "child", Message::empty()).await.unwrap();
    assert_eq!(seen.recv().await, Some(fqcn("relay.site.job")));
    assert!(seen.try_recv().is_err(), "nothing else has arrived");
    assert_eq!((foreign(&server), foreign(&other)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_parent_speaks_for_everybody_but_me_and_below() {
    let net = liars();
    let [server, relay, site, _other] = net.tree().await;
    let mut seen = origins(&site);
    // The relay passes on what comes from above.
    for (i, claimed) in ["relay.site", "relay.site.job"].into_iter().enumerate() {
        net.lie("server", claimed, move |headers| headers.set(cn::ORIGIN, claimed));
        server.fire_and_forget(site.name(), "task", claimed, Message::empty()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        // The relay knows better than its server who is below it.
        assert_eq!((foreign(&relay), foreign(&site)), (i as u64 + 1, 0), "{claimed}");
    }
    net.lie("relay", "relay.site", |headers| headers.set(cn::ORIGIN, "relay.site"));
    relay.fire_and_forget(site.name(), "task", "relay.site", Message::empty()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(foreign(&site), 1);
    net.lie("relay", "as other", |headers| headers.set(cn::ORIGIN, "other"));
    relay.fire_and_forget(site.name(), "task", "as other", Message::empty()).await.unwrap();
    assert_eq!(seen.recv().await, Some(fqcn("other")));
}

#[tokio::test(start_paused = true)]
async fn a_child_is_a_child_even_if_it_was_dialled() {
    let net = liars();
    let site = net.cell("site-1", &[]).await;
    let server = net.cell("server", &["site-1"]).await;
    let mut seen = origins(&server);
    for (claimed, expected) in [("site-2", 1), ("site-1.job", 1)] {
        net.lie("site-1", claimed, move |headers| headers.set(cn::ORIGIN, claimed));
        site.fire_and_forget(server.name(), "task", claimed, Message::empty()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(foreign(&server), expected, "{claimed}");
    }
    assert_eq!(seen.recv().await, Some(fqcn("site-1.job")));
}

#[tokio::test(start_paused = true)]
async fn a_foreign_origin_can_be_let_through_and_is_still_counted_and_logged() {
    let mut net = liars();
    net.sim.config.origins = OriginCheck::Warn;
    let [server, relay, site, _other] = net.tree().await;
    let mut seen = origins(&server);
    let log = Log::begin();
    net.lie("relay.site", "t", |headers| headers.set(cn::ORIGIN, "other"));
    site.fire_and_forget(server.name(), "task", "t", Message::empty()).await.unwrap();
    assert_eq!(seen.recv().await, Some(fqcn("other")));
    assert_eq!((foreign(&relay), foreign(&server)), (1, 1));
    assert!(log.text().contains("origins are not enforced"), "{}", log.text());
}

#[tokio::test(start_paused = true)]
async fn a_route_that_names_the_receiver_is_no_way_round_the_check() {
    let net = liars();
    let [server, relay, site, other] = net.tree().await;
    let mut seen = origins(&server);
    let asked = Arc::new(Mutex::new(0));
    let count = asked.clone();
    relay.add_filter(Stage::Incoming, "*", "*", move |_| {
        *count.lock().unwrap() += 1;
        Ok(())
    });
    net.lie("relay.site", "t", |headers| {
        headers.set(cn::ORIGIN, "other");
        let hop = Value::Array(vec![Value::text("relay"), Value::F64(1.0)]);
        headers.set(cn::ROUTE, Value::Array(vec![hop]));
    });
    site.fire_and_forget(server.name(), "task", "t", Message::empty()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(foreign(&relay), 1);
    assert_eq!(*asked.lock().unwrap(), 0, "no filter saw it");
    assert!(seen.try_recv().is_err());
    assert_eq!(other.counters().received.get(), 0, "nobody was told on behalf of a liar");
}

#[tokio::test(start_paused = true)]
async fn a_frame_too_long_to_be_kept_needs_its_origin_too() {
    let net = liars();
    let server = net.cell("server", &[]).await;
    let small = net.builder("relay", "relay").configure(|config| config.link.max_frame = 100_000);
    let relay = small.listen(url("relay")).dial(url("server")).start().await.unwrap();
    relay.connected().await;
    let site = net.cell("relay.site", &["relay"]).await;
    let other = net.cell("other", &["server"]).await;
    net.lie("relay.site", "t", |headers| headers.set(cn::ORIGIN, "other"));
    let ask = site.request(server.name(), "task", "t", blob(200_000)).timeout(Duration::from_secs(1));
    assert!(ask.await.is_err());
    assert_eq!((relay.counters().oversize.get(), foreign(&relay)), (1, 1));
    assert_eq!(other.counters().received.get(), 0);
    let honest = site.request(server.name(), "task", "honest", blob(200_000)).await.unwrap();
    assert_eq!(honest.code().unwrap().to_string(), "msg_too_big");
}

#[tokio::test(start_paused = true)]
async fn a_loop_of_ones_own_request_is_answered_at_once() {
    let net = liars();
    let builder = |name, next| net.builder(name, name).resolver(Always(next));
    // a → b → c → a
    let a = builder("a", "b").listen(url("a")).start().await.unwrap();
    let b = builder("b", "c").listen(url("b")).dial(url("a")).start().await.unwrap();
    let c = builder("c", "a").dial(url("a")).dial(url("b")).start().await.unwrap();
    b.connected().await;
    c.connected().await;
    let began = tokio::time::Instant::now();
    for channel in ["task", "app"] {
        let reply = a.request(&fqcn("nobody"), channel, "t", Message::empty()).await.unwrap();
        assert!(reply.error().unwrap().contains("loop"), "{channel}: {:?}", reply.error());
    }
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!((foreign(&a), foreign(&b), foreign(&c)), (0, 0, 0));
}

/// Sends everything the same way.
#[derive(Debug)]
struct Always(&'static str);

impl Resolver for Always {
    fn next_hop<'a>(&self, _: &'a Fqcn, _: &'a Fqcn, _: &dyn Neighbours) -> Option<Cow<'a, str>> {
        Some(self.0.into())
    }
}

#[tokio::test(start_paused = true)]
async fn everything_honest_passes_relays() {
    let net = liars();
    let cells = net.tree().await;
    let [server, _relay, site, other] = &cells;
    for cell in [server, site, other] {
        cell.handle("task", "*", echo);
        cell.handle("app", "*", echo);
        cell.handle_stream("app", "refused", |_: IncomingStream| async { Ok(()) });
    }
    for (from, to) in [(site, server), (server, site), (site, other), (other, site)] {
        let ask = async |channel: &'static str, size| {
            let reply = from.request(to.name(), channel, "t", blob(size)).await.unwrap();
            assert_eq!(reply.payload.len(), size, "{channel} {size}");
        };
        ask("task", 10).await;
        ask("app", 10).await;
        // Many chunks, and ACKs the other way.
        ask("app", 20 << 20).await;
        // An ERROR of the receiver.
        let mut stream = from.open_stream(to.name(), "app", "refused", Headers::new(), None).unwrap();
        while stream.write(vec![1; 1 << 20]).await.is_ok() {}
    }
    // A RETURN of the relay, and one of the server.
    for target in ["relay.nobody", "nobody"] {
        let lost = other.request(&fqcn(target), "task", "t", Message::empty()).await.unwrap();
        assert_eq!(lost.code().unwrap().to_string(), "comm_error", "{target}");
    }
    for cell in &cells {
        assert_eq!(foreign(cell), 0, "{}", cell.name());
    }
}
