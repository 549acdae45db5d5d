//! Peers over QUIC that do not keep to it.

use std::{sync::Arc, time::Duration};

use cellnet::tls::{CredentialFiles, TlsMode};
use quinn::{Connection, ConnectionError, Endpoint, crypto::rustls::QuicClientConfig};
use tokio::{net::UdpSocket, task::JoinSet, time::timeout};

use crate::{
    MIB, TURN,
    bystander::Bystander,
    victim::{Victim, load},
};

const PROTOCOL: &[u8] = b"cellnet/1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_protocol_is_refused() {
    let victim = Victim::listening("quic").await;
    let bystander = Bystander::start(&victim, "site-1").await;
    let Err(refused) = connect(&victim, b"h3").await else { panic!("'h3' was agreed to") };
    let ConnectionError::ConnectionClosed(close) = &refused else { panic!("{refused:?}") };
    assert_eq!(u64::from(close.error_code), NO_APPLICATION_PROTOCOL, "{refused}");
    victim.logs("peer doesn't support any known protocol").await;
    bystander.stays_unharmed().await;
}

/// The alert 120 of TLS, as QUIC carries it.
const NO_APPLICATION_PROTOCOL: u64 = 0x100 + 120;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_versions_and_noise_are_answered_with_the_versions_at_most() {
    let _turn = TURN.lock().await;
    let victim = Victim::listening("quic").await;
    let bystander = Bystander::start(&victim, "site-1").await;
    let before = victim.peak();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(victim.address()).await.unwrap();
    let mut noise = 1_u64;
    for _ in 0..10_000 {
        let datagram: Vec<u8> = std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (noise >> 56) as u8
        })
        .take(1200)
        .collect();
        // A full buffer of the system loses some; they are noise.
        let _ = socket.send(&datagram).await;
    }
    let mut initial = vec![0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8];
    initial.extend(*b"whatever");
    initial.extend([8]);
    initial.extend(*b"whosever");
    initial.resize(1200, 0);
    let versions = async {
        let mut answer = [0; 1500];
        loop {
            socket.send(&initial).await.unwrap();
            let received = timeout(Duration::from_millis(200), socket.recv(&mut answer)).await;
            let Ok(Ok(length)) = received else { continue };
            // Version 0 says: these are the versions that I know.
            if answer[0] & 0x80 != 0 && answer[1..5] == [0; 4] {
                return answer[..length].to_vec();
            }
        }
    };
    let versions = timeout(Duration::from_secs(20), versions).await.expect("an answer to another version");
    assert!(versions.windows(4).any(|version| version == [0, 0, 0, 1]));
    assert!(victim.peak().saturating_sub(before) < 16 * MIB);
    bystander.stays_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_never_says_its_number_is_given_up() {
    let victim = Victim::listening("quic").await;
    let bystander = Bystander::start(&victim, "site-1").await;
    // One opens no lane, the other all but the last.
    let silent = connect(&victim, PROTOCOL).await.unwrap();
    let stuck = connect(&victim, PROTOCOL).await.unwrap();
    let (mut tx, mut rx) = stuck.open_bi().await.unwrap();
    tx.write_all(&[0, 2]).await.unwrap();
    let mut agreed = [0];
    rx.read_exact(&mut agreed).await.unwrap();
    assert_eq!(agreed, [2]);
    let (mut first, _first) = stuck.open_bi().await.unwrap();
    first.write_all(&[1]).await.unwrap();
    for connection in [silent, stuck] {
        timeout(Duration::from_secs(20), connection.closed()).await.expect("closed within the deadline");
    }
    victim.logs("connection refused").await;
    victim.logs("no TLS or upgrade within 5s").await;
    bystander.stays_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_that_were_not_agreed_to_end_the_connection() {
    let victim = Victim::listening("quic").await;
    let bystander = Bystander::start(&victim, "site-1").await;
    for (lanes, why) in [
        (&[&[7_u8][..]][..], "its first lane is number 7"),
        (&[&[0, 2], &[1], &[1]], "lane 1 came twice"),
        (&[&[0, 1], &[2]], "lane 2 is none of the 1 agreed to"),
    ] {
        let connection = connect(&victim, PROTOCOL).await.unwrap();
        let mut open = Vec::new();
        for said in lanes {
            let (mut tx, rx) = connection.open_bi().await.unwrap();
            // It may know already.
            let _ = tx.write_all(said).await;
            open.push((tx, rx));
        }
        let end = timeout(Duration::from_secs(20), connection.closed()).await.expect("closed at once");
        assert!(end.to_string().contains(why), "{end}");
        victim.logs(why).await;
    }
    bystander.stays_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_streams_and_bytes_before_hello_stays_small_and_ends() {
    let _turn = TURN.lock().await;
    let victim = Victim::listening("quic").await;
    let bystander = Bystander::start(&victim, "site-1").await;
    let before = victim.peak();
    let mut floods = JoinSet::new();
    for _ in 0..50 {
        let connection = connect(&victim, PROTOCOL).await.unwrap();
        floods.spawn(flood(connection));
    }
    while let Some(flooded) = floods.join_next().await {
        let streams = flooded.unwrap();
        assert!((1..=17).contains(&streams), "{streams} streams were granted");
    }
    victim.logs("connection refused").await;
    let grown = victim.peak().saturating_sub(before);
    assert!(grown < 64 * MIB, "grew by {grown} bytes");
    bystander.stays_unharmed().await;
}

/// Opens every stream that it may and writes all that is taken, until the server has had enough.
async fn flood(connection: Connection) -> usize {
    let (mut streams, mut writing) = (0, JoinSet::new());
    let flood = async {
        while let Ok((mut tx, rx)) = connection.open_bi().await {
            let lane = u8::try_from(streams).unwrap_or(u8::MAX);
            streams += 1;
            writing.spawn(async move {
                let _rx = rx;
                let first: &[u8] = if lane == 0 { &[0, 16] } else { &[lane] };
                let mut taken = tx.write_all(first).await;
                while taken.is_ok() {
                    taken = tx.write_all(&[0xff; 1 << 16]).await;
                }
            });
        }
    };
    timeout(Duration::from_secs(30), flood).await.expect("closed within the deadline");
    while writing.join_next().await.is_some() {}
    streams
}

/// A connection of somebody with a good certificate.
async fn connect(victim: &Victim, protocol: &[u8]) -> Result<Connection, ConnectionError> {
    let tls = load(&CredentialFiles::in_dir(victim.pki().kit("site-9")));
    let client = tls.client("127.0.0.1", TlsMode::Mtls, &[protocol]).unwrap();
    let crypto = QuicClientConfig::try_from(client.config().clone()).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.connect_with(config, victim.address().parse().unwrap(), "127.0.0.1").unwrap().await
}
