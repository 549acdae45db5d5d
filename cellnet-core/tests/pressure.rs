//! Full next hops, busy handlers and lost links: what waits, what passes, who is told.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use cellnet_core::{
    cell::{Cell, HandlerError, RequestError},
    message::Message,
    stream::IncomingStream,
    testkit::sim::{Sim, blob, echo, fqcn},
    wire::Headers,
};
use tokio::{sync::Semaphore, time::Instant};

/// A channel that does not stream.
const PLAIN: &str = "task";
/// A channel that does.
const STREAMED: &str = "echo";

fn code(reply: &Message) -> String {
    reply.code().expect("every reply has a code").to_string()
}

/// `server`, a relay, and three sites behind it, each with an echo.
struct Star {
    sim: Sim,
    server: Cell,
    relay: Cell,
    frozen: Cell,
    live: Cell,
}

async fn star(sim: Sim) -> Star {
    let server = sim.cell("server", &[]).await;
    let relay = sim.cell("relay", &["server"]).await;
    let frozen = sim.cell("relay.frozen", &["relay"]).await;
    let live = sim.cell("relay.live", &["relay"]).await;
    for cell in [&server, &frozen, &live] {
        cell.handle(PLAIN, "*", echo);
        cell.handle(STREAMED, "*", echo);
    }
    Star { sim, server, relay, frozen, live }
}

