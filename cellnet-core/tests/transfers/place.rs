//! What arrives, where, and what may not.

use std::{
    fs, io,
    os::unix::fs::symlink,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use cellnet_core::{
    Fqcn,
    transfer::{FetchOptions, Phase, Reason, SendOptions, TransferConfig, Transfers},
};
use tokio::io::AsyncWrite;

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn a_file_arrives_with_a_receipt_of_its_digest() {
    let net = Net::new().await;
    let receiver = net.receiver().await;
    let mut arrivals = receiver.arrivals();
    let sender = net.sender("site").await;
    for (name, len) in [("empty", 0), ("small", 5), ("block", BLOCK), ("large", 20 * BLOCK + 3)] {
        let path = net.file(name, len);
        let receipt = send(&sender, &path, "deep/").await.unwrap();
        assert_eq!(
            (receipt.files, receipt.bytes, receipt.received, receipt.resumed),
            (1, len as u64, len as u64, 0)
        );
        assert_eq!(receipt.digest, digest(&path));
        assert_eq!(fs::read(net.inbox().join("deep").join(name)).unwrap(), fs::read(&path).unwrap());
        let arrival = arrivals.next().await.unwrap();
        assert_eq!((arrival.origin.as_str(), &*arrival.path), ("relay.site", "deep"));
        assert_eq!(arrival.outcome.unwrap().digest, receipt.digest);
    }
    until("journals are gone", || names(&net.inbox().join("deep")).len() == 4).await;
    assert_eq!(names(&net.inbox().join("deep")), ["block", "empty", "large", "small"]);
}

#[tokio::test(start_paused = true)]
async fn a_remote_path_without_a_slash_is_a_name() {
    let net = Net::new().await;
    let _receiver = net.receiver().await;
    let sender = net.sender("site").await;
    send(&sender, &net.file("a", 10), "models/b").await.unwrap();
    send(&sender, &net.file("c", 10), "").await.unwrap();
    assert!(net.inbox().join("models/b").is_file());
    assert!(net.inbox().join("c").is_file());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_overwritten_unless_asked() {
    let net = Net::new().await;
    let _receiver = net.receiver().await;
    let sender = net.sender("site").await;
    let path = net.file("a", 3 * BLOCK);
    send(&sender, &path, "").await.unwrap();
    until("the journal is gone", || net.received() == ["a"]).await;
    fs::write(&path, content(2 * BLOCK)).unwrap();
    let error = send(&sender, &path, "").await.unwrap_err();
    assert_eq!(error.reason(), Reason::Exists);
    assert_eq!(fs::metadata(net.inbox().join("a")).unwrap().len(), 3 * BLOCK as u64);
    assert_eq!(net.received(), ["a"]);
    let options = SendOptions::default().overwrite(true);
    sender.send([&path], &Fqcn::server(), "", options).receipt().await.unwrap();
    assert_eq!(fs::metadata(net.inbox().join("a")).unwrap().len(), 2 * BLOCK as u64);
}

#[tokio::test(start_paused = true)]
async fn paths_that_lead_out_of_the_inbox_are_refused() {
    let net = Net::new().await;
    let _receiver = net.receiver().await;
    let sender = net.sender("site").await;
    let path = net.file("a", 10);
    let outside = net.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, net.inbox().join("link")).unwrap();
    symlink(outside.join("file"), net.inbox().join("a")).unwrap();
    for remote in ["../", "../x", "x/../../y", "/etc/x", "link/x", "link/deep/"] {
        let error = send(&sender, &path, remote).await.unwrap_err();
        assert_eq!(error.reason(), Reason::OutsideInbox, "{remote}: {error}");
    }
    // A link in the place of the file is something that exists; replaced, it is the link that goes.
    assert_eq!(send(&sender, &path, "a").await.unwrap_err().reason(), Reason::Exists);
    let options = SendOptions::default().overwrite(true);
    sender.send([&path], &Fqcn::server(), "a", options).receipt().await.unwrap();
    assert!(fs::symlink_metadata(net.inbox().join("a")).unwrap().is_file());
    assert_eq!(names(&outside), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_full_inbox_refuses_what_does_not_fit() {
    let net = Net::new().await;
    let mut config = net.inbox_config();
    config.inbox.as_mut().unwrap().quota = Some(3 * BLOCK as u64);
    let _receiver = Transfers::attach(&net.server, config).await.unwrap();
    let sender = net.sender("site").await;
    send(&sender, &net.file("a", 2 * BLOCK), "").await.unwrap();
    let error = send(&sender, &net.file("b", BLOCK + 1), "").await.unwrap_err();
    assert_eq!(error.reason(), Reason::Quota, "{error}");
    send(&sender, &net.file("c", BLOCK), "").await.unwrap();
    until("journals are gone", || net.received() == ["a", "c"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_cell_without_an_inbox_refuses_and_one_without_transfers_soon_fails() {
    let net = Net::new().await;
    let sender = net.sender("site").await;
    let path = net.file("a", 10);
    let start = tokio::time::Instant::now();
    assert_eq!(send(&sender, &path, "").await.unwrap_err().reason(), Reason::NoInbox);
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    let _none = Transfers::attach(&net.server, TransferConfig::default()).await.unwrap();
    let start = tokio::time::Instant::now();
    assert_eq!(send(&sender, &path, "").await.unwrap_err().reason(), Reason::NoInbox);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_not_sent() {
    let net = Net::new().await;
    let _receiver = net.receiver().await;
    let sender = net.sender("site").await;
    assert_eq!(send(&sender, &net.source("none"), "").await.unwrap_err().reason(), Reason::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_file_is_fetched_and_the_rest_of_the_disk_is_not() {
    let net = Net::new().await;
    let outbox = net.dir.path().join("source");
    let mut config = TransferConfig::default();
    config.outbox = Some(outbox.clone());
    let _source = Transfers::attach(&net.server, config).await.unwrap();
    let path = net.file("model", 9 * BLOCK + 1);
    fs::write(net.source("half.cellnet-partial"), "x").unwrap();
    symlink("/etc/passwd", net.source("link")).unwrap();
    let puller = net.sender("site").await;
    let local = net.dir.path().join("local");
    fs::create_dir(&local).unwrap();
    let server = Fqcn::server();
    let running = puller.fetch(&server, "model", &local, FetchOptions::default());
    let progress = running.progress();
    let receipt = running.receipt().await.unwrap();
    assert_eq!(receipt.digest, digest(&path));
    assert_eq!(digest(&local.join("model")), digest(&path));
    let progress = *progress.borrow();
    assert_eq!(
        (progress.phase, progress.bytes, progress.total),
        (Phase::Over, receipt.bytes, Some(receipt.bytes))
    );
    for (remote, reason) in [
        ("none", Reason::NotFound),
        ("../source/model", Reason::OutsideInbox),
        ("/etc/passwd", Reason::OutsideInbox),
        ("half.cellnet-partial", Reason::InvalidPath),
        ("link", Reason::OutsideInbox),
        ("model", Reason::Exists),
    ] {
        let error =
            puller.fetch(&server, remote, &local, FetchOptions::default()).receipt().await.unwrap_err();
        assert_eq!(error.reason(), reason, "{remote}: {error}");
    }
    assert_eq!(names(&local), ["model"]);
}

#[tokio::test(start_paused = true)]
async fn a_file_is_fetched_into_a_writer() {
    let net = Net::new().await;
    let _source = net.source_of_files().await;
    let path = net.source("model");
    sparse(&path, 3 << 20, &[1, 5]);
    let puller = net.sender("site").await;
    let (writer, mut reader) = tokio::io::duplex(1000);
    let running = puller.fetch_into(&Fqcn::server(), "model", writer);
    let mut got = Vec::new();
    let (receipt, read) =
        tokio::join!(running.receipt(), tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut got));
    read.unwrap();
    assert_eq!(receipt.unwrap().digest, digest(&path));
    assert_eq!(got, fs::read(&path).unwrap());
}

/// Writes nothing until it is flushed.
#[derive(Debug, Default, Clone)]
struct Hesitant(Arc<Mutex<Pages>>);

#[derive(Debug, Default)]
struct Pages {
    waiting: Vec<u8>,
    written: Vec<u8>,
}

impl AsyncWrite for Hesitant {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().unwrap().waiting.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Pages { waiting, written } = &mut *self.0.lock().unwrap();
        written.append(waiting);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_receipt_says_that_the_writer_has_written_everything() {
    let net = Net::new().await;
    let _source = net.source_of_files().await;
    let path = net.source("model");
    sparse(&path, 3 * BLOCK as u64 + 1, &[1]);
    let writer = Hesitant::default();
    let puller = net.sender("site").await;
    puller.fetch_into(&Fqcn::server(), "model", writer.clone()).receipt().await.unwrap();
    assert!(writer.0.lock().unwrap().written == fs::read(&path).unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_pauses_for_an_hour_is_waited_for() {
    let net = Net::new().await;
    let _source = net.source_of_files().await;
    let path = net.file("model", 40 * BLOCK);
    let puller = net.sender("site").await;
    let (writer, mut reader) = tokio::io::duplex(1000);
    let running = puller.fetch_into(&Fqcn::server(), "model", writer);
    let mut got = vec![0; 5 * BLOCK];
    tokio::io::AsyncReadExt::read_exact(&mut reader, &mut got).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let (receipt, read) =
        tokio::join!(running.receipt(), tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut got));
    read.unwrap();
    assert_eq!(receipt.unwrap().digest, digest(&path));
    assert!(got == fs::read(&path).unwrap());
}

#[tokio::test(start_paused = true)]
async fn holes_stay_holes() {
    let net = Net::new().await;
    let _receiver = net.receiver().await;
    let sender = net.sender("site").await;
    let path = net.source("sparse");
    sparse(&path, 64 << 20, &[3, 700]);
    let receipt = send(&sender, &path, "").await.unwrap();
    assert_eq!((receipt.bytes, receipt.received), (64 << 20, 2 * BLOCK as u64));
    let here = net.inbox().join("sparse");
    assert_eq!(digest(&here), digest(&path));
    assert!(stored(&here) <= 4 * BLOCK as u64, "{}", stored(&here));
}

#[tokio::test(start_paused = true)]
async fn the_same_file_can_be_sent_again_at_once() {
    let net = Net::new().await;
    let _receiver = net.receiver().await;
    let sender = net.sender("site").await;
    let path = net.file("a", 3 * BLOCK);
    let start = tokio::time::Instant::now();
    for _ in 0..30 {
        let options = SendOptions::default().overwrite(true);
        let receipt = sender.send([&path], &Fqcn::server(), "", options).receipt().await.unwrap();
        assert_eq!(receipt.digest, digest(&path));
    }
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_transfer_that_was_given_up_can_be_begun_again_at_once() {
    let net = Net::new().await;
    for (from, to) in [("relay", "server"), ("server", "relay")] {
        net.sim.net.set_latency(from, to, Duration::from_millis(20));
    }
    let _receiver = net.receiver().await;
    let sender = net.sender("site").await;
    let path = net.file("a", 400 * BLOCK);
    for _ in 0..4 {
        let sending = sender.send([&path], &Fqcn::server(), "", SendOptions::default());
        let progress = sending.progress();
        let before = progress.borrow().bytes;
        until("it has begun", || progress.borrow().bytes > before).await;
        sending.cancel().receipt().await.unwrap_err();
    }
    assert_eq!(send(&sender, &path, "").await.unwrap().digest, digest(&path));
}
