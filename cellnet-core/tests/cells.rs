//! Cells that ask, answer, relay and refuse, over `mem://` with paused time.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use cellnet_core::{
    Fqcn,
    cell::{Answer, Cell, CellEvent, HandlerError, Request, RequestError, Stage},
    message::{Message, Payload, ReturnCode},
    route::{Neighbours, Resolver},
    testkit::sim::{Sim, blob, echo, fqcn},
    wire::{Value, keys::cn},
};
use tokio::{sync::mpsc, time::Instant};

/// A channel that does not stream.
const PLAIN: &str = "task";

fn code(reply: &Message) -> String {
    reply.code().expect("every reply has a code").to_string()
}

/// server ← relay ← relay.site
async fn chain(sim: &Sim) -> (Cell, Cell, Cell) {
    let server = sim.cell("server", &[]).await;
    let relay = sim.cell("relay", &["server"]).await;
    let site = sim.cell("relay.site", &["relay"]).await;
    (server, relay, site)
}

#[tokio::test(start_paused = true)]
async fn a_request_crosses_a_relay_and_its_reply_comes_back() {
    let (server, _relay, site) = chain(&Sim::new()).await;
    server.handle(PLAIN, "*", echo);
    let reply = site.request(server.name(), PLAIN, "t", Message::new("hi")).await.unwrap();
    assert_eq!((code(&reply).as_str(), reply.payload), ("ok", Payload::from("hi")));
}

#[tokio::test(start_paused = true)]
async fn relay_keeps_unknown_headers() {
    let (server, _relay, site) = chain(&Sim::new()).await;
    server.handle(PLAIN, "*", |request: Request| async move {
        let route = request.message.headers.get(cn::ROUTE).unwrap();
        let route = route.as_array().unwrap().to_vec();
        let names: Vec<_> =
            route.iter().map(|hop| hop.as_array().unwrap()[0].as_str().unwrap().to_owned()).collect();
        let odd = request.message.headers.get("x-odd").unwrap();
        Ok::<_, HandlerError>(Message::new(names.join(">")).with_header("x-odd", odd))
    });
    let odd = Value::Map(vec![(Value::text("k"), Value::Array(vec![Value::Nil, Value::F64(0.5)]))]);
    let message = Message::empty().with_header("x-odd", odd.clone());
    let reply = site.request(server.name(), PLAIN, "t", message).await.unwrap();
    assert_eq!(reply.payload.as_bytes(), b"relay.site>relay>server");
    assert_eq!(reply.headers.get("x-odd"), Some(odd));
}

#[tokio::test(start_paused = true)]
async fn every_way_to_fail_has_its_code() {
    let (server, _relay, site) = chain(&Sim::new()).await;
    server.handle(PLAIN, "fail", |_| async { Err::<Message, _>(HandlerError::failed("on purpose")) });
    server.handle(PLAIN, "busy", |_| async { Err::<Message, _>(HandlerError::unavailable("later")) });
    server.handle(PLAIN, "panic", |_| async { panic!("in a handler") as Result<Message, HandlerError> });
    server.handle(PLAIN, "silent", |_| async { Ok::<_, HandlerError>(Answer::Deferred) });
    for (topic, expected) in [
        ("fail", "process_exception"),
        ("busy", "service_unavailable"),
        ("panic", "process_exception"),
        ("none", "process_exception"),
    ] {
        let reply = site.request(server.name(), PLAIN, topic, Message::empty()).await.unwrap();
        assert_eq!(code(&reply), expected, "{topic}");
        assert!(!reply.error().unwrap().is_empty(), "{topic}");
    }
    let start = Instant::now();
    let silent =
        site.request(server.name(), PLAIN, "silent", Message::empty()).timeout(Duration::from_secs(3)).await;
    assert!(matches!(silent, Err(RequestError::Timeout(_))));
    assert_eq!(start.elapsed(), Duration::from_secs(3));

    let lost = site.request(&fqcn("nobody.x"), PLAIN, "t", Message::empty()).await.unwrap();
    assert_eq!(code(&lost), "comm_error");
    let alone = Sim::new().cell("alone", &[]).await;
    let unreachable = alone.request(&fqcn("server"), PLAIN, "t", Message::empty()).await.unwrap_err();
    assert_eq!(unreachable.code(), ReturnCode::TARGET_UNREACHABLE);
}

