//! Peers that mean harm: each is refused with a reason, and nothing else is disturbed.

mod common;

use std::{net::UdpSocket, time::Duration};

use cellnet_core::{
    CellUrl,
    testkit::pki::Pki,
    tls::{CredentialFiles, Tls, TlsMode},
    transport::{Batch, TransportError},
};
use cellnet_quic::{ALPN, Quic};
use common::{Open, dial, frame, raw, works};

const MODE: TlsMode = TlsMode::Mtls;

#[tokio::test]
async fn another_protocol_is_refused() {
    let tls = Pki::new().tls("site-1", MODE);
    let mut open = Open::at(Quic::new(), &tls).await;
    let error = raw::connect(&tls, MODE, &[b"h3"], &open.url).await.unwrap_err();
    assert!(error.to_string().contains("120"), "no_application_protocol: {error}");
    let error = open.refusal().await;
    assert!(matches!(error, TransportError::Refused { .. }), "{error:?}");
}

#[tokio::test]
async fn lanes_that_are_not_as_agreed_end_the_connection() {
    let tls = Pki::new().tls("site-1", MODE);
    let mut open = Open::at(Quic::new(), &tls).await;
    for (streams, why) in [
        (&[&[7_u8][..]][..], "its first lane is number 7"),
        (&[&[0, 2], &[1], &[1]], "lane 1 came twice"),
        (&[&[0, 2], &[1], &[3]], "lane 3 is none of the 2"),
        (&[&[0, 2], &[0, 2]], "lane 0 is none of the 2"),
    ] {
        let connection = raw::connect(&tls, MODE, &[ALPN], &open.url).await.unwrap();
        let mut kept = Vec::new();
        for bytes in streams {
            let (mut tx, rx) = connection.open_bi().await.unwrap();
            tx.write_all(bytes).await.unwrap();
            kept.push((tx, rx));
        }
        let error = open.refusal().await;
        assert!(error.to_string().contains(why), "{error}");
        let end = connection.closed().await.to_string();
        assert!(end.contains(why), "{end}");
    }
}

#[tokio::test]
async fn a_lane_that_never_says_its_byte_costs_its_own_connection() {
    let tls = Pki::new().tls("site-1", MODE);
    let mut open = Open::at(Quic::new().with_handshake_timeout(Duration::from_secs(2)), &tls).await;
    let connection = raw::connect(&tls, MODE, &[ALPN], &open.url).await.unwrap();
    let (mut control, _rx) = connection.open_bi().await.unwrap();
    control.write_all(&[0, 1]).await.unwrap();
    let _mute = connection.open_bi().await.unwrap();
    let mut here = dial(&Quic::new(), &open.url, &tls).await.unwrap();
    works(&mut here, &mut open.next().await.unwrap()).await;
    assert!(matches!(open.refusal().await, TransportError::Timeout(..)));
    connection.closed().await;
}

#[tokio::test]
async fn more_streams_than_lanes_are_not_given() {
    let tls = Pki::new().tls("site-1", MODE);
    let mut open = Open::at(Quic::new(), &tls).await;
    let connection = raw::connect(&tls, MODE, &[ALPN], &open.url).await.unwrap();
    let mut kept = Vec::new();
    // Until there is no more credit, or the connection is ended.
    while let Ok(Ok((mut tx, rx))) =
        tokio::time::timeout(Duration::from_millis(500), connection.open_bi()).await
    {
        let _ = tx.write_all(if kept.is_empty() { &[0, 255] } else { &[1] }).await;
        kept.push((tx, rx));
        assert!(kept.len() <= 17, "a flood of streams");
    }
    assert!(open.refusal().await.to_string().contains("lane 1 came twice"));

    let connection = raw::connect(&tls, MODE, &[ALPN], &open.url).await.unwrap();
    let uni = tokio::time::timeout(Duration::from_millis(500), connection.open_uni()).await;
    assert!(uni.is_err(), "a stream of one direction");
}

#[tokio::test]
async fn garbage_datagrams_disturb_nobody() {
    let tls = Pki::new().tls("site-1", MODE);
    let mut open = Open::at(Quic::new(), &tls).await;
    let (mut here, mut there) = open.pair(&Quic::new(), &tls).await;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = raw::address(&open.url);
    let mut seed = 1_u64;
    for i in 0..20_000_usize {
        let mut datagram: Vec<u8> = (0..1200)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (seed >> 56) as u8
            })
            .collect();
        match i % 4 {
            // A long header of a version that does not exist, one of version 1, one with a length of its own.
            0 => datagram[..5].copy_from_slice(&[0xc0, 0xfa, 0xfa, 0xfa, 0xfa]),
            1 => datagram[..6].copy_from_slice(&[0xc0, 0, 0, 0, 1, 8]),
            2 => datagram.truncate(i % 1200),
            _ => {}
        }
        let _ = socket.send_to(&datagram, address);
        if i % 500 == 0 {
            works(&mut here, &mut there).await;
        }
    }
    works(&mut here, &mut there).await;
}

