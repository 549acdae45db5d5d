//! Peers that come no further than TLS.

use std::time::{Duration, Instant};

use cellnet::tls::{CredentialFiles, TlsMode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    FLOODED, MIB, TURN,
    bystander::Bystander,
    victim::{Victim, load},
};

const MANY: usize = 1000;

by_scheme! {
    [stcp wss]
    [
        idle_sockets_before_tls_keep_nobody_out_and_are_closed
        a_thousand_that_stop_after_their_client_hello_do_not_hold_up_a_handshake
    ]
}

async fn idle_sockets_before_tls_keep_nobody_out_and_are_closed(scheme: &str) {
    let _turn = TURN.lock().await;
    let victim = Victim::listening(scheme).await;
    let bystander = Bystander::start(&victim, "site-1").await;
    let before = victim.peak();
    let mut idle = Vec::new();
    for _ in 0..MANY {
        idle.push(TcpStream::connect(victim.address()).await.unwrap());
    }
    victim.serves_others("site-2").await;
    for socket in idle {
        closed(socket).await;
    }
    victim.logs("no TLS or upgrade within 5s").await;
    let grown = victim.peak().saturating_sub(before);
    assert!(grown < 32 * MIB, "grew by {grown} bytes");
    bystander.stays_unharmed().await;
}

async fn a_thousand_that_stop_after_their_client_hello_do_not_hold_up_a_handshake(scheme: &str) {
    let _turn = TURN.lock().await;
    let victim = Victim::listening(scheme).await;
    let bystander = Bystander::start(&victim, "site-1").await;
    let before = victim.peak();
    let hello = client_hello(&victim).await;
    let mut stopped = Vec::new();
    for _ in 0..MANY {
        let mut socket = TcpStream::connect(victim.address()).await.unwrap();
        socket.write_all(&hello).await.unwrap();
        stopped.push(socket);
    }
    let began = Instant::now();
    let client = timeout(FLOODED, victim.client("site-2")).await.expect("a handshake completes meanwhile");
    let took = began.elapsed();
    // Without optimisation, on a machine that has other things to do, a second is no measure.
    assert!(cfg!(debug_assertions) || took < Duration::from_secs(1), "a handshake took {took:?}");
    client.shutdown(Duration::from_secs(5)).await;
    for socket in stopped {
        closed(socket).await;
    }
    victim.logs("no TLS or upgrade within 5s").await;
    let grown = victim.peak().saturating_sub(before);
    assert!(grown < 64 * MIB, "grew by {grown} bytes");
    bystander.stays_unharmed().await;
}

/// The first message of a good client.
async fn client_hello(victim: &Victim) -> Vec<u8> {
    let tls = load(&CredentialFiles::in_dir(victim.pki().kit("site-9")));
    let client = tls.client("127.0.0.1", TlsMode::Mtls, &[]).unwrap();
    let (near, mut far) = tokio::io::duplex(1 << 16);
    let connecting = tokio::spawn(async move { client.connect(near).await.map(drop) });
    let mut hello = vec![0; 1 << 16];
    let length = far.read(&mut hello).await.unwrap();
    connecting.abort();
    hello.truncate(length);
    hello
}

/// The server has had enough of it.
async fn closed(mut socket: TcpStream) {
    let mut answer = Vec::new();
    // A reset is an end as well.
    let end = timeout(Duration::from_secs(15), socket.read_to_end(&mut answer)).await;
    assert!(end.is_ok(), "it is still open");
}
