//! Who speaks for whom.

#[path = "common/badge.rs"]
mod badge;
#[path = "common/log.rs"]
mod log;

use std::{
    borrow::Cow,
    sync::{Arc, Mutex},
    time::Duration,
};

use badge::{Net, url};
use cellnet_core::{
    Fqcn,
    cell::{Cell, HandlerError, OriginCheck, Request, Stage},
    message::Message,
    route::{Neighbours, Resolver},
    stream::IncomingStream,
    testkit::sim::{blob, echo, fqcn},
    tls::TlsMode,
    wire::{Headers, Value, keys::cn},
};
use log::Log;
use tokio::sync::mpsc;
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
        let told = format!("'relay.site' does not speak for its origin '{claimed}'");
        assert!(log.count(&told) > 0, "{}", log.text());
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
