//! Sources of unknown length.

use std::{fs, time::Duration};

use cellnet_core::{
    Fqcn,
    transfer::{Reason, SendOptions, Transfers},
};
use tokio::io::AsyncWriteExt;

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn a_reader_arrives_as_a_file_of_its_length() {
    let net = Net::new().await;
    let _receiver = net.receiver().await;
    let sender = net.sender("site").await;
    for len in [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK, 37 * BLOCK + 9] {
        let bytes: &'static [u8] = content(len).leak();
        let name = format!("in/{len}");
        let running = sender.send_reader(bytes, &Fqcn::server(), &name, SendOptions::default());
        let receipt = running.receipt().await.unwrap();
        assert_eq!((receipt.files, receipt.bytes), (1, len as u64), "{len}");
        assert_eq!(receipt.digest, *blake3::hash(bytes).as_bytes());
        assert_eq!(fs::read(net.inbox().join(name)).unwrap(), bytes);
    }
    let unnamed = sender.send_reader(&b"x"[..], &Fqcn::server(), "in/", SendOptions::default());
    assert_eq!(unnamed.receipt().await.unwrap_err().reason(), Reason::InvalidPath);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_pauses_for_an_hour_is_waited_for() {
    let net = Net::new().await;
    let _receiver = net.receiver().await;
    let sender = net.sender("site").await;
    let (mut writer, reader) = tokio::io::duplex(4096);
    let running = sender.send_reader(reader, &Fqcn::server(), "x", SendOptions::default());
    writer.write_all(&content(BLOCK + 5)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    writer.write_all(&content(BLOCK)).await.unwrap();
    drop(writer);
    assert_eq!(running.receipt().await.unwrap().bytes, 2 * BLOCK as u64 + 5);
}

#[tokio::test(start_paused = true)]
async fn a_reader_outlives_its_receiver() {
    let net = Net::new().await;
    let receiver = net.receiver().await;
    let sender = net.sender("site").await;
    let (mut writer, reader) = tokio::io::duplex(4096);
    let running = sender.send_reader(reader, &Fqcn::server(), "x", SendOptions::default());
    let bytes = content(50 * BLOCK + 5);
    let (first, second) = bytes.split_at(30 * BLOCK + 100);
    writer.write_all(first).await.unwrap();
    let progress = running.progress();
    until("it is written", || progress.borrow().bytes == 30 * BLOCK as u64).await;
    net.server.cancel();
    drop(receiver);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let server = net.sim.cell("server", &[]).await;
    let _receiver = Transfers::attach(&server, net.inbox_config()).await.unwrap();
    writer.write_all(second).await.unwrap();
    drop(writer);
    let receipt = running.receipt().await.unwrap();
    assert_eq!(receipt.digest, *blake3::hash(&bytes).as_bytes());
    assert_eq!(fs::read(net.inbox().join("x")).unwrap(), bytes);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_fails_is_a_typed_error_and_no_file() {
    let net = Net::new().await;
    let receiver = net.receiver().await;
    let mut arrivals = receiver.arrivals();
    let sender = net.sender("site").await;
    let reader = failing();
    let running = sender.send_reader(reader, &Fqcn::server(), "x", SendOptions::default());
    assert_eq!(running.receipt().await.unwrap_err().reason(), Reason::PermissionDenied);
    assert_eq!(arrivals.next().await.unwrap().outcome.unwrap_err().reason(), Reason::PermissionDenied);
    assert!(!net.inbox().join("x").exists());
}

/// Gives some bytes and then an error.
fn failing() -> impl tokio::io::AsyncRead + Send + Unpin {
    struct Failing(usize);
    impl tokio::io::AsyncRead for Failing {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            buffer: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            if self.0 == 0 {
                return std::task::Poll::Ready(Err(std::io::ErrorKind::PermissionDenied.into()));
            }
            let len = self.0.min(buffer.remaining());
            buffer.put_slice(&vec![5; len]);
            self.0 -= len;
            std::task::Poll::Ready(Ok(()))
        }
    }
    Failing(3 * BLOCK)
}
