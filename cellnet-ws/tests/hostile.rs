//! Peers that break rules: each is refused with a reason, at no cost in memory.

mod common;

use std::{error::Error, sync::Arc};

use cellnet_core::{
    stats::Budget,
    transport::{Batch, Bind, Connection, Frame, FrameReceiver, Listener, Target, Transport, TransportError},
    wire::Prefix,
};
use cellnet_ws::Ws;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use common::{UPGRADE, ask, ws_frame, ws_head};

const KEY: Option<[u8; 4]> = Some([9, 8, 7, 6]);

/// A frame of 16 bytes and a body.
fn sfm(body: &[u8]) -> Vec<u8> {
    let mut bytes = bytes::BytesMut::new();
    let length = 16 + body.len() as u32;
    Prefix { length, kind: 1, ..Prefix::default() }.encode(&mut bytes);
    bytes.extend_from_slice(body);
    bytes.to_vec()
}

fn frame(body: &[u8]) -> Frame {
    Frame::split(sfm(body).into()).unwrap()
}

async fn listen(ws: &Ws, budget: &Arc<Budget>) -> Box<dyn Listener> {
    ws.listen(&Bind::new("ws://127.0.0.1:0".parse().unwrap(), budget.clone())).await.unwrap()
}

async fn knock(listener: &dyn Listener) -> TcpStream {
    TcpStream::connect(("127.0.0.1", listener.local_url().port().unwrap())).await.unwrap()
}

/// What a listener answers to a request, and why it refused if it did.
async fn answered(ws: &Ws, request: &str) -> (String, Result<Connection, TransportError>) {
    let mut listener = listen(ws, &Budget::new(0)).await;
    let mut raw = knock(&*listener).await;
    let accepting = listener.accept().await.unwrap();
    let asking = async {
        let mut answer = ask(&mut raw, request).await.unwrap();
        if !answer.starts_with("HTTP/1.1 101") {
            let mut page = Vec::new();
            raw.read_to_end(&mut page).await.unwrap();
            drop(raw);
            answer += &String::from_utf8(page).unwrap();
        }
        answer
    };
    tokio::join!(asking, accepting)
}

/// A client that may write what it likes, and what the listener has of it.
async fn pair(budget: &Arc<Budget>) -> (TcpStream, Connection) {
    let mut listener = listen(&Ws::new(), budget).await;
    let mut raw = knock(&*listener).await;
    let (answer, accepted) = tokio::join!(ask(&mut raw, UPGRADE), listener.accept().await.unwrap());
    assert!(answer.unwrap().starts_with("HTTP/1.1 101"));
    (raw, accepted.unwrap())
}

/// The bodies that came, and why nothing follows.
async fn drain(rx: &mut Box<dyn FrameReceiver>) -> (Vec<Vec<u8>>, TransportError) {
    let mut batch = Batch::new();
    let end = loop {
        if let Err(error) = rx.recv(&mut batch).await {
            break error;
        }
    };
    (batch.iter().map(|frame| frame.body().to_vec()).collect(), end)
}

fn why(error: &TransportError) -> String {
    format!("{error}: {}", error.source().map(ToString::to_string).unwrap_or_default())
}

/// The payload of the close frame that a server sends last.
async fn close_code(raw: &mut TcpStream) -> u16 {
    let mut said = Vec::new();
    // The listener's end may be gone with bytes unread.
    let _ = raw.read_to_end(&mut said).await;
    let at = said.windows(2).rposition(|head| head == [0x88, 2]).expect("a close frame");
    u16::from_be_bytes([said[at + 2], said[at + 3]])
}