/// Sends the first datagram of a handshake, and no other, from many addresses.
async fn idle_handshakes(tls: &Tls, url: &CellUrl, number: usize) -> Vec<UdpSocket> {
    let mut sockets = Vec::new();
    for _ in 0..number {
        // What a client says first goes to a socket that does not answer.
        let catch = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let there: CellUrl = format!("quic://{}", catch.local_addr().unwrap()).parse().unwrap();
        let _connecting = raw::connecting(tls, MODE, &[ALPN], &there).unwrap();
        let mut initial = vec![0; 2000];
        let (length, _) = catch.recv_from(&mut initial).await.unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(&initial[..length], raw::address(url)).unwrap();
        sockets.push(socket);
    }
    sockets
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_that_stop_after_their_first_packet_hold_up_nobody() {
    let tls = Pki::new().tls("site-1", MODE);
    let mut open = Open::at(Quic::new(), &tls).await;
    let idle = idle_handshakes(&tls, &open.url, 1000).await;
    let (mut here, mut there) = open.pair(&Quic::new(), &tls).await;
    works(&mut here, &mut there).await;
    // Those beyond the first were asked to prove their addresses.
    let mut retries = 0;
    for socket in &idle {
        socket.set_nonblocking(true).unwrap();
        let mut answer = [0; 2000];
        while let Ok(length) = socket.recv(&mut answer) {
            let retry = length > 0 && answer[0] & 0xf0 == 0xf0;
            retries += usize::from(retry);
        }
    }
    assert!(retries > 800, "{retries} were asked");
}

#[tokio::test]
async fn certificates_that_do_not_fit_are_refused_on_both_sides() {
    let pki = Pki::new();
    let tls = pki.tls("server", MODE);
    let mut open = Open::at(Quic::new(), &tls).await;
    let load = |dir: std::path::PathBuf| Tls::load(CredentialFiles::in_dir(dir)).unwrap().with_mode(MODE);
    let mixed = |own: std::path::PathBuf| {
        // Trusts the listener, shows what the listener does not trust.
        let mut files = CredentialFiles::in_dir(own);
        files.ca_cert = tls.files().ca_cert.clone();
        Tls::load(files).unwrap().with_mode(MODE)
    };
    for (what, client) in [
        ("another authority", mixed(Pki::new().kit("site-1"))),
        ("expired", load(pki.expired_kit("site-1"))),
        ("no client certificate", tls.clone()),
        ("a listener of another authority", Pki::new().tls("site-1", MODE)),
    ] {
        let url: CellUrl = if what == "no client certificate" {
            format!("{}?tls=tls", open.url).parse().unwrap()
        } else {
            open.url.clone()
        };
        let error = dial(&Quic::new(), &url, &client).await.expect_err(what);
        assert!(error.is_unauthorised(), "{what}: {error:?}");
        let error = open.refusal().await;
        assert!(error.is_unauthorised(), "{what}: {error:?}");
    }
    let elsewhere = load(pki.kit_for("server", &["elsewhere.example"]));
    let mut wrong_name = Open::at(Quic::new(), &elsewhere).await;
    let error = dial(&Quic::new(), &wrong_name.url, &tls).await.unwrap_err();
    assert!(error.is_unauthorised(), "{error:?}");
    assert!(wrong_name.refusal().await.is_unauthorised());
}

#[tokio::test]
async fn a_peer_that_never_reads_holds_a_window_and_no_more() {
    let tls = Pki::new().tls("site-1", MODE);
    let quic = Quic::new().with_window(256 << 10);
    let mut open = Open::at(quic.clone(), &tls).await;
    let (mut here, mut there) = open.pair(&quic, &tls).await;
    for lane in [&mut here.control, &mut there.control] {
        lane.rx.set_max_frame(64 << 20);
    }
    let mut deaf = here.bulk.pop().unwrap();
    let meter = deaf.tx.meter().unwrap();
    let stuck = tokio::spawn(async move {
        deaf.tx.feed(&mut Batch::from([frame(32 << 20)]));
        deaf.tx.flush().await
    });
    let _unread = there.bulk.pop();
    for _ in 0..20 {
        works(&mut here, &mut there).await;
    }
    assert!(meter.tx() <= 256 << 10, "{} bytes went", meter.tx());
    stuck.abort();
}
