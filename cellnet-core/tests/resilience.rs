//! Slow links, stopping cells, filters that panic, neighbours that lie: what a cell survives, and who is told.

use std::time::Duration;

use bytes::BytesMut;
use cellnet_core::{
    cell::{Cell, CellEvent, HandlerError, Request, RequestError, Stage},
    message::Message,
    stream::IncomingStream,
    testkit::sim::{Sim, blob, echo, fqcn},
    wire::{FrameKind, Headers, Prefix, Value, hello::Hello},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

/// A channel that does not stream.
const PLAIN: &str = "task";
/// A channel that does.
const STREAMED: &str = "echo";

/// Answers with the length of the payload.
async fn measure(request: Request) -> Result<Message, HandlerError> {
    Ok(Message::new(request.message.payload.len().to_string()))
}

async fn pair(sim: &Sim) -> (Cell, Cell) {
    (sim.cell("server", &[]).await, sim.cell("site", &["server"]).await)
}

fn code(reply: &Message) -> String {
    reply.code().expect("every reply has a code").to_string()
}

/// 64 KB/s: a chunk takes 16 s, longer than the patience and the timeout of the request.
fn slow_down(sim: &Sim, from: &str, to: &str) {
    sim.net.set_capacity(from, to, 64 * 1024);
    sim.net.set_latency(from, to, Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_slow_link_carries_blobs() {
    let sim = Sim::new();
    let (server, site) = pair(&sim).await;
    server.handle(STREAMED, "*", measure);
    slow_down(&sim, "site", "server");
    let reply =
        site.request(server.name(), STREAMED, "t", blob(12 << 20)).timeout(Duration::from_secs(120)).await;
    assert_eq!(reply.unwrap().payload.as_bytes(), (12 << 20).to_string().as_bytes());
}

#[tokio::test(start_paused = true)]
async fn a_slow_link_behind_a_relay_carries_blobs() {
    let sim = Sim::new();
    let server = sim.cell("server", &[]).await;
    let _relay = sim.cell("relay", &["server"]).await;
    let slow = sim.cell("relay.slow", &["relay"]).await;
    slow.handle(STREAMED, "*", measure);
    slow_down(&sim, "relay", "relay.slow");
    let reply =
        server.request(slow.name(), STREAMED, "t", blob(12 << 20)).timeout(Duration::from_secs(600)).await;
    assert!(reply.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_live_holder_on_a_slow_link_keeps_its_name() {
    let sim = Sim::new();
    let (server, first) = pair(&sim).await;
    first.handle(STREAMED, "*", measure);
    sim.net.set_capacity("server", "site", 64 * 1024);
    sim.net.set_latency("server", "site", Duration::from_millis(250));
    let bulk = tokio::spawn(server.request(first.name(), STREAMED, "t", blob(8 << 20)).into_future());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let second = Cell::builder(fqcn("site"))
        .transport(sim.net.host("elsewhere"))
        .dial("mem://server".parse().unwrap())
        .start()
        .await
        .unwrap();
    assert!(bulk.await.unwrap().unwrap().is_ok());
    assert!(second.neighbours().is_empty() && !second.dial_errors().is_empty());
}

#[tokio::test(start_paused = true)]
async fn only_a_neighbour_itself_can_take_leave() {
    let sim = Sim::new();
    let server = sim.cell("server", &[]).await;
    let _relay = sim.cell("relay", &["server"]).await;
    let site = sim.cell("relay.site", &["relay"]).await;
    let other = sim.cell("relay.other", &["relay"]).await;
    other.handle(PLAIN, "*", echo);
    site.add_filter(Stage::OutgoingRequest, PLAIN, "disguise", |passing| {
        passing.headers.set("cn__channel", "cellnet.channel");
        passing.headers.set("cn__topic", "bye");
        Ok(())
    });
    site.fire_and_forget(server.name(), PLAIN, "disguise", Message::empty()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(server.request(other.name(), PLAIN, "t", Message::empty()).await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn filters_that_panic_refuse_and_nothing_else_breaks() {
    let sim = Sim::new().configured(|config| config.handlers = 2);
    let (server, site) = pair(&sim).await;
    server.handle(PLAIN, "*", echo);
    for stage in [Stage::Incoming, Stage::IncomingRequest, Stage::OutgoingReply] {
        let topic = format!("{stage:?}");
        server.add_filter(stage, PLAIN, &topic, |_| panic!("in a filter"));
        for _ in 0..4 {
            let reply = site.request(server.name(), PLAIN, topic.clone(), Message::empty()).await.unwrap();
            assert_eq!(code(&reply), "process_exception", "{topic}");
        }
    }
    assert!(site.request(server.name(), PLAIN, "t", Message::empty()).await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_half_sent_frame_holds_up_nobody_else() {
    let sim = Sim::new().configured(|config| {
        config.frame_budget = 16 << 20;
        config.link.max_frame = 16 << 20;
    });
    let (server, site) = pair(&sim).await;
    server.handle(PLAIN, "*", measure);
    let (mut rx, mut tx) = sim.net.connect_raw(&"mem://server".parse().unwrap()).await.unwrap();
    let hello = Hello { name: "hog".into(), cellnet: None, timestamp: 1.0 }.encode();
    let mut out = BytesMut::new();
    let length = 16 + hello.len() as u32;
    Prefix { length, kind: FrameKind::Hello.code(), ..Prefix::default() }.encode(&mut out);
    out.extend_from_slice(&hello);
    tx.write_all(&out).await.unwrap();
    let _ready = rx.read(&mut [0; 4096]).await.unwrap();
    out.clear();
    Prefix { length: 16 << 20, kind: 1, app_id: 1, ..Prefix::default() }.encode(&mut out);
    tx.write_all(&out).await.unwrap();
    tx.write_all(&vec![0; (4 << 20) + 70_000]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    for _ in 0..5 {
        let reply =
            site.request(server.name(), PLAIN, "t", blob(300_000)).timeout(Duration::from_secs(1)).await;
        assert!(reply.unwrap().is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn replies_that_do_not_fit_are_reported() {
    let sim = Sim::new().configured(|config| config.link.max_frame = 100_000);
    let (server, site) = pair(&sim).await;
    server.handle(PLAIN, "text", |_| async { Err::<Message, _>(HandlerError::failed("x".repeat(70_000))) });
    server.handle(PLAIN, "body", |_| async { Ok::<_, HandlerError>(blob(200_000)) });
    for topic in ["text", "body"] {
        let reply = site.request(server.name(), PLAIN, topic, Message::empty()).await.unwrap();
        assert_eq!(code(&reply), "msg_too_big", "{topic}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_park_does_not_delay_dialling_again() {
    let sim = Sim::new();
    let server = sim.cell("server", &[]).await;
    let _relay = sim.cell("relay", &["server"]).await;
    let frozen = sim.cell("relay.frozen", &["relay"]).await;
    sim.net.freeze("relay.frozen");
    for _ in 0..12 {
        server.fire_and_forget(frozen.name(), PLAIN, "t", blob(1 << 20)).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut events = server.events();
    let start = Instant::now();
    sim.net.cut("relay", "server");
    while !matches!(events.next().await, Some(CellEvent::Connected { .. })) {}
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

/// Several unpaced streams fill what the relay may set aside; a hop that moves nothing is then given up soon.
#[tokio::test(start_paused = true)]
async fn streams_to_a_frozen_hop_hold_up_others_briefly_at_most() {
    let sim = Sim::new();
    let server = sim.cell("server", &[]).await;
    let _relay = sim.cell("relay", &["server"]).await;
    let frozen = sim.cell("relay.frozen", &["relay"]).await;
    let live = sim.cell("relay.live", &["relay"]).await;
    live.handle(PLAIN, "*", echo);
    frozen.handle_stream("bytes", "*", |mut stream: IncomingStream| async move {
        while let Ok(Some(_)) = stream.chunk().await {}
        Ok(())
    });
    sim.net.freeze("relay.frozen");
    let senders: Vec<_> = (0..4)
        .map(|_| {
            let (server, target) = (server.clone(), frozen.name().clone());
            tokio::spawn(async move {
                let mut stream = server.open_stream(&target, "bytes", "t", Headers::new(), None).unwrap();
                for _ in 0..64 {
                    stream.write(vec![7; 1 << 20]).await?;
                }
                stream.finish().await
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let start = Instant::now();
    assert!(server.request(live.name(), PLAIN, "t", Message::new("x")).await.unwrap().is_ok());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    for sender in senders {
        assert!(sender.await.unwrap().is_err());
    }
    assert!(start.elapsed() <= sim.config.link.stall, "{:?}", start.elapsed());
    assert!(server.request(live.name(), PLAIN, "t", blob(1 << 20)).await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_cell_that_stops_serves_what_waits() {
    let sim = Sim::new().configured(|config| config.handlers = 1);
    let (server, site) = pair(&sim).await;
    server.handle(PLAIN, "*", |_| async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok::<_, HandlerError>(Message::empty())
    });
    let asks: Vec<_> = (0..5)
        .map(|_| tokio::spawn(site.request(server.name(), PLAIN, "t", Message::empty()).into_future()))
        .collect();
    tokio::time::sleep(Duration::from_millis(10)).await;
    server.shutdown(Duration::from_secs(5)).await;
    for ask in asks {
        assert!(ask.await.unwrap().unwrap().is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn requests_to_oneself_are_bounded_too() {
    let sim = Sim::new().configured(|config| {
        config.handlers = 1;
        config.waiting_messages = 4;
    });
    let server = sim.cell("server", &[]).await;
    server.handle(PLAIN, "*", |_| std::future::pending::<Result<Message, HandlerError>>());
    for _ in 0..5 {
        server.fire_and_forget(server.name(), PLAIN, "t", Message::empty()).await.unwrap();
    }
    let told = server.fire_and_forget(server.name(), PLAIN, "t", Message::empty()).await;
    assert!(matches!(told, Err(RequestError::NoRoom { .. })), "{told:?}");
    let asked = server.request(server.name(), PLAIN, "t", Message::empty()).await;
    assert!(matches!(asked, Err(RequestError::NoRoom { .. })), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_cell_ends_whoever_holds_it() {
    let sim = Sim::new();
    let (server, site) = pair(&sim).await;
    let held = site.clone();
    site.cancel();
    let mut events = server.events();
    assert!(matches!(events.next().await, Some(CellEvent::Disconnected { .. })));
    assert!(held.request(server.name(), PLAIN, "t", Message::empty()).await.is_err());
    let again = sim.cell("site", &["server"]).await;
    assert_eq!(again.neighbours(), [fqcn("server")]);
}

#[tokio::test(start_paused = true)]
async fn headers_that_wait_count_too() {
    for (channel, size) in [(PLAIN, 1), (STREAMED, 1), (STREAMED, 2 << 20)] {
        let sim = Sim::new().configured(|config| {
            config.handlers = 1;
            config.waiting_bytes = 100 * 1024;
        });
        let (server, site) = pair(&sim).await;
        server.handle(channel, "*", |_| std::future::pending::<Result<Message, HandlerError>>());
        let crowd = Value::Bin(vec![0; 40 * 1024].into());
        let mut refused = 0;
        for _ in 0..8 {
            let message = blob(size).with_header("x-crowd", crowd.clone());
            let asked =
                site.request(server.name(), channel, "t", message).timeout(Duration::from_secs(1)).await;
            refused += usize::from(asked.is_ok_and(|reply| code(&reply) == "service_unavailable"));
        }
        // One runs and two wait.
        assert_eq!(refused, 5, "{channel} {size}");
    }
}