#[tokio::test]
async fn what_breaks_the_rules_ends_the_connection_with_a_reason_and_a_code() {
    let good = ws_frame(0x82, &sfm(b"good"), KEY);
    let with = |bytes: Vec<u8>| [good.clone(), bytes].concat();
    let many = |bytes: Vec<u8>, times| with(bytes.repeat(times));
    let large = sfm(&[5; 3000]);
    let fragments = large.iter().enumerate();
    let crumbs =
        fragments.flat_map(|(i, byte)| ws_frame(if i == 0 { 2 } else { 0 }, &[*byte], KEY)).collect();
    for (bytes, reason, code) in [
        (with(ws_frame(0x82, &sfm(b"x"), None)), "not masked", 1002),
        (with(ws_frame(0xc2, &sfm(b"x"), KEY)), "reserved bit", 1002),
        (with(ws_frame(0x92, &sfm(b"x"), KEY)), "reserved bit", 1002),
        (with(ws_frame(0x83, b"x", KEY)), "opcode 3", 1002),
        (with(ws_frame(0x8b, b"x", KEY)), "opcode 11", 1002),
        (with(ws_head(0x89, 126, KEY)), "control frame of 126 bytes", 1002),
        (with(ws_frame(0x09, b"x", KEY)), "control frame is fragmented", 1002),
        (with(ws_frame(0x80, b"x", KEY)), "continuation of no message", 1002),
        (with([ws_frame(2, b"\0", KEY), ws_frame(0x82, b"x", KEY)].concat()), "inside another", 1002),
        (with(ws_frame(0x88, &[3], KEY)), "close frame of one byte", 1002),
        (with(ws_head(0x82, 3 << 30, KEY)), "message of 3221225472 bytes", 1009),
        (with(ws_head(0x82, u64::MAX, KEY)), "bytes, 2145386496 are allowed", 1009),
        (with(ws_frame(0x82, &[sfm(b"x"), vec![0]].concat(), KEY)), "18 bytes holds a frame of 17", 1007),
        (with(ws_frame(0x82, &sfm(b"xy")[..17], KEY)), "17 bytes holds a frame of 18", 1007),
        (with(ws_frame(0x82, &[sfm(b"x"), sfm(b"y")].concat(), KEY)), "34 bytes holds a frame of 17", 1007),
        (with(ws_frame(0x82, b"", KEY)), "message of 0 bytes is no frame", 1007),
        (with(ws_frame(0x82, &sfm(b"")[..15], KEY)), "message of 15 bytes is no frame", 1007),
        (with(crumbs), "fragments", 1008),
        (many(ws_frame(0x89, b"ping", KEY), 1100), "carry nothing", 1008),
        (many(ws_frame(0x81, b"", KEY), 1100), "carry nothing", 1008),
        (many(ws_frame(0x81, &[b'a'; 60_000], KEY), 20), "1048576 bytes of text", 1008),
        (
            with([ws_frame(2, &sfm(b"x")[..5], KEY), ws_frame(0, b"", KEY).repeat(1100)].concat()),
            "fragments",
            1008,
        ),
    ] {
        let budget = Budget::new(1 << 20);
        let (mut raw, mut there) = pair(&budget).await;
        there.control.rx.set_max_frame(1 << 20);
        // Whoever breaks the rules may find that nobody reads to the end.
        let write = async {
            let _ = raw.write_all(&bytes).await;
            close_code(&mut raw).await
        };
        let read = async {
            let (bodies, end) = drain(&mut there.control.rx).await;
            assert_eq!(bodies, [b"good"], "{reason}");
            assert!(there.control.tx.flush().await.is_err(), "nothing is sent after it");
            assert!(why(&end).contains(reason), "'{}' does not say '{reason}'", why(&end));
            assert_eq!(budget.used(), 0);
            drop(there);
        };
        let (told, ()) = tokio::join!(write, read);
        assert_eq!(told, code, "{reason}");
    }
}

#[tokio::test]
async fn a_claim_of_gigabytes_costs_nothing_before_hello_and_after() {
    for limit in [None, Some(1 << 20)] {
        let budget = Budget::new(64 << 20);
        let (mut raw, mut there) = pair(&budget).await;
        if let Some(limit) = limit {
            there.control.rx.set_max_frame(limit);
        }
        let claimed = 2_000_000_000_u32;
        let mut prefix = bytes::BytesMut::new();
        Prefix { length: claimed, kind: 1, ..Prefix::default() }.encode(&mut prefix);
        raw.write_all(&ws_head(0x82, claimed.into(), Some([0; 4]))).await.unwrap();
        raw.write_all(&prefix).await.unwrap();
        let mut batch = Batch::new();
        there.control.rx.recv(&mut batch).await.unwrap();
        assert!(batch[0].is_truncated() && batch[0].body().is_empty() && budget.used() == 0);
        drop(raw);
        assert!(matches!(there.control.rx.recv(&mut batch).await, Err(TransportError::Io { .. })));
    }
}

#[tokio::test]
async fn text_is_ignored_and_pings_are_answered_between_the_parts_of_a_message() {
    let (mut raw, mut there) = pair(&Budget::new(0)).await;
    let message = sfm(b"in parts");
    let bytes = [
        ws_frame(0x81, b"hello", KEY),
        ws_frame(0x01, b"hel", KEY),
        ws_frame(0x80, b"lo", KEY),
        ws_frame(0x02, &message[..2], KEY),
        ws_frame(0x89, b"are you there", KEY),
        ws_frame(0x8a, b"unasked", KEY),
        ws_frame(0x00, b"", KEY),
        ws_frame(0x80, &message[2..], KEY),
        ws_frame(0x88, &[3, 232], KEY),
    ];
    raw.write_all(&bytes.concat()).await.unwrap();
    let (bodies, end) = drain(&mut there.control.rx).await;
    assert_eq!(bodies, [b"in parts"]);
    assert!(matches!(end, TransportError::Closed), "{end:?}");
    there.control.tx.close().await.unwrap();
    drop(there);
    let mut said = Vec::new();
    raw.read_to_end(&mut said).await.unwrap();
    assert_eq!(said, [ws_frame(0x8a, b"are you there", None), ws_frame(0x88, &[3, 232], None)].concat());
}

