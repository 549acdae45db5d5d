//! What a connection lives through, and how it ends.

mod common;

use std::{net::SocketAddr, time::Duration};

use cellnet_core::{
    stats::Budget,
    testkit::pki::Pki,
    tls::{CredentialFiles, Tls, TlsMode},
    transport::{Batch, Target, Transport, TransportError},
};
use cellnet_quic::Quic;
use common::{Open, dial, frame, raw, send, works};
use tokio::{net::UdpSocket, sync::watch, task::JoinHandle};

const MODE: TlsMode = TlsMode::Mtls;

/// Stands between a dialler and a listener.
struct Middle {
    address: SocketAddr,
    /// How often the socket towards the listener was changed; `None` lets nothing through.
    upstream: watch::Sender<Option<usize>>,
    task: JoinHandle<()>,
}

impl Middle {
    async fn before(listener: SocketAddr) -> Self {
        let front = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = front.local_addr().unwrap();
        let (upstream, mut changes) = watch::channel(Some(0));
        let task = tokio::spawn(async move {
            let mut back = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let mut dialler = None;
            let (mut from_front, mut from_back) = (vec![0; 65_536], vec![0; 65_536]);
            loop {
                tokio::select! {
                    Ok(()) = changes.changed() => {
                        let open = changes.borrow_and_update().is_some();
                        if open {
                            back = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                        }
                    }
                    Ok((length, from)) = front.recv_from(&mut from_front) => {
                        dialler = Some(from);
                        let open = changes.borrow().is_some();
                        if open {
                            let _ = back.send_to(&from_front[..length], listener).await;
                        }
                    }
                    Ok((length, _)) = back.recv_from(&mut from_back) => {
                        let open = changes.borrow().is_some();
                        if let (Some(dialler), true) = (dialler, open) {
                            let _ = front.send_to(&from_back[..length], dialler).await;
                        }
                    }
                }
            }
        });
        Self { address, upstream, task }
    }
}

impl Drop for Middle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn a_connection_lives_when_the_address_of_the_dialler_changes() {
    let tls = Pki::new().tls("site-1", MODE);
    let mut open = Open::at(Quic::new(), &tls).await;
    let middle = Middle::before(raw::address(&open.url)).await;
    let url = format!("quic://{}", middle.address).parse().unwrap();
    let (mut here, mut there) = open.pair_by(&url, &Quic::new(), &tls).await;
    for change in 1..4 {
        works(&mut here, &mut there).await;
        middle.upstream.send_replace(Some(change));
        works(&mut here, &mut there).await;
        works(&mut there, &mut here).await;
    }
}

#[tokio::test]
async fn a_peer_that_is_cut_off_is_given_up_within_the_silence() {
    let tls = Pki::new().tls("site-1", MODE);
    let mut open = Open::at(Quic::new(), &tls).await;
    let middle = Middle::before(raw::address(&open.url)).await;
    let silence = Duration::from_secs(4);
    let mut target =
        Target::new(format!("quic://{}", middle.address).parse().unwrap(), Budget::new(64 << 20));
    (target.tls, target.silence) = (Some(tls.clone()), silence);
    let quic = Quic::new();
    let (here, there) = tokio::join!(quic.connect(&target), open.next());
    let (mut here, mut there) = (here.unwrap(), there.unwrap());
    assert!(!here.info.needs_heartbeat);
    works(&mut here, &mut there).await;
    // Idle for longer than the silence, it lives by its keep-alive.
    tokio::time::sleep(silence + silence / 2).await;
    works(&mut here, &mut there).await;
    middle.upstream.send_replace(None);
    let end = tokio::time::timeout(silence * 2, here.control.rx.recv(&mut Batch::new())).await;
    let end = end.expect("it is noticed, and not only after twice the silence");
    assert!(matches!(end, Err(TransportError::Io { .. })), "{end:?}");
    assert!(there.control.rx.recv(&mut Batch::new()).await.is_err());
}

#[tokio::test]
async fn credentials_change_while_the_listener_runs() {
    let (pki, other) = (Pki::new(), Pki::new());
    let dir = pki.kit("server");
    let files = CredentialFiles::in_dir(&dir);
    let tls = Tls::load(files).unwrap().with_mode(MODE);
    let (old, new) = (pki.tls("site-1", MODE), other.tls("site-1", MODE));
    let mut open = Open::at(Quic::new(), &tls).await;
    let (mut here, mut there) = open.pair(&Quic::new(), &old).await;
    let next = other.kit("server");
    for entry in std::fs::read_dir(next).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), dir.join(entry.file_name())).unwrap();
    }
    tls.reload().unwrap();
    let (mut now, mut came) = open.pair(&Quic::new(), &new).await;
    works(&mut now, &mut came).await;
    works(&mut here, &mut there).await;
    assert!(dial(&Quic::new(), &open.url, &old).await.unwrap_err().is_unauthorised());
}

#[tokio::test]
async fn every_lane_delivers_what_was_written_and_ends_in_order() {
    let tls = Pki::new().tls("site-1", MODE);
    let mut open = Open::at(Quic::new().with_lanes(4), &tls).await;
    let (mut here, mut there) = open.pair(&Quic::new().with_lanes(16), &tls).await;
    assert_eq!(there.bulk.len(), 4);
    there.control.rx.set_max_frame(64 << 20);
    for lane in [&mut here.control].into_iter().chain(&mut here.bulk) {
        send(lane, frame(60_000)).await;
        lane.tx.close().await.unwrap();
    }
    drop(here);
    for lane in [&mut there.control].into_iter().chain(&mut there.bulk) {
        let mut batch = Batch::new();
        lane.rx.recv(&mut batch).await.unwrap();
        assert_eq!(batch.len(), 1);
        let end = lane.rx.recv(&mut batch).await;
        assert!(matches!(end, Err(TransportError::Closed)), "{end:?}");
    }
}

#[tokio::test]
async fn who_vanishes_in_the_middle_did_not_end_in_order() {
    let tls = Pki::new().tls("site-1", MODE);
    let mut open = Open::at(Quic::new(), &tls).await;
    let (mut here, mut there) = open.pair(&Quic::new(), &tls).await;
    works(&mut here, &mut there).await;
    drop(here);
    for lane in [&mut there.control].into_iter().chain(&mut there.bulk) {
        let end = lane.rx.recv(&mut Batch::new()).await;
        assert!(matches!(end, Err(TransportError::Io { .. })), "{end:?}");
    }
}

#[tokio::test]
async fn a_port_is_free_again_when_its_connections_are_gone() {
    let tls = Pki::new().tls("site-1", MODE);
    let listen = |url: &str| {
        let mut bind = cellnet_core::transport::Bind::new(url.parse().unwrap(), Budget::new(0));
        bind.tls = Some(tls.clone());
        async move { Quic::new().listen(&bind).await }
    };
    let mut first = listen("quic://0:0").await.unwrap();
    let url = first.local_url().to_string();
    let port = first.local_url().port().unwrap();
    let dialled = format!("quic://127.0.0.1:{port}").parse().unwrap();
    let (quic, accept) = (Quic::new(), async { first.accept().await.unwrap().await });
    let (here, there) = tokio::join!(dial(&quic, &dialled, &tls), accept);
    let Err(TransportError::Io { what, source }) = listen(&url).await else {
        panic!("{url} was bound twice")
    };
    assert_eq!(source.kind(), std::io::ErrorKind::AddrInUse);
    assert!(what.contains(&port.to_string()), "{what}");
    drop((here.unwrap(), there.unwrap(), first));
    listen(&url).await.unwrap();
}