#[tokio::test(start_paused = true)]
async fn a_deferred_reply_answers_several_requests_at_once() {
    let (server, _relay, site) = chain(&Sim::new()).await;
    let (ids, mut deferred) = mpsc::channel(2);
    server.handle(PLAIN, "*", move |request: Request| {
        let ids = ids.clone();
        async move {
            ids.send(request.id()).await.unwrap();
            Ok::<_, HandlerError>(Answer::Deferred)
        }
    });
    let answer = async {
        let ids = [deferred.recv().await.unwrap(), deferred.recv().await.unwrap()];
        server.send_reply(site.name(), &ids, Message::new("both")).await.unwrap();
    };
    let ask = || site.request(server.name(), PLAIN, "t", Message::empty()).into_future();
    let (first, second, ()) = tokio::join!(ask(), ask(), answer);
    for reply in [first.unwrap(), second.unwrap()] {
        assert_eq!((code(&reply).as_str(), reply.payload.as_bytes()), ("ok", &b"both"[..]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_broadcast_gives_one_outcome_for_each_target() {
    let sim = Sim::new();
    let server = sim.cell("server", &[]).await;
    let mut sites = Vec::new();
    for name in ["site-1", "site-2"] {
        let site = sim.cell(name, &["server"]).await;
        site.handle(PLAIN, "*", echo);
        sites.push(site);
    }
    let targets = [fqcn("site-1"), fqcn("site-2"), fqcn("site-3")];
    let outcomes = server.broadcast(&targets, PLAIN, "t", Message::new("all"), Duration::from_secs(1)).await;
    assert!(outcomes[..2].iter().all(|(_, reply)| reply.as_ref().unwrap().payload.as_bytes() == b"all"));
    assert!(matches!(&outcomes[2], (_, Err(RequestError::Unreachable(target))) if *target == targets[2]));
    let different = vec![(targets[0].clone(), Message::new("a")), (targets[1].clone(), Message::new("b"))];
    let outcomes = server.multi_request(different, PLAIN, "t", Duration::from_secs(1)).await;
    let texts: Vec<_> = outcomes.into_iter().map(|(_, reply)| reply.unwrap().payload.to_bytes()).collect();
    assert_eq!(texts, ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn filters_refuse_with_an_answer_and_an_interceptor_returns() {
    let (server, relay, site) = chain(&Sim::new()).await;
    server.handle(PLAIN, "*", echo);
    relay.add_filter(Stage::Incoming, "*", "*", |passing| match passing.headers.text("x-secret").is_some() {
        true => Err(Message::failure(ReturnCode::UNAUTHENTICATED, "no secrets here")),
        false => Ok(()),
    });
    server.intercept(|passing| match passing.headers.text(cn::TOPIC).is_some_and(|topic| topic == "stop") {
        true => Err(Message::failure(ReturnCode::ABORT_RUN, "intercepted")),
        false => Ok(()),
    });
    site.add_filter(Stage::OutgoingRequest, PLAIN, "bad", |_| {
        Err(Message::failure(ReturnCode::FILTER_ERROR, "never leaves"))
    });
    server.add_filter(Stage::OutgoingReply, PLAIN, "late", |_| {
        Err(Message::failure(ReturnCode::INVALID_SESSION, "replaced"))
    });
    let ask = |topic, message| site.request(server.name(), PLAIN, topic, message).into_future();
    assert_eq!(
        code(&ask("t", Message::empty().with_header("x-secret", "1")).await.unwrap()),
        "unauthenticated"
    );
    let returned = ask("stop", Message::empty()).await.unwrap();
    assert_eq!(
        (code(&returned).as_str(), returned.headers.text(cn::RETURN_REASON).unwrap()),
        ("abort_run", "intercept")
    );
    assert!(
        matches!(ask("bad", Message::empty()).await, Err(RequestError::Filtered(text)) if text == "never leaves")
    );
    assert_eq!(code(&ask("late", Message::empty()).await.unwrap()), "invalid_session");
    assert_eq!(code(&ask("t", Message::empty()).await.unwrap()), "ok");
}

#[tokio::test(start_paused = true)]
async fn routing_loop_is_returned() {
    let sim = Sim::new();
    let url = |name: &str| format!("mem://{name}").parse().unwrap();
    // a → b → c → a
    let a = sim.builder("a").resolver(Always("b")).listen(url("a")).start().await.unwrap();
    let b = sim.builder("b").resolver(Always("c")).listen(url("b")).dial(url("a")).start().await.unwrap();
    let c = sim.builder("c").resolver(Always("a")).dial(url("a")).dial(url("b")).start().await.unwrap();
    b.connected().await;
    c.connected().await;
    let reply = a.request(&fqcn("nobody"), PLAIN, "t", Message::empty()).await.unwrap();
    assert_eq!(code(&reply), "comm_error");
    assert!(reply.error().unwrap().contains("loop"), "{:?}", reply.error());
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
async fn late_reply_is_counted_not_delivered() {
    let (server, _relay, site) = chain(&Sim::new()).await;
    server.handle(PLAIN, "*", |_| async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        Ok::<_, HandlerError>(Message::empty())
    });
    let outcome =
        site.request(server.name(), PLAIN, "t", Message::empty()).timeout(Duration::from_secs(1)).await;
    assert!(matches!(outcome, Err(RequestError::Timeout(_))));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(site.counters().late_replies.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_link_fails_its_requests_at_once_and_is_dialled_again() {
    let sim = Sim::new();
    let server = sim.cell("server", &[]).await;
    server.handle(PLAIN, "slow", |request: Request| async move {
        request.cancelled().await;
        Err::<Message, _>(HandlerError::failed("nobody waits"))
    });
    server.handle(PLAIN, "*", echo);
    let site = sim.cell("site", &["server"]).await;
    let mut events = site.events();
    let ask = tokio::spawn(
        site.request(server.name(), PLAIN, "slow", Message::empty())
            .timeout(Duration::from_secs(3600))
            .into_future(),
    );
    tokio::time::sleep(Duration::from_millis(1)).await;
    sim.net.cut("site", "server");
    assert!(matches!(ask.await.unwrap(), Err(RequestError::LinkLost { .. })));
    assert!(matches!(events.next().await, Some(CellEvent::Disconnected { .. })));
    assert!(matches!(events.next().await, Some(CellEvent::Connected { .. })));
    assert!(site.request(server.name(), PLAIN, "t", Message::empty()).await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_gone_within_its_deadline() {
    let sim = Sim::new();
    let server = sim.cell("server", &[]).await;
    let _site = sim.cell("site", &["server"]).await;
    let mut events = server.events();
    let start = Instant::now();
    sim.net.partition("site", "server");
    assert!(
        matches!(events.next().await, Some(CellEvent::Disconnected { reason, .. }) if reason.contains("nothing"))
    );
    assert!(start.elapsed() <= sim.config.link.silence, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn dead_peer_does_not_stop_others() {
    let sim = Sim::new();
    let server = sim.cell("server", &[]).await;
    server.handle(PLAIN, "*", echo);
    let (frozen, live) = (sim.cell("frozen", &["server"]).await, sim.cell("live", &["server"]).await);
    frozen.handle(PLAIN, "*", echo);
    sim.net.freeze("frozen");
    let stuck: Vec<_> = (0..8)
        .map(|_| tokio::spawn(server.request(frozen.name(), PLAIN, "t", blob(1 << 20)).into_future()))
        .collect();
    let start = Instant::now();
    for _ in 0..100 {
        assert!(live.request(server.name(), PLAIN, "t", Message::new("x")).await.unwrap().is_ok());
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
    for stuck in stuck {
        assert!(stuck.await.unwrap().is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn two_processes_with_one_name_do_not_evict_each_other() {
    let sim = Sim::new();
    let server = sim.cell("server", &[]).await;
    let first = sim.cell("site", &["server"]).await;
    first.handle(PLAIN, "*", |_| async { Ok::<_, HandlerError>(Message::new("first")) });
    let second = sim.builder("site").dial("mem://server".parse().unwrap()).start().await.unwrap();
    second.handle(PLAIN, "*", |_| async { Ok::<_, HandlerError>(Message::new("second")) });
    tokio::time::sleep(Duration::from_secs(120)).await;
    let reply = server.request(first.name(), PLAIN, "t", Message::empty()).await.unwrap();
    assert_eq!(reply.payload.as_bytes(), b"first");
    assert!(!second.dial_errors().is_empty());
    sim.net.freeze("site");
}

#[tokio::test(start_paused = true)]
async fn shutdown_drains_then_ends_by_deadline() {
    let sim = Sim::new();
    let server = sim.cell("server", &[]).await;
    let site = sim.cell("site", &["server"]).await;
    let taken = Arc::new(AtomicUsize::new(0));
    server.handle(PLAIN, "count", {
        let taken = taken.clone();
        move |_| {
            taken.fetch_add(1, SeqCst);
            async { Ok::<_, HandlerError>(Message::empty()) }
        }
    });
    for _ in 0..1000 {
        site.fire_and_forget(server.name(), PLAIN, "count", Message::new("x")).await.unwrap();
    }
    let start = Instant::now();
    site.shutdown(Duration::from_secs(5)).await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(taken.load(SeqCst), 1000);

    let stuck = sim.cell("stuck", &["server"]).await;
    stuck.handle(PLAIN, "*", |_| std::future::pending::<Result<Message, HandlerError>>());
    let ask = tokio::spawn(
        server
            .request(stuck.name(), PLAIN, "t", Message::empty())
            .timeout(Duration::from_secs(60))
            .into_future(),
    );
    tokio::time::sleep(Duration::from_millis(10)).await;
    let start = Instant::now();
    stuck.shutdown(Duration::from_secs(5)).await;
    assert!(start.elapsed() <= Duration::from_secs(6), "{:?}", start.elapsed());
    assert!(matches!(ask.await.unwrap(), Err(RequestError::LinkLost { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_bye_is_answered_and_the_peer_is_told_why_the_link_ends() {
    let sim = Sim::new();
    let server = sim.cell("server", &[]).await;
    let site = sim.cell("site", &["server"]).await;
    let mut events = server.events();
    let start = Instant::now();
    site.shutdown(Duration::from_secs(5)).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert!(
        matches!(events.next().await, Some(CellEvent::Disconnected { reason, .. }) if &*reason == "peer said bye")
    );
    assert!(server.neighbours().is_empty());
}