#[tokio::test]
async fn an_idle_connection_answers_a_ping_at_once() {
    let (mut raw, mut there) = pair(&Budget::new(0)).await;
    raw.write_all(&ws_frame(0x89, b"1", KEY)).await.unwrap();
    let mut pong = [0; 3];
    let mut batch = Batch::new();
    tokio::select! {
        end = there.control.rx.recv(&mut batch) => panic!("{end:?}"),
        read = raw.read_exact(&mut pong) => assert_eq!(read.unwrap(), 3),
    }
    assert_eq!(pong, [0x8a, 1, b'1']);
}

#[tokio::test]
async fn a_peer_that_pings_and_does_not_read_holds_one_answer() {
    let (raw, mut there) = pair(&Budget::new(0)).await;
    let (mut from, mut to) = raw.into_split();
    // Real messages in between, so that this is no flood.
    let bytes = [ws_frame(0x89, &[7; 125], KEY), ws_frame(0x82, &sfm(b"x"), KEY)].concat().repeat(200);
    let rounds = 400;
    let write = tokio::spawn(async move {
        for _ in 0..rounds {
            to.write_all(&bytes).await.unwrap();
        }
        to
    });
    let mut got = 0;
    while got < rounds * 200 {
        let mut batch = Batch::new();
        there.control.rx.recv(&mut batch).await.unwrap();
        got += batch.len();
    }
    drop(write.await.unwrap());
    drop(there);
    let mut pongs = Vec::new();
    let _ = from.read_to_end(&mut pongs).await;
    assert!(pongs.len() >= 127 && pongs.starts_with(&[0x8a, 125]));
}

#[tokio::test]
async fn masked_frames_of_a_server_end_the_connection() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", server.local_addr().unwrap());
    let serve = async {
        let (stream, _) = server.accept().await.unwrap();
        let mut upgraded = tokio_tungstenite::accept_async(stream).await.unwrap();
        upgraded.get_mut().write_all(&ws_frame(0x82, &sfm(b"x"), KEY)).await.unwrap();
        upgraded
    };
    let target = Target::new(url.parse().unwrap(), Budget::new(0));
    let ws = Ws::new();
    let (_server, connection) = tokio::join!(serve, ws.connect(&target));
    let (bodies, end) = drain(&mut connection.unwrap().control.rx).await;
    assert!(bodies.is_empty() && why(&end).contains("a frame of a server is masked"), "{}", why(&end));
}

#[tokio::test]
async fn deflate_is_not_agreed_to() {
    let offer = UPGRADE.replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n");
    let (answer, accepted) = answered(&Ws::new(), &offer).await;
    assert!(answer.starts_with("HTTP/1.1 101") && accepted.is_ok(), "{answer}");
    assert!(!answer.to_ascii_lowercase().contains("extensions"), "{answer}");
}

#[tokio::test]
async fn a_foreign_page_is_refused_unless_it_is_listed() {
    let foreign = UPGRADE.replace("\r\n\r\n", "\r\nOrigin: https://app.example\r\n\r\n");
    let (answer, refused) = answered(&Ws::new(), &foreign).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(refused.unwrap_err().to_string().contains("403"));
    let ws = Ws::new().with_allowed_origins(["https://app.example"]);
    assert!(answered(&ws, &foreign).await.1.is_ok());

    let url = "ws://127.0.0.1:0?origins=https://b.example,https://app.example".parse().unwrap();
    let mut listener = Ws::new().listen(&Bind::new(url, Budget::new(0))).await.unwrap();
    let mut raw = knock(&*listener).await;
    let (answer, accepted) = tokio::join!(ask(&mut raw, &foreign), listener.accept().await.unwrap());
    assert!(answer.unwrap().starts_with("HTTP/1.1 101") && accepted.is_ok());
}

#[tokio::test]
async fn people_and_monitors_get_a_page() {
    for (request, status, text) in [
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", "200 OK", "over WebSocket at the path /f3"),
        ("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n", "200 OK", "cellnet"),
        ("HEAD /healthz HTTP/1.1\r\nHost: h\r\n\r\n", "200 OK", "\r\n\r\n"),
        ("GET /favicon.ico HTTP/1.1\r\nHost: h\r\n\r\n", "404 Not Found", "Nothing"),
        ("GET /f3 HTTP/1.1\r\nHost: h\r\n\r\n", "426 Upgrade Required", "upgrade: websocket"),
        (&UPGRADE.replace("13", "7"), "426 Upgrade Required", "sec-websocket-version: 13"),
        (&UPGRADE.replace("Host: 127.0.0.1", "X: y"), "400 Bad Request", "Host"),
    ] {
        let (answer, refused) = answered(&Ws::new(), request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request}{answer}");
        assert!(answer.contains(text), "{request}{answer}");
        // Who got what they wanted were not refused.
        let quiet = matches!(refused, Err(TransportError::Closed));
        assert_eq!(quiet, status == "200 OK", "{refused:?}");
        assert!(refused.is_err());
    }
}

