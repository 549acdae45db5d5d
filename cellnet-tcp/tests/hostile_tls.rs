//! Peers that mean harm, or speak something else, on a port under TLS.

#![cfg(feature = "tls")]

use std::time::Duration;

use cellnet_core::{
    CellUrl, Fqcn,
    cell::{Cell, CellConfig, HandlerError, Request},
    message::Message,
    stats::Budget,
    testkit::pki::Pki,
    tls::{Tls, TlsMode},
    transport::{Bind, Transport, TransportError},
};
use cellnet_tcp::Tcp;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    net::TcpStream,
    sync::Mutex,
};

/// One measures memory, all open many files.
static TURN: Mutex<()> = Mutex::const_new(());

async fn server(tls: Tls, change: impl FnOnce(&mut CellConfig)) -> Cell {
    let builder = Cell::builder(Fqcn::server()).transport(Tcp::new()).tls(tls).configure(change);
    let cell = builder.listen("stcp://127.0.0.1:0".parse().unwrap()).start().await.unwrap();
    cell.handle("task", "*", |_: Request| async { Ok::<_, HandlerError>(Message::empty()) });
    cell
}

/// A normal site connects and gets its answer.
async fn serves_others(pki: &Pki, server: &Cell) {
    let site = Cell::builder("site-1".parse().unwrap()).transport(Tcp::new());
    let site = site.tls(pki.tls("site-1", TlsMode::Mtls)).dial(server.listening()[0].clone());
    let site = site.start().await.unwrap();
    site.connected().await;
    assert!(site.request(server.name(), "task", "t", Message::empty()).await.unwrap().is_ok());
    site.shutdown(Duration::from_secs(5)).await;
}

async fn socket(url: &CellUrl) -> TcpStream {
    TcpStream::connect((url.host(), url.port().unwrap())).await.unwrap()
}

/// The first bytes of an honest dialler.
async fn client_hello(tls: &Tls) -> Vec<u8> {
    let client = tls.client("127.0.0.1", TlsMode::Mtls, &[]).unwrap();
    let (near, mut far) = duplex(64 * 1024);
    let dialling = tokio::spawn(async move { client.connect(near).await.map(drop) });
    let mut hello = vec![0; 16 * 1024];
    let len = far.read(&mut hello).await.unwrap();
    hello.truncate(len);
    dialling.abort();
    hello
}

/// The memory of this process, in bytes; 0 where nobody says.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_diallers_that_stop_after_their_hello_keep_nobody_out() {
    let _turn = TURN.lock().await;
    rlimit::increase_nofile_limit(8192).unwrap();
    let pki = Pki::new();
    let tls = pki.tls("server", TlsMode::Mtls);
    let hello = client_hello(&tls).await;
    let long = Duration::from_secs(600);
    let server = server(tls, |config| config.link.set_up_deadline = long).await;
    serves_others(&pki, &server).await;
    let before = resident();
    let mut stopped = Vec::new();
    for _ in 0..1000 {
        let mut socket = socket(&server.listening()[0]).await;
        socket.write_all(&hello).await.unwrap();
        // The answer is there: the listener waits in the middle of the handshake.
        socket.read_u8().await.unwrap();
        stopped.push(socket);
    }
    let each = resident().saturating_sub(before) / 1000;
    assert!(each < 128 * 1024, "{each} bytes for each of them");
    serves_others(&pki, &server).await;
    assert_eq!(server.counters().failed_handshakes.get(), 0, "all of them are still there");
    drop(stopped);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_says_nothing_is_closed_at_the_deadline() {
    let _turn = TURN.lock().await;
    let pki = Pki::new();
    let short = Duration::from_millis(200);
    let server = server(pki.tls("server", TlsMode::Mtls), |config| config.link.set_up_deadline = short).await;
    let mut idle = socket(&server.listening()[0]).await;
    let mut hung = socket(&server.listening()[0]).await;
    hung.write_all(&client_hello(&pki.tls("x", TlsMode::Mtls)).await).await.unwrap();
    assert_eq!(idle.read(&mut [0]).await.unwrap(), 0);
    let mut rest = Vec::new();
    hung.read_to_end(&mut rest).await.unwrap();
    failed(&server, 2).await;
}

