//! Blobs and byte streams between cells that are connected in memory.

use std::{
    borrow::Cow,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use cellnet_core::{
    Fqcn,
    cell::{Cell, CellConfig, HandlerError, Request, RequestError},
    message::{Message, Payload, ReturnCode},
    route::{Neighbours, Resolver},
    stream::{IncomingStream, Progress, StreamError},
    transport::mem::MemNet,
    wire::Headers,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Notify, mpsc},
    time::Instant,
};

const MIB: usize = 1 << 20;

struct Pair {
    net: MemNet,
    server: Cell,
    site: Cell,
}

async fn pair() -> Pair {
    pair_with(|_| {}, |_| {}).await
}

async fn pair_with(server: impl FnOnce(&mut CellConfig), site: impl FnOnce(&mut CellConfig)) -> Pair {
    let net = MemNet::new();
    let hub = "mem://hub".parse().unwrap();
    let server = Cell::builder(Fqcn::server())
        .transport(net.host("hub"))
        .listen(hub)
        .configure(server)
        .start()
        .await
        .unwrap();
    let site = Cell::builder("site-1".parse().unwrap())
        .transport(net.host("site-1"))
        .dial("mem://hub".parse().unwrap())
        .configure(site)
        .start()
        .await
        .unwrap();
    site.connected().await;
    Pair { net, server, site }
}

fn echo(cell: &Cell) {
    cell.handle("app", "*", |request: Request| async move {
        Ok::<_, HandlerError>(Message { payload: request.message.payload, ..Message::empty() })
    });
}

