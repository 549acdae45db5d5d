use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::{
    transport::{Batch, FrameReceiver, FrameSender, TransportError},
    wire::{Frame, Prefix, PrefixError},
};

/// A frame of `head_len` and `body_len` bytes, marked by `sequence`.
fn frame(sequence: u16, head_len: usize, body_len: usize) -> Frame {
    let length = (head_len + body_len) as u32;
    Frame::new(head(sequence, head_len, length), vec![sequence as u8; body_len].into())
}

/// A head that claims `length`.
fn head(sequence: u16, head_len: usize, length: u32) -> Bytes {
    let mut head = BytesMut::new();
    Prefix { length, header_len: (head_len - 16) as u16, kind: 1, sequence, ..Prefix::default() }
        .encode(&mut head);
    head.resize(head_len, 7);
    head.freeze()
}

fn receiver(capacity: usize, budget: &Arc<Budget>) -> (DuplexStream, FramedReceiver<DuplexStream>) {
    let (read, write) = duplex(capacity);
    (write, FramedReceiver::new(read, &info(), budget.clone()))
}

fn info() -> ConnectionInfo {
    ConnectionInfo::new("here", "there")
}

async fn recv(rx: &mut impl FrameReceiver) -> Result<Vec<Frame>, TransportError> {
    let mut batch = Batch::new();
    rx.recv(&mut batch).await?;
    Ok(batch.into())
}

async fn put(io: &mut DuplexStream, frame: &Frame) {
    io.write_all(frame.head()).await.unwrap();
    io.write_all(frame.body()).await.unwrap();
}

#[tokio::test]
async fn frames_of_one_read_come_together() {
    let (mut io, mut rx) = receiver(1 << 20, &Budget::new(0));
    let sent = [frame(1, 16, 0), frame(2, 40, 100), frame(3, 16, 5)];
    for frame in &sent {
        put(&mut io, frame).await;
    }
    assert_eq!(recv(&mut rx).await.unwrap(), sent);
    drop(io);
    assert!(matches!(recv(&mut rx).await, Err(TransportError::Closed)));
}

#[tokio::test]
async fn small_frames_share_memory_but_never_more_than_1_kib() {
    let (mut io, mut rx) = receiver(1 << 20, &Budget::new(0));
    let sizes = [0, 64, 300, 300, 300, 300, 1008, 1009, 0].into_iter().cycle().take(200);
    let sent: Vec<_> = sizes.enumerate().map(|(i, size)| frame(i as u16, 16, size)).collect();
    for frame in &sent {
        put(&mut io, frame).await;
    }
    let mut got = Vec::new();
    while got.len() < sent.len() {
        got.append(&mut recv(&mut rx).await.unwrap());
    }
    assert_eq!(got, sent);
    let (first, _) = got.swap_remove(0).into_parts();
    drop(got);
    // Now that nobody else has a share of it, it says how large the piece is.
    let piece = first.try_into_mut().map(|piece| piece.capacity());
    assert!(piece.as_ref().is_ok_and(|piece| (500..=1024).contains(piece)), "{piece:?}");
}

#[tokio::test]
async fn the_longest_head_and_every_size_around_a_limit_pass() {
    let (mut io, mut rx) = receiver(1 << 20, &Budget::new(1 << 20));
    rx.set_max_frame(1 << 30);
    for (head_len, body_len) in [
        (65551, 0),
        (65551, 1),
        (65551, 200_000),
        (32 * 1024, 0),
        (16, 32 * 1024 - 16),
        (16, 32 * 1024 - 15),
        (16, 64 * 1024 - 1),
        (16, 64 * 1024),
        (16, 64 * 1024 + 1),
        (16, 256 * 1024 + 1),
    ] {
        let sent = frame(9, head_len, body_len);
        let writer = async {
            put(&mut io, &sent).await;
        };
        let (got, ()) = tokio::join!(recv(&mut rx), writer);
        assert_eq!(got.unwrap(), [sent]);
    }
}

