//! What a healthy driver does.

use super::*;
use crate::transport::TransportError;

/// Frames of every size arrive unchanged and in order.
pub async fn frames_arrive_whole_and_in_order(rig: Rig) {
    let mut listener = rig.listen().await;
    let (mut here, mut there) = rig.pair(&mut listener).await;
    let sent = mixed_frames();
    let (got, ()) =
        tokio::join!(recv_count(&mut there.control.rx, sent.len()), send_all(&mut here.control.tx, &sent));
    assert_same(&got, &sent);
}

/// The two directions do not wait for each other.
pub async fn batches_of_all_sizes_cross_both_ways_at_once(rig: Rig) {
    let mut listener = rig.listen().await;
    let (mut here, mut there) = rig.pair(&mut listener).await;
    let sent = mixed_frames();
    let (got_there, got_here, (), ()) = tokio::join!(
        recv_count(&mut there.control.rx, sent.len()),
        recv_count(&mut here.control.rx, sent.len()),
        send_all(&mut here.control.tx, &sent),
        send_all(&mut there.control.tx, &sent),
    );
    assert_same(&got_there, &sent);
    assert_same(&got_here, &sent);
}

/// `close` writes what was fed; the peer gets it, then the orderly end.
pub async fn orderly_close_delivers_what_was_written(rig: Rig) {
    let mut listener = rig.listen().await;
    let (mut here, mut there) = rig.pair(&mut listener).await;
    let sent = [frame(1, 10, 10), frame(2, 0, 50_000), frame(3, 5, 0)];
    here.control.tx.feed(&mut sent.iter().cloned().collect());
    here.control.tx.close().await.expect("the lane closes");
    assert_same(&recv_count(&mut there.control.rx, sent.len()).await, &sent);
    let end = there.control.rx.recv(&mut Batch::new()).await;
    assert!(matches!(end, Err(TransportError::Closed)), "{end:?}");
}

/// A refused connection is an error that says what was tried.
pub async fn connect_to_nobody_is_a_typed_error(rig: Rig) {
    let target = rig.target(&rig.nobody);
    let error = rig.transport.connect(&target).await.expect_err("nobody is there");
    assert!(matches!(error, TransportError::Io { .. } | TransportError::Timeout(..)), "{error:?}");
    assert!(error.to_string().contains(rig.nobody.host()), "'{error}' does not name the address");
}

/// `local_url` has the real port and can be dialled.
pub async fn a_bound_url_can_be_used_as_it_is_shown(rig: Rig) {
    let mut listener = rig.listen().await;
    let shown: CellUrl = listener.local_url().to_string().parse().expect("a URL");
    assert_eq!(&shown, listener.local_url());
    assert_ne!(shown.port(), Some(0));
    rig.pair(&mut listener).await;
}

/// A silent connection neither holds up `accept` nor the connections after it.
pub async fn accept_does_not_wait_for_the_peer_to_speak(rig: Rig) {
    let Some(raw) = rig.silent.as_ref().or(rig.raw.as_ref()) else { return };
    let mut listener = rig.listen().await;
    let silent = raw(listener.local_url().clone()).await.expect("a raw connection");
    let unfinished = listener.accept().await.expect("the silent connection");
    let (mut here, mut there) = rig.pair(&mut listener).await;
    let sent = [frame(1, 1, 1)];
    send_all(&mut here.control.tx, &sent).await;
    assert_same(&recv_count(&mut there.control.rx, 1).await, &sent);
    drop((silent, unfinished));
}

/// Every byte of a frame is counted at both ends.
pub async fn the_meter_counts_both_ways(rig: Rig) {
    let mut listener = rig.listen().await;
    let (mut here, mut there) = rig.pair(&mut listener).await;
    moved(&mut here, &mut there, 100_000).await;
    moved(&mut there, &mut here, 5).await;
}

async fn moved(from: &mut Connection, to: &mut Connection, body_len: usize) {
    let (tx, rx) = (from.info.meter.tx(), to.info.meter.rx());
    let sent = [frame(1, 7, body_len)];
    let (got, ()) = tokio::join!(recv_count(&mut to.control.rx, 1), send_all(&mut from.control.tx, &sent));
    let bytes = got[0].len() as u64;
    assert!(from.info.meter.tx() - tx >= bytes && to.info.meter.rx() - rx >= bytes);
}

/// A hundred connections, opened at once, each carry their own frames.
pub async fn many_connections_work_at_once(rig: Rig) {
    let mut listener = rig.listen().await;
    let target = rig.target(listener.local_url());
    let dialled = futures_util::future::join_all((0..MANY).map(|i| {
        let target = &target;
        let transport = &rig.transport;
        async move {
            let mut connection = transport.connect(target).await.expect("it opens");
            let sent = [frame(i, 3, i)];
            send_all(&mut connection.control.tx, &sent).await;
            assert_same(&recv_count(&mut connection.control.rx, 1).await, &sent);
        }
    }));
    let echoed = async {
        let mut open = Vec::new();
        for _ in 0..MANY {
            open.push(listener.accept().await.expect("a connection comes"));
        }
        futures_util::future::join_all(open.into_iter().map(|accepting| async {
            let mut connection = accepting.await.expect("it opens");
            let got = recv_count(&mut connection.control.rx, 1).await;
            send_all(&mut connection.control.tx, &got).await;
            connection
        }))
        .await
    };
    tokio::join!(dialled, echoed);
}

/// The other address family works too, where the driver and the machine have it.
pub async fn both_address_families_work(rig: Rig) {
    let Some(url) = &rig.bind_v6 else { return };
    let mut listener = rig.listen_on(url).await;
    let (mut here, mut there) = rig.pair(&mut listener).await;
    let sent = [frame(1, 1, 1)];
    send_all(&mut here.control.tx, &sent).await;
    assert_same(&recv_count(&mut there.control.rx, 1).await, &sent);
}

const MANY: usize = 100;