fn data(len: usize) -> Bytes {
    (0..len).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

#[tokio::test(start_paused = true)]
async fn small_and_empty_requests_are_answered() {
    let Pair { server, site, .. } = pair().await;
    echo(&server);
    for payload in
        [Payload::Bytes("hello".into()), Payload::None, Payload::Fobs("x".into()), Payload::Bytes(data(MIB))]
    {
        let message = Message { payload: payload.clone(), ..Message::empty() };
        let reply = site.request(server.name(), "app", "x", message).await.unwrap();
        assert!(reply.is_ok());
        assert_eq!(reply.payload, payload);
        assert_eq!(reply.origin().as_ref(), Some(server.name()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_request_and_its_reply_arrive_whole_and_progress_only_grows() {
    let Pair { server, site, .. } = pair().await;
    echo(&server);
    let sent = data(64 * MIB + 1);
    let seen: Arc<Mutex<Vec<Progress>>> = Arc::default();
    let told = seen.clone();
    let reply = site
        .request(server.name(), "app", "x", Message::new(sent.clone()))
        .on_progress(move |progress| told.lock().unwrap().push(progress))
        .await
        .unwrap();
    assert!(reply.payload.as_bytes() == sent);
    let seen = seen.lock().unwrap();
    assert!(seen.is_sorted_by(|a, b| a.sent <= b.sent && a.received <= b.received));
    let last = seen.last().unwrap();
    let all = sent.len() as u64;
    assert_eq!((last.sent, last.to_send, last.received, last.to_receive), (all, all, all, all));
    assert!(seen.len() > 100, "{}", seen.len());
}

#[tokio::test(start_paused = true)]
async fn nobody_to_take_a_request_is_answered_at_once() {
    let Pair { server, site, .. } = pair().await;
    let start = Instant::now();
    for len in [3, 40 * MIB] {
        let reply = site.request(server.name(), "app", "x", Message::new(data(len))).await.unwrap();
        assert_eq!(reply.code(), Some(ReturnCode::PROCESS_EXCEPTION));
        assert!(reply.error().unwrap().contains("no handler"), "{:?}", reply.error());
    }
    let nobody = "site-9".parse().unwrap();
    let error = site.request(&nobody, "app", "x", Message::new("x")).await.unwrap_err();
    assert!(matches!(error, RequestError::Unreachable(name) if name == nobody));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_blob_above_the_limit_is_refused_before_it_is_sent() {
    let Pair { server, site, .. } =
        pair_with(|config| config.stream.max_blob = 10 * MIB as u64, |_| {}).await;
    echo(&server);
    let (moved, told) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(0)));
    let told_too = told.clone();
    let reply = site
        .request(server.name(), "app", "x", Message::new(data(60 * MIB)))
        .on_progress(move |progress| *told_too.lock().unwrap() = progress.sent)
        .await
        .unwrap();
    *moved.lock().unwrap() = *told.lock().unwrap();
    assert_eq!(reply.code(), Some(ReturnCode::MSG_TOO_BIG));
    assert!(*moved.lock().unwrap() < 20 * MIB as u64);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_request_ends_its_stream_at_the_receiver() {
    let Pair { server, site, .. } = pair_with(|_| {}, |_| {}).await;
    let (tx, mut rx) = mpsc::channel(1);
    server.handle_stream("app", "x", move |mut stream: IncomingStream| {
        let tx = tx.clone();
        async move {
            let mut outcome = stream.chunk().await;
            tx.send(Ok(())).await.unwrap();
            while let Ok(Some(_)) = outcome {
                outcome = stream.chunk().await;
            }
            tx.send(outcome.map(drop)).await.unwrap();
            Ok(())
        }
    });
    let mut stream = site.open_stream(server.name(), "app", "x", Headers::new(), None).unwrap();
    stream.write(data(3 * MIB)).await.unwrap();
    assert!(rx.recv().await.unwrap().is_ok());
    drop(stream);
    let error = rx.recv().await.unwrap().unwrap_err();
    assert!(error_text(&error).contains("sender gave up"), "{error:?}");
}

fn error_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_reader_reaches_the_writer() {
    let Pair { server, site, .. } = pair().await;
    server.handle_stream("app", "x", |mut stream: IncomingStream| async move {
        stream.chunk().await.map_err(|error| HandlerError::failed(error.to_string()))?;
        Err(HandlerError::failed("disk is full"))
    });
    let mut stream = site.open_stream(server.name(), "app", "x", Headers::new(), None).unwrap();
    let error = loop {
        if let Err(error) = stream.write(data(MIB)).await {
            break error;
        }
    };
    assert!(error_text(&error).contains("disk is full"), "{error:?}");
    let error = stream.finish().await.unwrap_err();
    assert!(matches!(error, StreamError::Send(_)));
}

#[tokio::test(start_paused = true)]
async fn a_writer_waits_for_a_slow_reader_and_all_of_it_arrives() {
    const ALL: usize = 50 * MIB;
    let Pair { server, site, .. } = pair().await;
    let (go, sent) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let (tx, mut rx) = mpsc::channel(1);
    let gate = go.clone();
    server.handle_stream("app", "x", move |mut stream: IncomingStream| {
        let (gate, tx) = (gate.clone(), tx.clone());
        async move {
            gate.notified().await;
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.map_err(|error| HandlerError::failed(error.to_string()))?;
            tx.send(all).await.unwrap();
            Ok(())
        }
    });
    let mut stream = site.open_stream(server.name(), "app", "x", Headers::new(), Some(ALL as u64)).unwrap();
    let counted = sent.clone();
    let all = data(ALL);
    let expected = all.clone();
    let writer = tokio::spawn(async move {
        for piece in all.chunks(100_000) {
            stream.write_all(piece).await.unwrap();
            counted.fetch_add(piece.len(), Relaxed);
        }
        stream.shutdown().await.unwrap();
    });
    tokio::time::sleep(Duration::from_secs(30)).await;
    let held = sent.load(Relaxed);
    assert!((16 * MIB..19 * MIB).contains(&held), "{held}");
    go.notify_one();
    assert!(rx.recv().await.unwrap() == expected);
    writer.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stream_outlives_neither_of_its_links_ends() {
    let Pair { net, server, site } = pair().await;
    let (tx, mut rx) = mpsc::channel(2);
    server.handle_stream("app", "x", move |mut stream: IncomingStream| {
        let tx = tx.clone();
        async move {
            tx.send(None).await.unwrap();
            while let Some(result) = stream.chunk().await.transpose() {
                if let Err(error) = result {
                    tx.send(Some(error)).await.unwrap();
                    break;
                }
            }
            Ok(())
        }
    });
    let mut stream = site.open_stream(server.name(), "app", "x", Headers::new(), None).unwrap();
    stream.write(data(3 * MIB)).await.unwrap();
    assert!(rx.recv().await.unwrap().is_none());
    net.cut("site-1", "hub");
    assert!(matches!(rx.recv().await.unwrap(), Some(StreamError::Carrier(_))));
    let error = loop {
        if let Err(error) = stream.write(data(MIB)).await {
            break error;
        }
    };
    assert!(matches!(error, StreamError::Carrier(RequestError::LinkLost { .. })), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn progress_moves_the_deadline_of_a_request() {
    let Pair { net, server, site } = pair().await;
    echo(&server);
    // 4 MiB a second at most, in both directions: 32 MiB there and back take longer than any single timeout.
    for (from, to) in [("site-1", "hub"), ("hub", "site-1")] {
        net.set_capacity(from, to, MIB);
        net.set_latency(from, to, Duration::from_millis(250));
    }
    let start = Instant::now();
    let sent = data(32 * MIB);
    let reply = site
        .request(server.name(), "app", "x", Message::new(sent.clone()))
        .timeout(Duration::from_secs(5))
        .await
        .unwrap();
    assert!(reply.payload.as_bytes() == sent);
    assert!(start.elapsed() > Duration::from_secs(10), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_hangs_ends_in_a_timeout_and_its_late_reply_is_counted() {
    let Pair { server, site, .. } = pair().await;
    let (go, gate) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let waiting = go.clone();
    server.handle("app", "x", move |_: Request| {
        let waiting = waiting.clone();
        async move {
            waiting.notified().await;
            Ok::<_, HandlerError>(Message::new("late"))
        }
    });
    server.handle("app", "gate", move |_: Request| {
        gate.notify_one();
        async { Ok::<_, HandlerError>(Message::empty()) }
    });
    let start = Instant::now();
    let request = site.request(server.name(), "app", "x", Message::new(data(5 * MIB)));
    let error = request.timeout(Duration::from_secs(7)).await.unwrap_err();
    assert!(matches!(error, RequestError::Timeout(_)));
    assert_eq!(start.elapsed(), Duration::from_secs(7));
    go.notify_one();
    while site.counters().late_replies.get() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(site.request(server.name(), "app", "gate", Message::empty()).await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_nobody_waits_for_is_stopped() {
    let Pair { net, server, site } = pair().await;
    net.set_capacity("hub", "site-1", 64 * 1024);
    net.set_latency("hub", "site-1", Duration::from_millis(100));
    server.handle("app", "x", |_: Request| async { Ok::<_, HandlerError>(Message::new(data(40 * MIB))) });
    let (tx, mut rx) = mpsc::channel(1);
    let request = site.request(server.name(), "app", "x", Message::empty()).on_progress(move |progress| {
        let _ = tx.try_send(progress.received);
    });
    tokio::select! {
        _ = request => panic!("too early"),
        _ = async { while rx.recv().await.unwrap() == 0 {} } => {}
    }
    let echoed = async {
        echo(&server);
        site.request(server.name(), "app", "x", Message::new("still there")).await
    };
    assert!(echoed.await.unwrap().is_ok());
    assert_eq!(server.counters().dropped.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_told_arrives_and_needs_no_reply() {
    let Pair { server, site, .. } = pair().await;
    let (tx, mut rx) = mpsc::channel(2);
    server.handle("app", "x", move |request: Request| {
        let tx = tx.clone();
        async move {
            assert!(!request.expects_reply());
            tx.send(request.message).await.unwrap();
            Ok::<_, HandlerError>(Message::empty())
        }
    });
    for len in [7, 20 * MIB] {
        let message = Message::new(data(len)).with_header("mine", "kept");
        site.fire_and_forget(server.name(), "app", "x", message).await.unwrap();
        let message = rx.recv().await.unwrap();
        assert_eq!(message.headers.text("mine"), Some("kept"));
        assert!(message.payload.as_bytes() == data(len));
    }
}

#[tokio::test(start_paused = true)]
async fn a_blob_that_memory_has_no_room_for_is_answered() {
    let Pair { server, site, .. } = pair_with(|config| config.blob_budget = 8 * MIB, |_| {}).await;
    echo(&server);
    let reply = site.request(server.name(), "app", "x", Message::new(data(30 * MIB))).await.unwrap();
    assert_eq!(reply.code(), Some(ReturnCode::SERVICE_UNAVAILABLE));
    let reply = site.request(server.name(), "app", "x", Message::new(data(7 * MIB))).await.unwrap();
    assert!(reply.is_ok(), "what was refused holds no memory");
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_streams() {
    let Pair { server, site, .. } = pair().await;
    let (tx, mut rx) = mpsc::channel(2);
    server.handle_stream("app", "x", move |mut stream: IncomingStream| {
        let tx = tx.clone();
        async move {
            while let Ok(Some(_)) = stream.chunk().await {
                tx.send(()).await.unwrap();
            }
            Ok(())
        }
    });
    let mut stream = site.open_stream(server.name(), "app", "x", Headers::new(), None).unwrap();
    stream.write(data(2 * MIB)).await.unwrap();
    rx.recv().await.unwrap();
    let start = Instant::now();
    server.shutdown(Duration::from_secs(2)).await;
    assert!(start.elapsed() <= Duration::from_secs(3));
    while stream.write(data(MIB)).await.is_ok() {}
}

/// Neighbours, and else over the relay.
#[derive(Debug)]
struct ByRelay;

impl Resolver for ByRelay {
    fn next_hop<'a>(
        &self,
        me: &'a Fqcn,
        target: &'a Fqcn,
        neighbours: &dyn Neighbours,
    ) -> Option<Cow<'a, str>> {
        let known = [target.as_str(), "relay"].into_iter().find(|name| neighbours.contains(name));
        known.filter(|_| me.as_str() != "relay" || neighbours.contains(target.as_str())).map(Cow::Borrowed)
    }
}

#[tokio::test(start_paused = true)]
async fn streams_pass_a_relay_and_a_target_behind_it_that_is_gone_is_answered_at_once() {
    let net = MemNet::new();
    let builder =
        |name: &str| Cell::builder(name.parse().unwrap()).transport(net.host(name)).resolver(ByRelay);
    let relay = builder("relay").listen("mem://relay".parse().unwrap()).start().await.unwrap();
    let one = builder("one").dial("mem://relay".parse().unwrap()).start().await.unwrap();
    let two = builder("two").dial("mem://relay".parse().unwrap()).start().await.unwrap();
    one.connected().await;
    two.connected().await;
    echo(&two);
    let sent = data(30 * MIB);
    let reply = one.request(two.name(), "app", "x", Message::new(sent.clone())).await.unwrap();
    assert!(reply.payload.as_bytes() == sent);
    let start = Instant::now();
    for len in [3, 30 * MIB] {
        let nobody = "nobody".parse().unwrap();
        let reply = one.request(&nobody, "app", "x", Message::new(data(len))).await.unwrap();
        assert_eq!(reply.code(), Some(ReturnCode::COMM_ERROR));
        assert_eq!(reply.origin().as_ref(), Some(relay.name()));
        let told = one.fire_and_forget(&nobody, "app", "x", Message::new(data(len))).await;
        assert_eq!(told.is_err(), len > MIB, "{told:?}");
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn one_broadcast_streams_to_several_targets() {
    let net = MemNet::new();
    let hub = || "mem://hub".parse().unwrap();
    let server =
        Cell::builder(Fqcn::server()).transport(net.host("hub")).listen(hub()).start().await.unwrap();
    let mut sites = Vec::new();
    for name in ["a", "b", "c"] {
        let site = Cell::builder(name.parse().unwrap()).transport(net.host(name)).dial(hub());
        let site = site.start().await.unwrap();
        site.connected().await;
        site.handle("app", "x", move |_: Request| async move { Ok::<_, HandlerError>(Message::new(name)) });
        sites.push(site);
    }
    let targets: Vec<_> = sites.iter().map(|site| site.name().clone()).collect();
    let message = Message::new(data(3 * MIB));
    let replies = server.broadcast(&targets, "app", "x", message, Duration::from_secs(5)).await;
    for (target, reply) in replies {
        assert_eq!(reply.unwrap().payload.as_bytes(), target.as_str().as_bytes());
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_told_waits_for_busy_handlers_and_what_is_asked_is_answered() {
    let busy = |config: &mut CellConfig| (config.handlers, config.waiting_messages) = (1, 1);
    let Pair { server, site, .. } = pair_with(busy, |_| {}).await;
    let (go, (tx, mut rx)) = (Arc::new(Notify::new()), mpsc::channel(4));
    let gate = go.clone();
    server.handle("app", "x", move |request: Request| {
        let (gate, tx) = (gate.clone(), tx.clone());
        async move {
            gate.notified().await;
            tx.send(request.message.payload.len()).await.unwrap();
            Ok::<_, HandlerError>(Message::empty())
        }
    });
    let lens = [1, 2, 2 * MIB, 3 * MIB];
    for len in lens {
        site.fire_and_forget(server.name(), "app", "x", Message::new(data(len))).await.unwrap();
    }
    for len in [3, 2 * MIB] {
        let reply = site.request(server.name(), "app", "x", Message::new(data(len))).await.unwrap();
        assert_eq!(reply.code(), Some(ReturnCode::SERVICE_UNAVAILABLE));
    }
    let mut seen = Vec::new();
    for _ in lens {
        go.notify_one();
        seen.push(rx.recv().await.unwrap());
    }
    seen.sort_unstable();
    assert_eq!(seen, lens);
}
