//! What one neighbour may take of the memory for streams.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use cellnet_core::{
    cell::{Cell, Passing, Stage},
    message::Message,
    stream::{IncomingStream, OutgoingStream},
    testkit::sim::{Sim, blob, echo},
    wire::Headers,
};

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

/// Everything that was sent before has arrived, and what the other end said about it.
async fn sync(from: &Cell, to: &Cell) {
    assert!(from.request(to.name(), "echo", "t", blob(1)).await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn idle_streams_of_one_neighbour_leave_memory_for_the_others() {
    let sim = Sim::new();
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
    let sim = Sim::new().configured(|config| config.handlers = 2048);
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
    while refused.load(Relaxed) < 6 {
        sync(&hog, &server).await;
    }
    sync(&hog, &server).await;
    assert_eq!(refused.load(Relaxed), 6, "half of the memory is four windows");
}
