//! Messages that take many frames.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use cellnet::{ANY, Cell, HandlerError, Message, stream::IncomingStream, wire::Headers};
use sha2::{Digest, Sha256};
use tokio::{io::AsyncReadExt, sync::mpsc};

use crate::{
    network::Network,
    seen::{Seen, check_way},
};

const CHANNEL: &str = "model";
const BLOB: usize = 16 << 20;
const ANSWER: usize = (3 << 20) + 1;
const STREAM: usize = (5 << 20) + 1;
/// Fits into no number of chunks.
const PIECE: usize = 300_001;

/// A site sends a large request and gets a large answer.
pub(crate) async fn blob_up(network: Network) {
    blob(&network, network.site(), network.server()).await;
    network.stop().await;
}

/// So does the server.
pub(crate) async fn blob_down(network: Network) {
    blob(&network, network.server(), network.site()).await;
    network.stop().await;
}

async fn blob(network: &Network, asker: &Cell, target: &Cell) {
    let (question, answer) = (noise(BLOB), noise(ANSWER));
    let reply = answer.clone();
    let mut seen = Seen::answering(target, CHANNEL, move |_| Message::new(reply.clone()));
    let last: Arc<Mutex<_>> = Arc::default();
    let told = last.clone();
    let reply = asker
        .request(target.name(), CHANNEL, "t", Message::new(question.clone()))
        .on_progress(move |progress| *told.lock().unwrap() = progress)
        .await
        .unwrap();
    assert!(reply.is_ok(), "{:?}", reply.error());
    assert_eq!(digest(reply.payload.as_bytes()), digest(&answer));
    let request = seen.next().await;
    check_way(&request, asker.name(), &network.way(asker));
    assert_eq!(digest(request.message.payload.as_bytes()), digest(&question));
    let last = *last.lock().unwrap();
    assert_eq!((last.sent, last.to_send), (BLOB as u64, BLOB as u64));
    assert_eq!((last.received, last.to_receive), (ANSWER as u64, ANSWER as u64));
    seen.is_all();
}

/// A stream is read while it is written, and arrives whole.
pub(crate) async fn byte_stream(network: Network) {
    for (writer, reader) in network.both_ways() {
        let data = noise(STREAM);
        let (told, mut read) = mpsc::channel(2);
        reader.handle_stream("logs", ANY, move |mut stream: IncomingStream| {
            let told = told.clone();
            async move {
                let mut all = Vec::new();
                stream
                    .read_to_end(&mut all)
                    .await
                    .map_err(|error| HandlerError::failed(error.to_string()))?;
                told.send((stream.origin().clone(), stream.size(), stream.headers().clone(), all))
                    .await
                    .map_err(|error| HandlerError::failed(error.to_string()))
            }
        });
        let headers: Headers = [("of", "today")].into_iter().collect();
        let mut stream =
            writer.open_stream(reader.name(), "logs", "t", headers, Some(STREAM as u64)).unwrap();
        for at in (0..STREAM).step_by(PIECE) {
            stream.write(data.slice(at..STREAM.min(at + PIECE))).await.unwrap();
        }
        stream.finish().await.unwrap();
        let (origin, size, headers, all) = read.recv().await.unwrap();
        assert_eq!((&origin, size), (writer.name(), Some(STREAM as u64)));
        assert_eq!(headers.text("of"), Some("today"));
        assert_eq!(crate::network::hops(&headers), network.way(&writer));
        assert_eq!(digest(&all), digest(&data));
        assert!(read.try_recv().is_err(), "it came again");
    }
    network.stop().await;
}

fn digest(bytes: &[u8]) -> String {
    format!("{} bytes {:x}", bytes.len(), Sha256::digest(bytes))
}

/// Bytes in which a lost, doubled or misplaced piece shows.
pub(crate) fn noise(len: usize) -> Bytes {
    let mut state = len as u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()
    };
    let mut noise: Vec<u8> = std::iter::repeat_with(next).take(len.div_ceil(8)).flatten().collect();
    noise.truncate(len);
    noise.into()
}
