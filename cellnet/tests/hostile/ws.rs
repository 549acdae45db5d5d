//! Peers over WebSocket that do not keep to it.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{MIB, TURN, bystander::Bystander, raw, victim::Victim};

/// Opcodes.
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
/// Flags beside the opcode: the last fragment, and compressed.
const FIN: u8 = 0x80;
const COMPRESSED: u8 = 0x40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compression_is_not_agreed_to_and_what_is_compressed_all_the_same_is_refused() {
    let victim = Victim::listening("ws").await;
    let bystander = Bystander::start(&victim, "site-1").await;
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    let (mut peer, answer) = Peer::upgrade(&victim, offer).await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    assert!(!answer.to_ascii_lowercase().contains("extensions"), "{answer}");
    peer.send(FIN | COMPRESSED | BINARY, &raw::hello("site-2")).await;
    peer.closed().await;
    victim.logs("a reserved bit is set").await;
    bystander.stays_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_a_foreign_site_is_refused() {
    let victim = Victim::listening("ws").await;
    let bystander = Bystander::start(&victim, "site-1").await;
    let (mut peer, answer) = Peer::upgrade(&victim, "Origin: https://evil.example\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    peer.closed().await;
    victim.logs("GET /f3 was answered with 403").await;
    bystander.stays_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_of_three_gibibytes_cost_nothing_and_are_closed() {
    let _turn = TURN.lock().await;
    let victim = Victim::listening("ws").await;
    let bystander = Bystander::start(&victim, "site-1").await;
    let before = victim.peak();
    let mut peers = Vec::new();
    for _ in 0..100 {
        let mut peer = Peer::open(&victim).await;
        peer.write(&head(FIN | BINARY, 3 << 30)).await;
        peers.push(peer);
    }
    // One that said who it is may send more, but not that.
    let mut known = Peer::open(&victim).await;
    known.send(FIN | BINARY, &raw::hello("site-2")).await;
    known.write(&head(FIN | BINARY, 3 << 30)).await;
    peers.push(known);
    for peer in &mut peers {
        peer.closed().await;
    }
    victim.logs("a message of 3221225472 bytes").await;
    let grown = victim.peak().saturating_sub(before);
    assert!(grown < 16 * MIB, "grew by {grown} bytes");
    bystander.stays_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_fragments_stays_small_and_ends() {
    let _turn = TURN.lock().await;
    let victim = Victim::listening("ws").await;
    let bystander = Bystander::start(&victim, "site-1").await;
    let before = victim.peak();
    for piece in [&b""[..], b"x"] {
        let mut peer = Peer::open(&victim).await;
        let mut fragments = head(CONTINUATION, piece.len());
        fragments.extend(piece);
        let burst = fragments.repeat(1000);
        // It begins as a frame of 60,000 bytes would.
        peer.send(BINARY, &[0, 0, 0xea, 0x60]).await;
        let flood = async { while peer.stream.write_all(&burst).await.is_ok() {} };
        timeout(Duration::from_secs(30), flood).await.expect("it is closed");
    }
    victim.logs("fragments for a message of this size").await;
    let grown = victim.peak().saturating_sub(before);
    assert!(grown < 16 * MIB, "grew by {grown} bytes");
    bystander.stays_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_is_read_past_and_too_much_of_it_ends_the_connection() {
    let victim = Victim::listening("ws").await;
    let bystander = Bystander::start(&victim, "site-1").await;
    let mut peer = Peer::open(&victim).await;
    peer.send(FIN | TEXT, b"hello?").await;
    victim.logs("the peer sends text").await;
    // Text does not hinder what follows it.
    peer.send(FIN | BINARY, &raw::hello("site-2")).await;
    victim.logs("site-2 connected").await;
    let mut text = head(FIN | TEXT, 60_000);
    text.resize(text.len() + 60_000, b'x');
    let flood = async { while peer.stream.write_all(&text).await.is_ok() {} };
    timeout(Duration::from_secs(30), flood).await.expect("it is closed");
    victim.logs("bytes of text").await;
    bystander.stays_unharmed().await;
}

/// A connection that can do what a library for WebSocket would not.
#[derive(Debug)]
struct Peer {
    stream: TcpStream,
}

impl Peer {
    /// One whose upgrade went well.
    async fn open(victim: &Victim) -> Self {
        let (peer, answer) = Self::upgrade(victim, "").await;
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
        peer
    }

    /// Asks for the upgrade with some more headers; gives the head of the answer.
    async fn upgrade(victim: &Victim, headers: &str) -> (Self, String) {
        let mut peer = Self { stream: TcpStream::connect(victim.address()).await.unwrap() };
        let request = format!(
            "GET /f3 HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n",
            victim.address()
        );
        peer.write(request.as_bytes()).await;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(peer.stream.read_u8().await.expect("the server answers"));
        }
        (peer, String::from_utf8(answer).unwrap())
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the server takes it");
    }

    async fn send(&mut self, first: u8, payload: &[u8]) {
        let mut message = head(first, payload.len());
        message.extend(payload);
        self.write(&message).await;
    }

    /// The server has had enough of it.
    async fn closed(&mut self) {
        let mut rest = Vec::new();
        // A reset is an end as well.
        let end = timeout(Duration::from_secs(15), self.stream.read_to_end(&mut rest)).await;
        assert!(end.is_ok(), "it is still open");
    }
}

/// What stands before a payload, masked with zeros.
fn head(first: u8, length: usize) -> Vec<u8> {
    let mut head = vec![first];
    match length {
        0..126 => head.push(0x80 | length as u8),
        126..0x1_0000 => {
            head.push(0x80 | 126);
            head.extend((length as u16).to_be_bytes());
        }
        _ => {
            head.push(0x80 | 127);
            head.extend((length as u64).to_be_bytes());
        }
    }
    head.extend([0; 4]);
    head
}