#[tokio::test]
async fn a_half_read_frame_holds_budget_for_what_arrived_and_gives_it_back() {
    let budget = Budget::new(1 << 30);
    let (mut io, mut rx) = receiver(1 << 20, &budget);
    rx.set_max_frame(1 << 30);
    let body = 800_000;
    io.write_all(&head(1, 16, 16 + body)).await.unwrap();
    let mut batch = Batch::new();
    let mut pending = is_pending(&mut rx, &mut batch).await;
    assert!(pending && budget.used() == 0, "a claim costs nothing");
    io.write_all(&vec![1; 300_000]).await.unwrap();
    pending = is_pending(&mut rx, &mut batch).await;
    assert!(pending && (200_000..1_000_000).contains(&budget.used()), "{}", budget.used());
    io.write_all(&vec![1; body as usize - 300_000]).await.unwrap();
    rx.recv(&mut batch).await.unwrap();
    assert_eq!(batch[0].body().len(), body as usize);
    assert!(budget.used() >= body as usize - 64 * 1024, "it counts as long as it is used");
    drop(batch);
    assert_eq!(budget.used(), 0);
}

/// Polls `recv` once, drops it, and says whether it was pending.
async fn is_pending(rx: &mut impl FrameReceiver, batch: &mut Batch) -> bool {
    use futures_util::FutureExt;
    // tokio would have a task that did much wait for its next turn.
    tokio::task::unconstrained(rx.recv(batch)).now_or_never().is_none()
}