#[tokio::test]
async fn what_is_no_request_is_refused_at_once() {
    let long = format!("GET /f3 HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(9000));
    let many = format!("GET /f3 HTTP/1.1\r\nHost: h\r\n{}\r\n", "X: y\r\n".repeat(100));
    let binary = String::from_utf8(vec![0, 0, 0, 69, 0, 0, 4, 0]).unwrap();
    for (request, status) in [
        (long.as_str(), "431"),
        (&many, "431"),
        (&binary, "400"),
        ("\u{16}\u{3}\u{1} hello", "400"),
        ("G?T\r\n", "400"),
    ] {
        let (answer, refused) = answered(&Ws::new(), request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert!(matches!(refused, Err(TransportError::Refused { .. })));
    }
}

#[tokio::test]
async fn a_slow_upgrade_waits_alone_and_leaves_nothing() {
    let budget = Budget::new(1 << 20);
    let mut listener = listen(&Ws::new(), &budget).await;
    let mut slow = knock(&*listener).await;
    let waiting = tokio::spawn(listener.accept().await.unwrap());
    for byte in UPGRADE.as_bytes().chunks(1).take(50) {
        slow.write_all(byte).await.unwrap();
    }
    let mut quick = knock(&*listener).await;
    let (answer, accepted) = tokio::join!(ask(&mut quick, UPGRADE), listener.accept().await.unwrap());
    assert!(answer.unwrap().starts_with("HTTP/1.1 101") && accepted.is_ok());
    assert!(!waiting.is_finished());
    // What a cell does when the deadline of a set-up is over.
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    let mut end = Vec::new();
    let _ = slow.read_to_end(&mut end).await;
    assert!(end.is_empty() && budget.used() == 0);
}

#[tokio::test]
async fn a_close_that_tells_of_a_failure_is_told() {
    let (mut raw, mut there) = pair(&Budget::new(0)).await;
    raw.write_all(&ws_frame(0x88, b"\x03\xf1too\nlong", KEY)).await.unwrap();
    let (_, end) = drain(&mut there.control.rx).await;
    assert!(why(&end).contains("code 1009 'toolong'"), "{}", why(&end));
}

#[tokio::test]
async fn only_listeners_limit_messages_to_strangers() {
    let mut listener = listen(&Ws::new(), &Budget::new(0)).await;
    let target = Target::new(listener.local_url().clone(), Budget::new(0));
    let ws = Ws::new();
    let (dialled, accepted) =
        tokio::join!(ws.connect(&target), async { listener.accept().await.unwrap().await });
    let (mut dialled, accepted) = (dialled.unwrap(), accepted.unwrap());
    assert_eq!((dialled.info.legacy_max_frame, accepted.info.legacy_max_frame), (None, Some(4_194_303)));
    assert!(dialled.info.needs_heartbeat && accepted.info.needs_heartbeat);
    dialled.control.tx.feed(&mut Batch::from([frame(b"x")]));
    dialled.control.tx.flush().await.unwrap();
}

#[tokio::test]
async fn all_interfaces_cannot_be_dialled_and_paths_must_agree() {
    let target = |url: &str| Target::new(url.parse().unwrap(), Budget::new(0));
    let error = Ws::new().connect(&target("ws://0:1")).await.unwrap_err();
    assert!(error.to_string().contains("'0' stands for all interfaces"), "{error}");

    let bind = Bind::new("http://127.0.0.1:0/cells".parse().unwrap(), Budget::new(0));
    let mut listener = Ws::new().listen(&bind).await.unwrap();
    let port = listener.local_url().port().unwrap();
    for (url, opens) in
        [(format!("ws://127.0.0.1:{port}/cells"), true), (format!("ws://127.0.0.1:{port}"), false)]
    {
        let (ws, target) = (Ws::new(), target(&url));
        let (dialled, accepted) =
            tokio::join!(ws.connect(&target), async { listener.accept().await.unwrap().await });
        assert_eq!((dialled.is_ok(), accepted.is_ok()), (opens, opens));
        if let Err(error) = dialled {
            assert!(error.to_string().contains("404") && error.to_string().contains("/cells"), "{error}");
        }
    }
}
