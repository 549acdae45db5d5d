//! Streams at their limits: what one neighbour may take of the memory, and a link without room.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use cellnet_core::{
    cell::{Cell, Passing, Stage},
    message::Message,
    stream::{IncomingStream, OutgoingStream},
    testkit::sim::{Sim, blob, echo},
    wire::Headers,
};
use tokio::sync::Notify;

/// Counts the errors with this text that a cell is told about its streams.
fn count_refusals(cell: &Cell, text: &'static str) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    cell.add_filter(Stage::Incoming, "sm__STREAM", "sm__ACK", move |passing: &mut Passing<'_>| {
        if passing.headers.text("sm__em").is_some_and(|error| error.contains(text)) {
            counted.fetch_add(1, Relaxed);
        }
        Ok(())
    });
    count
}

/// A cell that reads byte streams and echoes blobs, one neighbour that means no good and one that does.
async fn three(sim: &Sim) -> [Cell; 3] {
    let server = sim.cell("server", &[]).await;
    server.handle("echo", "*", echo);
    server.handle_stream("bytes", "*", |mut stream: IncomingStream| async move {
        while let Ok(Some(_)) = stream.chunk().await {}
        Ok(())
    });
    [server, sim.cell("hog", &["server"]).await, sim.cell("site", &["server"]).await]
}

/// Begins a stream and sends one byte.
async fn begin(from: &Cell, to: &Cell, size: Option<u64>) -> OutgoingStream {
    let mut stream = from.open_stream(to.name(), "bytes", "t", Headers::new(), size).unwrap();
    stream.write("x").await.unwrap();
    stream.flush().await.unwrap();
    stream
}

/// Everything that was sent before has arrived, and what the other end said about it: this is bulk, as they are, and
/// overtakes none of it.
async fn sync(from: &Cell, to: &Cell) {
    let reply = from.request(to.name(), "task", "nobody", blob(100_000)).await.unwrap();
    assert_eq!(reply.error(), Some("no handler for 'task' 'nobody'"));
}

#[tokio::test(start_paused = true)]
async fn idle_streams_of_one_neighbour_leave_memory_for_the_others() {
    let sim = Sim::new().configured(|config| config.stream_budget = 256 << 20);
    let [server, hog, site] = three(&sim).await;
    let refused = count_refusals(&hog, "streams by 'hog' have 134217728 in all");
    let mut streams = Vec::new();
    for _ in 0..16 {
        streams.push(begin(&hog, &server, None).await);
    }
    sync(&hog, &server).await;
    assert_eq!(refused.load(Relaxed), 8);
    assert!(site.request(server.name(), "echo", "t", blob(3 << 20)).await.unwrap().is_ok());
    drop(streams);
    sync(&hog, &server).await;
    let reply = hog.request(server.name(), "echo", "t", blob(3 << 20)).await.unwrap();
    assert!(reply.is_ok(), "what ended counts no more: {:?}", reply.error());
}

#[tokio::test(start_paused = true)]
async fn streams_of_one_neighbour_are_bounded_in_number() {
    let sim = Sim::new().configured(|config| config.handlers = 4096);
    let [server, hog, site] = three(&sim).await;
    let refused = count_refusals(&hog, "too many streams, 1024 are arriving by 'hog' already");
    let mut streams = Vec::new();
    for _ in 0..1026 {
        streams.push(begin(&hog, &server, Some(2)).await);
    }
    sync(&hog, &server).await;
    assert_eq!(refused.load(Relaxed), 2);
    assert!(site.request(server.name(), "echo", "t", blob(3 << 20)).await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_chunk_that_is_not_the_first_takes_a_whole_window_whatever_it_claims() {
    let sim = Sim::new().configured(|config| {
        config.stream.recv_window = 1 << 20;
        config.stream_budget = 8 << 20;
    });
    let [server, hog, _] = three(&sim).await;
    let refused = count_refusals(&hog, "no memory for 1048576 bytes of a stream");
    hog.add_filter(Stage::OutgoingRequest, "task", "raw", |passing: &mut Passing<'_>| {
        passing.headers.set("cn__channel", "sm__STREAM");
        passing.headers.set("cn__topic", "sm__DATA");
        Ok(())
    });
    for id in 1..=10_u64 {
        let mut message = Message::new(vec![1; 1 << 20]);
        message.headers.set("sm__id", id);
        message.headers.set("sm__dt", 1_i64);
        message.headers.set("sm__sq", 1_i64);
        message.headers.set("sm__os", 0_i64);
        message.headers.set("sm__sz", 1_i64);
        message.headers.set("sm__ch", "echo");
        message.headers.set("sm__tp", "t");
        hog.fire_and_forget(server.name(), "task", "raw", message).await.unwrap();
    }
    // These are large, so the small ones overtake them.
    for _ in 0..100 {
        sync(&hog, &server).await;
    }
    assert_eq!(refused.load(Relaxed), 6, "half of the memory is four windows");
}

/// The sender's window is full, so nothing else would ever make the receiver speak again.
#[tokio::test(start_paused = true)]
async fn an_ack_that_found_no_room_for_long_is_sent_at_last() {
    let sim = Sim::new().configured(|config| config.link.outbox_messages = 4);
    let server = sim.cell("server", &[]).await;
    let site = sim.cell("site", &["server"]).await;
    let patience = sim.config.link.patience;
    let (gate, read) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let (opened, counted) = (gate.clone(), read.clone());
    server.handle_stream("bytes", "*", move |mut stream: IncomingStream| {
        let (opened, counted) = (opened.clone(), counted.clone());
        async move {
            opened.notified().await;
            while let Ok(Some(data)) = stream.chunk().await {
                counted.fetch_add(data.len(), Relaxed);
            }
            Ok(())
        }
    });
    let mut stream = site.open_stream(server.name(), "bytes", "t", Headers::new(), None).unwrap();
    let sending = tokio::spawn(async move {
        stream.write(vec![7; 40 << 20]).await?;
        stream.finish().await
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    sim.net.set_capacity("server", "site", 1024);
    sim.net.partition("server", "site");
    let fillers: Vec<_> = (0..20)
        .map(|_| {
            let (server, site) = (server.clone(), site.name().clone());
            tokio::spawn(async move { server.fire_and_forget(&site, "task", "t", Message::new("x")).await })
        })
        .collect();
    tokio::time::sleep(patience + Duration::from_secs(1)).await;
    let mut stuck = 0;
    for filler in fillers {
        stuck += usize::from(filler.await.unwrap().is_err());
    }
    assert!(stuck > 0, "the way back is not full");
    gate.notify_one();
    tokio::time::sleep(patience + Duration::from_secs(1)).await;
    assert_eq!(read.load(Relaxed), 17 << 20, "a window and a chunk");
    sim.net.heal("server", "site");
    sending.await.unwrap().unwrap();
    while read.load(Relaxed) < 40 << 20 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
