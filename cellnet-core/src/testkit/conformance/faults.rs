//! What a driver does when callers give up and peers misbehave.

use std::{future::poll_fn, pin::pin, task::Poll};

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

/// A `close` that is dropped while it waits is gone on with by the next: everything arrives, then the orderly end.
pub async fn cancelled_close_goes_on(rig: Rig) {
    let mut listener = rig.listen().await;
    let (mut here, mut there) = rig.pair(&mut listener).await;
    let sent = [frame(1, 10, MAX_FRAME - 1000)];
    here.control.tx.feed(&mut sent.iter().cloned().collect());
    let close = async {
        let mut cancelled = 0;
        loop {
            tokio::select! {
                biased;
                closed = here.control.tx.close() => break closed.expect("the lane closes"),
                () = yield_now() => cancelled += 1,
            }
        }
        assert!(cancelled > 0, "no call was dropped, nothing was shown");
    };
    let receive = async {
        assert_same(&recv_count(&mut there.control.rx, sent.len()).await, &sent);
        let end = there.control.rx.recv(&mut Batch::new()).await;
        assert!(matches!(end, Err(TransportError::Closed)), "{end:?}");
    };
    tokio::join!(close, receive);
}

/// Wherever a `connect` is dropped, the listener goes on and the next one opens.
pub async fn connect_can_be_dropped_at_every_await(rig: Rig) {
    let mut listener = rig.listen().await;
    let target = rig.target(listener.local_url());
    for polls in 0.. {
        // Those that are dropped fail, or end before they said anything.
        let accept = async {
            loop {
                let accepting = listener.accept().await.expect("the listener goes on");
                let Ok(mut connection) = accepting.await else { continue };
                let mut batch = Batch::new();
                if connection.control.rx.recv(&mut batch).await.is_ok() {
                    break Vec::from(batch);
                }
            }
        };
        let sent = [frame(polls, 2, 100)];
        let talk = async {
            let connection = for_polls(rig.transport.connect(&target), polls).await?;
            let mut connection = connection.expect("it opens");
            send_all(&mut connection.control.tx, &sent).await;
            Some(connection)
        };
        let (mut accept, mut talk) = (pin!(accept), pin!(talk));
        let got = tokio::select! {
            biased;
            got = &mut accept => got,
            connection = &mut talk => match connection {
                Some(_connection) => accept.await,
                None => {
                    assert!(polls < MOST_POLLS, "it never opens");
                    continue;
                }
            },
        };
        return assert_same(&got, &sent);
    }
}

/// Wherever the rest of an accepted connection's set-up is dropped, its peer learns that nothing will come of it.
pub async fn accepting_can_be_dropped_at_every_await(rig: Rig) {
    let mut listener = rig.listen().await;
    let target = rig.target(listener.local_url());
    for polls in 0.. {
        let dial = async {
            let mut connection = rig.transport.connect(&target).await?;
            connection.control.rx.recv(&mut Batch::new()).await
        };
        let mut dial = pin!(dial);
        let accept = async {
            let accepting = listener.accept().await.expect("a connection comes");
            for_polls(accepting, polls).await.is_some()
        };
        // Dialling goes on meanwhile; it may have ended for good by then.
        let mut accept = pin!(accept);
        let (opened, end) = tokio::select! {
            biased;
            end = &mut dial => (accept.await, end),
            opened = &mut accept => (opened, dial.await),
        };
        assert!(end.is_err(), "something came of {polls} polls");
        if opened {
            break;
        }
        assert!(polls < MOST_POLLS, "it never opens");
    }
}

/// Polls a future so often at most.
async fn for_polls<T>(future: impl Future<Output = T>, mut polls: usize) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        if polls == 0 {
            return Poll::Ready(None);
        }
        polls -= 1;
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

/// More than any set-up takes.
const MOST_POLLS: usize = 1000;

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
