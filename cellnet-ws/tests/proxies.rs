//! A small proxy on the way.

mod common;

use cellnet_core::{
    stats::Budget,
    transport::{Batch, Bind, Target, Transport, TransportError},
};
use cellnet_ws::{Proxy, Ws};
use tokio::{
    io::{AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

use common::ask;

/// Takes one connection: gives what was asked, and tunnels unless there is another answer.
async fn proxy(listener: TcpListener, answer: Option<&str>) -> String {
    let (mut near, _) = listener.accept().await.unwrap();
    let asked = ask(&mut near, "").await.unwrap();
    if let Some(answer) = answer {
        near.write_all(answer.as_bytes()).await.unwrap();
        return asked;
    }
    let target = asked.split(' ').nth(1).unwrap().to_owned();
    let mut far = TcpStream::connect(target).await.unwrap();
    near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
    tokio::spawn(async move { copy_bidirectional(&mut near, &mut far).await });
    asked
}

async fn on_the_way(user: &str) -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{user}{}", listener.local_addr().unwrap());
    (listener, url)
}

#[tokio::test]
async fn a_connection_goes_through_the_proxy_with_user_and_password() {
    let mut there =
        Ws::new().listen(&Bind::new("ws://127.0.0.1:0".parse().unwrap(), Budget::new(0))).await.unwrap();
    let (listener, url) = on_the_way("me:p%40ss@").await;
    let ws = Ws::new().with_proxy(Proxy::new(&url).unwrap());
    let target = Target::new(there.local_url().clone(), Budget::new(0));
    let accept = async { there.accept().await.unwrap().await.unwrap() };
    let (asked, dialled, mut accepted) = tokio::join!(proxy(listener, None), ws.connect(&target), accept);
    let port = target.url.port().unwrap();
    assert!(asked.starts_with(&format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\n")), "{asked}");
    assert!(asked.contains("Proxy-Authorization: Basic bWU6cEBzcw==\r\n"), "{asked}");
    let mut dialled = dialled.unwrap();
    assert!(dialled.info.remote.contains(&port.to_string()) && dialled.info.remote.contains("by proxy"));
    dialled.control.tx.close().await.unwrap();
    let end = accepted.control.rx.recv(&mut Batch::new()).await;
    assert!(matches!(end, Err(TransportError::Closed)), "{end:?}");
}

#[tokio::test]
async fn a_refusal_names_the_proxy_and_its_answer_but_no_password() {
    for (user, answer, expected) in [
        ("me:secret@", "HTTP/1.1 403 Forbidden\r\n\r\n", "403 Forbidden"),
        ("me:secret@", "HTTP/1.1 407 No\r\n\r\n", "407 Proxy Authentication Required"),
        ("", "HTTP/1.1 407 No\r\n\r\n", "wants a user and a password"),
        ("", "HTTP/1.1 200 OK\r\n\r\nhello", "spoke in the place of h.example:8002"),
        ("", "SSH-2.0\r\n\r\n", "does not speak HTTP"),
        ("", "", "ended before"),
    ] {
        let (listener, url) = on_the_way(user).await;
        let address = listener.local_addr().unwrap().to_string();
        let ws = Ws::new().with_proxy(Proxy::new(&url).unwrap());
        let target = Target::new("ws://h.example:8002".parse().unwrap(), Budget::new(0));
        let (_, refused) = tokio::join!(proxy(listener, Some(answer)), ws.connect(&target));
        let error = refused.unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains(&address), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_named() {
    let (listener, url) = on_the_way("").await;
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let ws = Ws::new().with_proxy(Proxy::new(&url).unwrap());
    let target = Target::new("ws://h.example".parse().unwrap(), Budget::new(0));
    let error = ws.connect(&target).await.unwrap_err().to_string();
    assert!(error.contains(&address) && error.contains("proxy on the way to ws://h.example"), "{error}");
}

#[tokio::test]
async fn exceptions_are_reached_directly() {
    let mut there =
        Ws::new().listen(&Bind::new("ws://127.0.0.1:0".parse().unwrap(), Budget::new(0))).await.unwrap();
    let (_unused, url) = on_the_way("").await;
    let ws = Ws::new().with_proxy(Proxy::new(&url).unwrap().except("127.0.0.0/8"));
    let target = Target::new(there.local_url().clone(), Budget::new(0));
    let (dialled, accepted) =
        tokio::join!(ws.connect(&target), async { there.accept().await.unwrap().await });
    assert!(dialled.is_ok() && accepted.is_ok());
}