#[tokio::test(start_paused = true)]
async fn a_frozen_next_hop_delays_nobody_else_and_its_requests_come_back() {
    let star = star(Sim::new()).await;
    star.sim.net.freeze("relay.frozen");
    let start = Instant::now();
    // More than the wire and the relay's outbox hold, less than its park does.
    let stuck: Vec<_> = (0..12)
        .map(|_| {
            tokio::spawn(
                star.server
                    .request(star.frozen.name(), PLAIN, "t", blob(1 << 20))
                    .timeout(Duration::from_secs(60))
                    .into_future(),
            )
        })
        .collect();
    for _ in 0..50 {
        let reply = star.server.request(star.live.name(), PLAIN, "t", blob(100_000)).await.unwrap();
        assert!(reply.is_ok());
    }
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    let (mut returned, mut lost) = (0, 0);
    for stuck in stuck {
        match stuck.await.unwrap() {
            Ok(reply) => {
                assert_eq!(code(&reply), "comm_error");
                returned += 1;
            }
            // What was on the wire when the frozen neighbour was given up.
            Err(RequestError::Timeout(_)) => lost += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(returned >= 10, "{returned} came back, {lost} timed out");
    assert!(star.relay.counters().dropped.get() >= returned);
}

#[tokio::test(start_paused = true)]
async fn a_hop_that_recovers_gets_everything_in_order() {
    let star = star(Sim::new()).await;
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    star.frozen.handle(PLAIN, "note", {
        let seen = seen.clone();
        move |request| {
            seen.lock().unwrap().push(request.message.payload.as_bytes()[0]);
            async { Ok::<_, HandlerError>(Message::empty()) }
        }
    });
    star.sim.net.freeze("relay.frozen");
    let requests: Vec<_> = (0..12_u8)
        .map(|number| {
            let message = Message::new(vec![number; 1 << 20]);
            tokio::spawn(
                star.server
                    .request(star.frozen.name(), PLAIN, "note", message)
                    .timeout(Duration::from_secs(60))
                    .into_future(),
            )
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(5)).await;
    star.sim.net.thaw("relay.frozen");
    for request in requests {
        assert!(request.await.unwrap().unwrap().is_ok());
    }
    assert_eq!(*seen.lock().unwrap(), (0..12).collect::<Vec<u8>>());
}

#[tokio::test(start_paused = true)]
async fn busy_handlers_refuse_requests_and_hold_the_rest_back() {
    let sim = Sim::new().configured(|config| {
        config.handlers = 4;
        config.waiting_messages = 4;
    });
    let server = sim.cell("server", &[]).await;
    let site = sim.cell("site", &["server"]).await;
    let gate = Arc::new(Semaphore::new(0));
    let done = Arc::new(AtomicUsize::new(0));
    server.handle(PLAIN, "*", {
        let (gate, done) = (gate.clone(), done.clone());
        move |_| {
            let (gate, done) = (gate.clone(), done.clone());
            async move {
                gate.acquire().await.unwrap().forget();
                done.fetch_add(1, SeqCst);
                Ok::<_, HandlerError>(Message::empty())
            }
        }
    });
    let ask = || {
        tokio::spawn(
            site.request(server.name(), PLAIN, "t", Message::empty())
                .timeout(Duration::from_secs(60))
                .into_future(),
        )
    };
    let taken: Vec<_> = (0..6).map(|_| ask()).collect();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let refused = ask().await.unwrap().unwrap();
    assert_eq!(code(&refused), "service_unavailable");
    assert_eq!(server.counters().overloaded.get(), 1);
    // Those that nobody waits for are set aside instead, and requests that come later are still answered at once.
    for _ in 0..10 {
        site.fire_and_forget(server.name(), PLAIN, "t", Message::new("x")).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(code(&ask().await.unwrap().unwrap()), "service_unavailable");
    gate.add_permits(100);
    for reply in taken {
        assert!(reply.await.unwrap().unwrap().is_ok());
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((done.load(SeqCst), server.counters().dropped.get()), (16, 2));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_takes_is_dropped_after_the_patience() {
    let sim = Sim::new().configured(|config| {
        config.handlers = 1;
        config.waiting_messages = 1;
    });
    let server = sim.cell("server", &[]).await;
    let site = sim.cell("site", &["server"]).await;
    server.handle(PLAIN, "*", |_| std::future::pending::<Result<Message, HandlerError>>());
    for _ in 0..10 {
        site.fire_and_forget(server.name(), PLAIN, "t", Message::new("x")).await.unwrap();
    }
    tokio::time::sleep(sim.config.link.patience * 2).await;
    assert_eq!(server.counters().dropped.get(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_full_outbox_makes_the_sender_wait_and_then_fail() {
    let sim = Sim::new();
    let server = sim.cell("server", &[]).await;
    let _site = sim.cell("site", &["server"]).await;
    sim.net.partition("server", "site");
    let start = Instant::now();
    let mut outcomes = Vec::new();
    for _ in 0..8 {
        outcomes.push(server.fire_and_forget(&fqcn("site"), PLAIN, "t", blob(1 << 20)).await);
        if outcomes.last().is_some_and(Result::is_err) {
            break;
        }
    }
    assert!(matches!(outcomes.pop(), Some(Err(RequestError::NoRoom { .. }))));
    assert_eq!(start.elapsed(), sim.config.link.patience);
}

#[tokio::test(start_paused = true)]
async fn streams_to_a_frozen_hop_fail_at_both_ends_and_harm_nobody() {
    let star = star(Sim::new()).await;
    let (started, mut starts) = tokio::sync::mpsc::channel(8);
    let (failed, mut failures) = tokio::sync::mpsc::channel(8);
    star.frozen.handle_stream("bytes", "*", move |mut incoming: IncomingStream| {
        let (started, failed) = (started.clone(), failed.clone());
        async move {
            let mut begun = false;
            loop {
                match incoming.chunk().await {
                    Ok(Some(_)) if !begun => {
                        begun = true;
                        started.send(()).await.unwrap();
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => return Ok(()),
                    Err(error) => {
                        failed.send(error.to_string()).await.unwrap();
                        return Err(HandlerError::failed(error.to_string()));
                    }
                }
            }
        }
    });
    let senders: Vec<_> = (0..3)
        .map(|_| {
            let (server, target) = (star.server.clone(), star.frozen.name().clone());
            tokio::spawn(async move {
                let mut stream = server.open_stream(&target, "bytes", "t", Headers::new(), None).unwrap();
                for _ in 0..64 {
                    stream.write(vec![7; 1 << 20]).await?;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                stream.finish().await
            })
        })
        .collect();
    for _ in 0..3 {
        starts.recv().await.unwrap();
    }
    star.sim.net.freeze("relay.frozen");
    let frozen = Instant::now();
    for _ in 0..20 {
        let reply = star.server.request(star.live.name(), STREAMED, "t", blob(2 << 20)).await.unwrap();
        assert!(reply.is_ok());
    }
    assert!(frozen.elapsed() < Duration::from_secs(1), "{:?}", frozen.elapsed());
    for sender in senders {
        assert!(sender.await.unwrap().is_err());
    }
    assert!(frozen.elapsed() <= star.sim.config.link.stall, "{:?}", frozen.elapsed());
    // The receiver is told as soon as it lives again: by the relay, or by the loss of its link.
    star.sim.net.thaw("relay.frozen");
    for _ in 0..3 {
        assert!(!failures.recv().await.unwrap().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_to_a_target_that_does_not_exist_is_answered_at_once() {
    let star = star(Sim::new()).await;
    let start = Instant::now();
    for size in [10, 3 << 20] {
        let reply = star.live.request(&fqcn("server.nobody"), STREAMED, "t", blob(size)).await.unwrap();
        assert_eq!(code(&reply), "comm_error", "{size}");
    }
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_small_request_overtakes_blobs_on_the_same_link() {
    let sim = Sim::new();
    let server = sim.cell("server", &[]).await;
    let site = sim.cell("site", &["server"]).await;
    for channel in [PLAIN, STREAMED] {
        server.handle(channel, "*", echo);
    }
    // 1 MB/s, more or less: a blob takes minutes.
    sim.net.set_capacity("site", "server", 64 * 1024);
    sim.net.set_latency("site", "server", Duration::from_millis(60));
    let blob = tokio::spawn(site.request(server.name(), STREAMED, "t", blob(16 << 20)).into_future());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let start = Instant::now();
    let reply = site.request(server.name(), PLAIN, "t", Message::new("x")).await.unwrap();
    assert!(reply.is_ok() && !blob.is_finished());
    // One chunk may be in front of it, never the blob.
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(blob.await.unwrap().unwrap().is_ok());
}