/// So many handshakes have failed. A connection is closed before it is counted.
async fn failed(server: &Cell, handshakes: u64) {
    let counted = async {
        while server.counters().failed_handshakes.get() < handshakes {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), counted).await.expect("they are counted");
    assert_eq!(server.counters().failed_handshakes.get(), handshakes);
}

/// What a listener says of these bytes, and what it answers.
async fn told(bytes: &[u8]) -> (String, Vec<u8>) {
    let pki = Pki::new();
    let mut bind = Bind::new("stcp://127.0.0.1:0".parse().unwrap(), Budget::new(0));
    bind.tls = Some(pki.tls("server", TlsMode::Mtls));
    let mut listener = Tcp::new().listen(&bind).await.unwrap();
    let mut socket = socket(listener.local_url()).await;
    socket.write_all(bytes).await.unwrap();
    let error = listener.accept().await.unwrap().await.unwrap_err();
    assert!(matches!(error, TransportError::Refused { .. }), "{error}");
    let mut answer = Vec::new();
    // Closing with bytes unread may be told as a reset.
    let _ = socket.read_to_end(&mut answer).await;
    (error.to_string(), answer)
}

/// A ClientHello of a version before 1.2.
fn old_hello(minor: u8) -> Vec<u8> {
    let mut hello = vec![3, minor];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x13, 1, 0]);
    let length = hello.len() as u8;
    [&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &hello].concat()
}

const ALERT: u8 = 21;

#[tokio::test]
async fn what_is_no_tls_or_too_old_is_refused_with_the_reason() {
    let frame = [0, 0, 0, 20, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 1, 1, 2, 3, 4];
    let huge = [22, 3, 3, 0, 10, 1, 0xff, 0xff, 0xff, 3, 3, 0, 0, 0, 0];
    for (what, bytes, reason) in [
        ("a frame in the clear", frame.to_vec(), "InvalidContentType"),
        ("a request of HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec(), "InvalidContentType"),
        ("TLS 1.0", old_hello(1), "peer is incompatible"),
        ("TLS 1.1", old_hello(2), "peer is incompatible"),
        ("a handshake message of 16 MiB", huge.to_vec(), "HandshakePayloadTooLarge"),
    ] {
        let (text, answer) = told(&bytes).await;
        assert!(text.contains("TLS") && text.contains(reason), "{what}: {text}");
        assert!(answer.first().is_none_or(|kind| *kind == ALERT), "{what}: nothing but an alert: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dialler_in_the_clear_and_one_under_tls_on_the_wrong_ports_are_told_so() {
    let _turn = TURN.lock().await;
    let pki = Pki::new();
    let short = Duration::from_millis(200);
    let change = |config: &mut CellConfig| {
        config.link.accept_deadline = short;
        config.link.redial_min = Duration::from_secs(600);
        config.link.redial_max = Duration::from_secs(600);
    };
    let secure = server(pki.tls("server", TlsMode::Mtls), change).await;
    let clear = Cell::builder(Fqcn::server()).transport(Tcp::new()).configure(change);
    let clear = clear.listen("tcp://127.0.0.1:0".parse().unwrap()).start().await.unwrap();
    for (scheme, to, reason) in [("tcp", &secure, "UnexpectedEof"), ("stcp", &clear, "TLS")] {
        let port = to.listening()[0].port().unwrap();
        let url = format!("{scheme}://127.0.0.1:{port}").parse().unwrap();
        let site = Cell::builder("site-1".parse().unwrap()).transport(Tcp::new()).configure(change);
        let mode = if scheme == "tcp" { TlsMode::Clear } else { TlsMode::Mtls };
        let site = site.tls(pki.tls("site-1", mode)).dial(url);
        let site = site.start().await.unwrap();
        let error = loop {
            if let Some(error) = site.dial_errors().pop() {
                break format!("{error:?}");
            }
            tokio::task::yield_now().await;
        };
        assert!(error.contains(reason), "{scheme}: {error}");
        failed(to, 1).await;
    }
}