#[tokio::test]
async fn a_frame_over_budget_is_refused_and_goes_on_when_memory_is_back() {
    let budget = Budget::new(300_000);
    let taken = budget.reserve(200_000);
    let (mut io, mut rx) = receiver(1 << 20, &budget);
    rx.set_max_frame(1 << 30);
    let sent = frame(5, 20, 300_000);
    put(&mut io, &sent).await;
    assert!(matches!(recv(&mut rx).await, Err(TransportError::OverBudget(300_020))));
    assert!(matches!(recv(&mut rx).await, Err(TransportError::OverBudget(300_020))));
    drop(taken);
    assert_eq!(recv(&mut rx).await.unwrap(), [sent]);
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn many_who_wait_share_the_buffer_of_the_one_who_reads() {
    let budget = Budget::new(1 << 30);
    let mut lanes: Vec<_> = (0..100).map(|_| receiver(1 << 20, &budget)).collect();
    for (io, rx) in &mut lanes {
        rx.set_max_frame(1 << 30);
        let mut batch = Batch::new();
        for frames in [3, 300] {
            assert!(is_pending(rx, &mut batch).await && rx.held() == 0, "{}", rx.held());
            for sequence in 0..frames {
                put(io, &frame(sequence, 16, 496)).await;
            }
            while !is_pending(rx, &mut batch).await {}
            assert_eq!(batch.drain(..).len(), usize::from(frames));
        }
        assert_eq!(rx.held(), 0);
        io.write_all(&head(1, 16, 512)[..10]).await.unwrap();
        assert!(is_pending(rx, &mut batch).await);
        assert!((10..=16 * 1024).contains(&rx.held()), "half a prefix is kept in {}", rx.held());
    }
    assert_eq!(budget.read_buffers().kept(), 1);
}

#[tokio::test]
async fn before_hello_nothing_is_held_beyond_what_was_sent() {
    let budget = Budget::new(1 << 30);
    // Somebody who may send as much as he likes has left a large buffer.
    budget.read_buffers().put_back(Vec::with_capacity(64 * 1024));
    let (mut io, mut rx) = receiver(1 << 20, &budget);
    put(&mut io, &frame(1, 16, 100)).await;
    io.write_all(&[0; 5]).await.unwrap();
    recv(&mut rx).await.unwrap();
    assert!((5..=16 * 1024).contains(&rx.held()), "{}", rx.held());
}

#[tokio::test]
async fn the_limit_can_be_raised_between_two_frames_of_one_read() {
    let (mut io, mut rx) = receiver(1 << 20, &Budget::new(1 << 20));
    let (hello, large) = (frame(1, 16, 10), frame(2, 16, 100_000));
    put(&mut io, &hello).await;
    put(&mut io, &large).await;
    assert_eq!(recv(&mut rx).await.unwrap(), [hello]);
    rx.set_max_frame(1 << 20);
    assert_eq!(recv(&mut rx).await.unwrap(), [large]);
}

#[tokio::test]
async fn before_hello_a_large_claim_is_handed_over_without_waiting() {
    let (mut io, mut rx) = receiver(1 << 20, &Budget::new(0));
    io.write_all(&head(1, 116, 2_000_000_000)[..16]).await.unwrap();
    let got = recv(&mut rx).await.unwrap();
    assert!(got[0].is_truncated() && got[0].head().len() == 16);
}

#[tokio::test]
async fn an_oversize_frame_comes_as_its_head_and_the_next_one_whole() {
    let (mut io, mut rx) = receiver(1 << 20, &Budget::new(0));
    rx.set_max_frame(1000);
    let (large, small) = (frame(1, 2000, 300_000), frame(2, 30, 5));
    put(&mut io, &large).await;
    put(&mut io, &small).await;
    let got = recv(&mut rx).await.unwrap();
    assert!(got.len() == 1 && got[0].is_truncated());
    assert_eq!((got[0].head(), got[0].body().len()), (large.head(), 0));
    assert_eq!(recv(&mut rx).await.unwrap(), [small]);
}

#[tokio::test]
async fn good_frames_before_a_bad_prefix_are_delivered() {
    let (mut io, mut rx) = receiver(1 << 20, &Budget::new(0));
    let good = frame(1, 16, 1);
    put(&mut io, &good).await;
    io.write_all(&head(2, 16, 15)).await.unwrap();
    assert_eq!(recv(&mut rx).await.unwrap(), [good]);
    for _ in 0..2 {
        assert!(matches!(recv(&mut rx).await, Err(TransportError::Frame(PrefixError::TooShort(15)))));
    }
}

#[tokio::test]
async fn an_end_inside_a_frame_is_an_error() {
    for (head_len, body_len, limit) in [(16, 100, 1 << 20), (16, 100_000, 1 << 20), (16, 100_000, 1000)] {
        let (mut io, mut rx) = receiver(1 << 20, &Budget::new(1 << 20));
        rx.set_max_frame(limit);
        let sent = frame(1, head_len, body_len);
        io.write_all(sent.head()).await.unwrap();
        io.write_all(&sent.body()[1..]).await.unwrap();
        drop(io);
        let end = loop {
            match recv(&mut rx).await {
                Ok(frames) => assert!(frames[0].is_truncated()),
                Err(end) => break end,
            }
        };
        let TransportError::Io { source, what } = end else { panic!("{end}") };
        assert_eq!((source.kind(), what.as_str()), (std::io::ErrorKind::UnexpectedEof, "read from there"));
    }
}

fn sender() -> (FramedSender<DuplexStream>, DuplexStream) {
    let (here, there) = duplex(64);
    (FramedSender::new(here, &info()), there)
}

#[tokio::test]
async fn feed_takes_what_a_batch_may_hold() {
    let (mut tx, _there) = sender();
    let mut tiny: Batch = (0..100).map(|i| frame(i, 16, 1)).collect();
    tx.feed(&mut tiny);
    assert_eq!(tiny.len(), 36);
    tx.feed(&mut tiny);
    assert_eq!(tiny.len(), 36, "nothing more before a flush");

    let (mut tx, _there) = sender();
    let mut large: Batch = [1 << 20, 10, 10].into_iter().map(|len| frame(1, 16, len)).collect();
    tx.feed(&mut large);
    assert_eq!(large.len(), 2, "one larger frame travels alone");

    let (mut tx, _there) = sender();
    let mut medium: Batch = (0..10).map(|i| frame(i, 16, 100_000)).collect();
    tx.feed(&mut medium);
    assert_eq!(medium.len(), 8);
}

#[tokio::test]
async fn a_sender_keeps_what_it_needed_until_it_is_told_to_relax() {
    let mut tx = FramedSender::new(tokio::io::sink(), &info());
    tx.feed(&mut (0..60).map(|i| frame(i, 16, 1000)).collect());
    tx.relax();
    assert!(tx.held() > 60_000, "what waits is not thrown away");
    tx.flush().await.unwrap();
    assert!(tx.held() > 60_000, "{}", tx.held());
    tx.relax();
    assert_eq!(tx.held(), 0);
}

#[tokio::test]
async fn lanes_count_for_themselves_and_for_their_connection() {
    let info = ConnectionInfo::new("here", "there");
    let mut lanes = [0, 1].map(|_| FramedSender::new(tokio::io::sink(), &info));
    let meters = [0, 1].map(|lane| lanes[lane].meter().unwrap());
    lanes[0].feed(&mut Batch::from([frame(1, 16, 0)]));
    lanes[0].flush().await.unwrap();
    assert!(meters[0].tx() > 0 && meters[0].tx() == info.meter.tx());
    assert_eq!(meters[1].tx(), 0);
}
