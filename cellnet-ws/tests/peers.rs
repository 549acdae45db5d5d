//! Another implementation at the far end, and every way to cut messages.

mod common;

use cellnet_core::{
    stats::Budget,
    transport::{Batch, Bind, Connection, Frame, Target, Transport, TransportError},
    wire::Prefix,
};
use cellnet_ws::Ws;
use futures_util::{SinkExt, StreamExt};
use proptest::prelude::*;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

use common::{UPGRADE, ask, ws_frame};

fn frame(number: usize, len: usize) -> Frame {
    let mut bytes = bytes::BytesMut::new();
    Prefix { length: 16 + len as u32, kind: 1, ..Prefix::default() }.encode(&mut bytes);
    bytes.extend((0..len).map(|i| (i * 31 + number) as u8));
    Frame::split(bytes.freeze()).unwrap()
}

fn whole(frame: &Frame) -> Vec<u8> {
    [&frame.head()[..], &frame.body()[..]].concat()
}

/// Our listener and a TCP connection to it.
async fn listened() -> (TcpStream, cellnet_core::transport::Accepting) {
    let bind = Bind::new("http://127.0.0.1:0".parse().unwrap(), Budget::new(512 << 20));
    let mut listener = Ws::new().listen(&bind).await.unwrap();
    let raw = TcpStream::connect(("127.0.0.1", listener.local_url().port().unwrap())).await.unwrap();
    (raw, listener.accept().await.unwrap())
}

async fn with_tungstenite_client() -> (Connection, WebSocketStream<TcpStream>) {
    let (raw, accepting) = listened().await;
    let (theirs, ours) = tokio::join!(tokio_tungstenite::client_async("ws://127.0.0.1/f3", raw), accepting);
    (ours.unwrap(), theirs.unwrap().0)
}

async fn with_tungstenite_server() -> (Connection, WebSocketStream<TcpStream>) {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", server.local_addr().unwrap());
    let target = Target::new(url.parse().unwrap(), Budget::new(512 << 20));
    let serve = async { tokio_tungstenite::accept_async(server.accept().await.unwrap().0).await.unwrap() };
    let ws = Ws::new();
    let (theirs, ours) = tokio::join!(serve, ws.connect(&target));
    (ours.unwrap(), theirs)
}

async fn exchange(mut ours: Connection, theirs: WebSocketStream<TcpStream>) {
    ours.control.rx.set_max_frame(32 << 20);
    let sizes = [0, 1, 100, 109, 110, 4095, 4096, 65_519, 65_520, 70_000, 300_000, 1 << 20, 12 << 20];
    let frames: Vec<Frame> = sizes.iter().enumerate().map(|(i, &len)| frame(i, len)).collect();
    let (mut to, mut from) = theirs.split();
    let send = async {
        let mut batch: Batch = frames.iter().cloned().collect();
        while !batch.is_empty() {
            ours.control.tx.feed(&mut batch);
            ours.control.tx.flush().await.unwrap();
        }
    };
    let receive = async {
        for frame in &frames {
            let message = from.next().await.unwrap().unwrap();
            assert!(matches!(message, Message::Binary(_)) && message.into_data() == whole(frame));
        }
    };
    tokio::join!(send, receive);
    let send = async {
        for frame in &frames {
            to.send(Message::Ping(vec![1, 2].into())).await.unwrap();
            to.send(Message::binary(whole(frame))).await.unwrap();
        }
    };
    let receive = async {
        let mut batch = Batch::new();
        while batch.len() < frames.len() {
            ours.control.rx.recv(&mut batch).await.unwrap();
        }
        assert!(batch == frames, "frames changed");
    };
    tokio::join!(send, receive);
    let mut theirs = to.reunite(from).unwrap();
    ours.control.tx.close().await.unwrap();
    loop {
        match theirs.next().await {
            Some(Ok(Message::Pong(_))) => {}
            Some(Ok(Message::Close(Some(close)))) => break assert_eq!(u16::from(close.code), 1000),
            other => panic!("{other:?}"),
        }
    }
    let mut batch = Batch::new();
    let ended = tokio::select! {
        ended = ours.control.rx.recv(&mut batch) => ended,
        // Sends the answer; then there is nothing to read, or nobody.
        Some(message) = theirs.next() => panic!("{message:?}"),
    };
    assert!(matches!(ended, Err(TransportError::Closed)), "{ended:?}");
}

#[tokio::test]
async fn a_tungstenite_client_understands_and_is_understood() {
    let (ours, theirs) = with_tungstenite_client().await;
    exchange(ours, theirs).await;
}

