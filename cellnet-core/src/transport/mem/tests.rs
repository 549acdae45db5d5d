use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;

use super::*;
use crate::{
    transport::{Batch, FrameSender},
    wire::{Frame, Prefix},
};

fn frame(body: &[u8]) -> Frame {
    let mut head = BytesMut::new();
    Prefix { length: 16 + body.len() as u32, kind: 1, ..Prefix::default() }.encode(&mut head);
    Frame::new(head.freeze(), Bytes::copy_from_slice(body))
}

/// The connection that `site` dialled and the one that `server` accepted.
async fn pair(net: &MemNet) -> (Connection, Connection) {
    let url: CellUrl = "mem://server".parse().unwrap();
    let budget = Budget::new(1 << 20);
    let mut listener = net.listen(&Bind::new(url.clone(), budget.clone())).await.unwrap();
    let site = net.host("site").connect(&Target::new(url, budget)).await.unwrap();
    (site, listener.accept().await.unwrap().await.unwrap())
}

async fn send(tx: &mut Box<dyn FrameSender>, body: &[u8]) -> Result<(), TransportError> {
    tx.feed(&mut Batch::from([frame(body)]));
    tx.flush().await
}

#[tokio::test(start_paused = true)]
async fn parted_hosts_hear_nothing_until_they_are_healed() {
    let net = MemNet::new();
    let (mut site, mut server) = pair(&net).await;
    net.partition("server", "site");
    send(&mut site.control.tx, b"lost?").await.unwrap();
    drop(site.control.tx);
    let mut batch = Batch::new();
    assert!(server.control.rx.recv(&mut batch).now_or_never().is_none());
    net.heal("site", "server");
    server.control.rx.recv(&mut batch).await.unwrap();
    assert_eq!(batch, [frame(b"lost?")]);
    assert!(matches!(server.control.rx.recv(&mut batch).await, Err(TransportError::Closed)));
}

#[tokio::test(start_paused = true)]
async fn a_parted_host_is_dialled_until_the_time_out() {
    let net = MemNet::new();
    net.partition("site", "server");
    let target = Target::new("mem://server".parse().unwrap(), Budget::new(0));
    let error = net.host("site").connect(&target).await.unwrap_err();
    assert!(matches!(error, TransportError::Timeout(_, CONNECT_TIMEOUT)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_frozen_peer_takes_and_gives_nothing() {
    let net = MemNet::new();
    let (mut site, mut server) = pair(&net).await;
    net.freeze("site");
    assert!(send(&mut server.control.tx, b"x").now_or_never().is_none());
    assert!(server.control.rx.recv(&mut Batch::new()).now_or_never().is_none());
    net.thaw("site");
    server.control.tx.flush().await.unwrap();
    let mut batch = Batch::new();
    site.control.rx.recv(&mut batch).await.unwrap();
    assert_eq!(batch, [frame(b"x")]);
}

#[tokio::test(start_paused = true)]
async fn a_cut_is_an_error_on_both_sides() {
    let net = MemNet::new();
    let (mut site, mut server) = pair(&net).await;
    send(&mut site.control.tx, b"gone").await.unwrap();
    net.cut_all("site");
    for end in [&mut site, &mut server] {
        let read = end.control.rx.recv(&mut Batch::new()).await;
        let written = send(&mut end.control.tx, b"x").await;
        for result in [read, written] {
            let Err(TransportError::Io { source, .. }) = result else { panic!("{result:?}") };
            assert_eq!(source.kind(), io::ErrorKind::ConnectionReset);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn latency_holds_in_one_direction_only() {
    let net = MemNet::new();
    let (mut site, mut server) = pair(&net).await;
    net.set_latency("site", "server", Duration::from_secs(3));
    let start = tokio::time::Instant::now();
    send(&mut server.control.tx, b"back").await.unwrap();
    site.control.rx.recv(&mut Batch::new()).await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
    send(&mut site.control.tx, b"there").await.unwrap();
    server.control.rx.recv(&mut Batch::new()).await.unwrap();
    // The timer's resolution is a millisecond.
    assert_eq!(start.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_writer_waits_when_the_capacity_is_used_up() {
    let net = MemNet::new();
    let (mut site, mut server) = pair(&net).await;
    net.set_capacity("site", "server", 100);
    assert!(send(&mut site.control.tx, &[7; 200]).now_or_never().is_none());
    assert_eq!(site.info.meter.tx(), 100);
    let mut batch = Batch::new();
    let (flushed, received) = tokio::join!(site.control.tx.flush(), server.control.rx.recv(&mut batch));
    assert!(flushed.is_ok() && received.is_ok() && batch == [frame(&[7; 200])]);
}

#[tokio::test(start_paused = true)]
async fn bulk_lanes_and_limits_are_as_the_net_says() {
    let net = MemNet::new().with_bulk_lanes(2).with_legacy_max_frame(4096);
    let (site, mut server) = pair(&net).await;
    assert_eq!((site.bulk.len(), server.bulk.len(), server.info.legacy_max_frame), (2, 2, Some(4096)));
    for (i, mut lane) in site.bulk.into_iter().enumerate() {
        send(&mut lane.tx, &[i as u8]).await.unwrap();
        let mut batch = Batch::new();
        server.bulk[i].rx.recv(&mut batch).await.unwrap();
        assert_eq!(batch, [frame(&[i as u8])]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_has_one_listener_and_is_free_again_after_it() {
    let net = MemNet::new();
    let bind = Bind::new("mem://server".parse().unwrap(), Budget::new(0));
    let first = net.listen(&bind).await.unwrap();
    let Err(TransportError::Io { source, what }) = net.listen(&bind).await else { panic!("bound twice") };
    assert_eq!((source.kind(), &*what), (io::ErrorKind::AddrInUse, "listen on mem://server"));
    drop(first);
    net.listen(&bind).await.unwrap();
}
