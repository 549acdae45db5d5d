//! What a driver does when callers give up and peers misbehave.

use tokio::task::yield_now;

use super::*;
use crate::transport::TransportError;

/// A `recv` that is dropped while it waits leaves its bytes for the next.
pub async fn cancelled_recv_loses_nothing(rig: Rig) {
    let mut listener = rig.listen().await;
    let (mut here, mut there) = rig.pair(&mut listener).await;
    let sent = mixed_frames();
    let receive = async {
        let (mut batch, mut cancelled) = (Batch::new(), 0);
        while batch.len() < sent.len() {
            tokio::select! {
                biased;
                received = there.control.rx.recv(&mut batch) => received.expect("frames come"),
                () = yield_now() => cancelled += 1,
            }
        }
        assert!(cancelled > 0, "no call was dropped, nothing was shown");
        Vec::from(batch)
    };
    let (got, ()) = tokio::join!(receive, send_all(&mut here.control.tx, &sent));
    assert_same(&got, &sent);
}

/// A `flush` that is dropped while it waits leaves its bytes for the next.
pub async fn cancelled_flush_loses_nothing(rig: Rig) {
    let mut listener = rig.listen().await;
    let (mut here, mut there) = rig.pair(&mut listener).await;
    let sent: Vec<Frame> = (0..16).map(|i| frame(i, i, 1 << 20)).collect();
    let send = async {
        let (mut batch, mut cancelled) = (sent.iter().cloned().collect::<Batch>(), 0);
        while !batch.is_empty() {
            here.control.tx.feed(&mut batch);
            loop {
                tokio::select! {
                    biased;
                    flushed = here.control.tx.flush() => break flushed.expect("the lane takes frames"),
                    () = yield_now() => cancelled += 1,
                }
            }
        }
        assert!(cancelled > 0, "no call was dropped, nothing was shown");
    };
    let (got, ()) = tokio::join!(recv_count(&mut there.control.rx, sent.len()), send);
    assert_same(&got, &sent);
}

/// While one peer does not read, its lane waits and others move; it gets everything when it reads again.
pub async fn a_peer_that_does_not_read_stops_only_its_own_lane(rig: Rig) {
    let mut listener = rig.listen().await;
    let (mut stuck, mut deaf) = rig.pair(&mut listener).await;
    let (mut here, mut there) = rig.pair(&mut listener).await;
    let sent: Vec<Frame> = (0..32).map(|i| frame(i, 0, 1 << 20)).collect();
    let expected = sent.clone();
    let sending = tokio::spawn(async move {
        send_all(&mut stuck.control.tx, &sent).await;
        stuck
    });
    for i in 0..200 {
        let echo = [frame(i, 2, 100)];
        send_all(&mut here.control.tx, &echo).await;
        assert_same(&recv_count(&mut there.control.rx, 1).await, &echo);
    }
    assert!(!sending.is_finished(), "32 MiB went to a peer that does not read");
    let got = recv_count(&mut deaf.control.rx, expected.len()).await;
    assert_same(&got, &expected);
    sending.await.expect("the sender ends");
}

/// A bulk lane that nobody reads stops neither control nor the other bulk lanes, where the driver has such lanes.
pub async fn a_full_bulk_lane_does_not_stop_the_others(rig: Rig) {
    let mut listener = rig.listen().await;
    let (mut here, mut there) = rig.pair(&mut listener).await;
    assert_eq!(here.bulk.len(), there.bulk.len(), "both ends have the same lanes");
    let (Some(mut full), Some(mut unread)) = (here.bulk.pop(), there.bulk.pop()) else { return };
    unread.rx.set_max_frame(MAX_FRAME);
    let sent: Vec<Frame> = (0..32).map(|i| frame(i, 0, 1 << 20)).collect();
    let expected = sent.clone();
    let sending = tokio::spawn(async move {
        send_all(&mut full.tx, &sent).await;
        full
    });
    let others = here.bulk.iter_mut().chain([&mut here.control]);
    for (one, other) in others.zip(there.bulk.iter_mut().chain([&mut there.control])) {
        for i in 0..50 {
            let frames = [frame(i, 2, 100)];
            send_all(&mut one.tx, &frames).await;
            assert_same(&recv_count(&mut other.rx, 1).await, &frames);
        }
    }
    assert!(!sending.is_finished(), "32 MiB went to a lane that nobody reads");
    assert_same(&recv_count(&mut unread.rx, expected.len()).await, &expected);
    sending.await.expect("the sender ends");
}

/// A peer that vanishes ends the lane with an error or the end, for reads and for writes.
pub async fn an_abrupt_end_is_noticed(rig: Rig) {
    let mut listener = rig.listen().await;
    let (mut here, there) = rig.pair(&mut listener).await;
    send_all(&mut here.control.tx, &[frame(1, 0, 100)]).await;
    drop(there);
    let end = here.control.rx.recv(&mut Batch::new()).await;
    assert!(matches!(end, Err(TransportError::Closed | TransportError::Io { .. })), "{end:?}");
    loop {
        here.control.tx.feed(&mut Batch::from([frame(1, 0, 100_000)]));
        if here.control.tx.flush().await.is_err() {
            break;
        }
        yield_now().await;
    }
}

/// A frame above the limit comes as its head, and the frames around it are whole.
pub async fn oversize_frames_arrive_truncated_and_the_lane_lives(rig: Rig) {
    let mut listener = rig.listen().await;
    let (mut here, mut there) = rig.pair(&mut listener).await;
    there.control.rx.set_max_frame(100_000);
    let (before, after) = (frame(1, 9, 9), frame(3, 9, 90_000));
    let large = frame(2, 1000, 3 << 20);
    let sent = [before.clone(), large.clone(), after.clone()];
    let (got, ()) = tokio::join!(recv_count(&mut there.control.rx, 3), send_all(&mut here.control.tx, &sent));
    assert_same(&[got[0].clone(), got[2].clone()], &[before, after]);
    assert!(got[1].is_truncated() && got[1].body().is_empty());
    assert_eq!(got[1].head(), large.head());
}