#[tokio::test]
async fn a_tungstenite_server_understands_and_is_understood() {
    let (ours, theirs) = with_tungstenite_server().await;
    exchange(ours, theirs).await;
}

#[tokio::test]
async fn the_close_of_a_peer_is_answered_and_ends_in_order() {
    let (mut ours, mut theirs) = with_tungstenite_server().await;
    let closing = async {
        theirs.close(None).await.unwrap();
        while theirs.next().await.is_some() {}
    };
    let reading = async {
        let end = ours.control.rx.recv(&mut Batch::new()).await;
        assert!(matches!(end, Err(TransportError::Closed)), "{end:?}");
        ours.control.tx.feed(&mut Batch::from([frame(1, 1)]));
        assert!(ours.control.tx.flush().await.is_err(), "nobody reads this");
        ours.control.tx.close().await.unwrap();
        drop(ours);
    };
    tokio::join!(closing, reading);
}

#[tokio::test]
async fn a_message_of_256_mib_passes_in_both_directions() {
    let bind = Bind::new("ws://127.0.0.1:0".parse().unwrap(), Budget::new(600 << 20));
    let mut listener = Ws::new().listen(&bind).await.unwrap();
    let target = Target::new(listener.local_url().clone(), Budget::new(600 << 20));
    let ws = Ws::new();
    let (here, there) = tokio::join!(ws.connect(&target), async { listener.accept().await.unwrap().await });
    let (mut here, mut there) = (here.unwrap(), there.unwrap());
    here.control.rx.set_max_frame(256 << 20);
    there.control.rx.set_max_frame(256 << 20);
    let sent = frame(1, (256 << 20) - 16);
    for _ in 0..2 {
        let send = async {
            here.control.tx.feed(&mut Batch::from([sent.clone()]));
            here.control.tx.flush().await.unwrap();
        };
        let mut batch = Batch::new();
        let (received, ()) = tokio::join!(there.control.rx.recv(&mut batch), send);
        received.unwrap();
        assert!(batch[0] == sent, "it changed");
        std::mem::swap(&mut here, &mut there);
    }
}

/// Frames of these sizes, cut into fragments and writes of these sizes, taken in turn.
async fn round_trip(sizes: Vec<usize>, fragments: Vec<usize>, writes: Vec<usize>) {
    let (mut raw, accepting) = listened().await;
    let (answer, accepted) = tokio::join!(ask(&mut raw, UPGRADE), accepting);
    assert!(answer.unwrap().starts_with("HTTP/1.1 101"));
    let mut ours = accepted.unwrap();
    ours.control.rx.set_max_frame(1 << 20);
    let frames: Vec<Frame> = sizes.iter().enumerate().map(|(i, &len)| frame(i, len)).collect();
    let (mut bytes, mut turn) = (Vec::new(), fragments.iter().cycle());
    for frame in &frames {
        let message = whole(frame);
        let (mut rest, mut first) = (&message[..], 2);
        while !rest.is_empty() || first == 2 {
            let (part, after) = rest.split_at((*turn.next().unwrap()).min(rest.len()));
            let last = if after.is_empty() { 0x80 } else { 0 };
            bytes.extend(ws_frame(last | first, part, Some([1, 2, 3, part.len() as u8])));
            (rest, first) = (after, 0);
        }
    }
    let write = async {
        let (mut rest, mut turn) = (&bytes[..], writes.iter().cycle());
        while !rest.is_empty() {
            let (part, after) = rest.split_at((*turn.next().unwrap()).min(rest.len()));
            raw.write_all(part).await.unwrap();
            tokio::task::yield_now().await;
            rest = after;
        }
    };
    let mut batch = Batch::new();
    let read = async {
        while batch.len() < frames.len() {
            ours.control.rx.recv(&mut batch).await.unwrap();
        }
    };
    tokio::join!(write, read);
    assert!(batch == frames, "frames changed");
    assert_eq!(ours.info.meter.rx(), bytes.len() as u64);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn messages_are_whole_however_they_are_cut(
        sizes in prop::collection::vec(prop_oneof![0..200_usize, 0..5000_usize, 30_000..70_000_usize], 1..8),
        fragments in prop::collection::vec(prop_oneof![1..40_usize, 100..5000_usize, 20_000..90_000_usize], 3..12)
            .prop_filter("not a flood", |sizes| sizes.iter().max() > Some(&1000)),
        writes in prop::collection::vec(prop_oneof![1..20_usize, 20..3000_usize, 60_000..100_000_usize], 3..12)
            .prop_filter("not byte by byte", |sizes| sizes.iter().max() > Some(&1000)),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(round_trip(sizes, fragments, writes));
    }
}
