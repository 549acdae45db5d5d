//! Files from one cell to another, over wires in memory.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use cellnet_core::{
    cell::{HandlerError, Request},
    fobs::Object,
    message::Message,
    testkit::sim::{Sim, fqcn},
};

use super::{
    part::{Part, part_of},
    *,
};
use crate::download::{DownloadConfig, Downloads, Offer, Outcome, PullError};

/// A folder of a test's own, removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("cellnet-files-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, size: usize) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes(size)).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn bytes(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at % 251) as u8).collect()
}

async fn two() -> (Cell, Cell, Downloads, Downloads) {
    let sim = Sim::new();
    let server = sim.cell("server", &[]).await;
    let site = sim.cell("site-1", &["server"]).await;
    let config = DownloadConfig { file_chunk_size: 1000, ..DownloadConfig::default() };
    let (owner, puller) = (Downloads::attach_with(&server, config), Downloads::attach(&site));
    (server, site, owner, puller)
}

#[tokio::test(start_paused = true)]
async fn files_of_any_size_arrive() {
    let (_server, _site, owner, puller) = two().await;
    let folder = Folder::new();
    for size in [0, 1, 999, 1000, 1001, 12_345] {
        let (from, to) = (folder.file("from", size), folder.0.join(format!("to-{size}")));
        let (source, transaction) = owner.offer_file(&from, Offer::to(fqcn("site-1"))).await.unwrap();
        let pulled = puller.pull_file(&source.owner, source.ref_id.clone()).into_path(&to).await.unwrap();
        assert_eq!((pulled, fs::read(&to).unwrap()), (size as u64, bytes(size)));
        assert!(!part_of(&to).exists());
        assert_eq!(transaction.done().await, Outcome::Delivered);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pull_goes_on_where_another_has_ended() {
    let (_server, _site, owner, puller) = two().await;
    let folder = Folder::new();
    let (from, to) = (folder.file("from", 5500), folder.0.join("to"));
    let (source, transaction) = owner.offer_file(&from, Offer::to(fqcn("site-1"))).await.unwrap();
    let pull = || puller.pull_file(&source.owner, source.ref_id.clone()).resume();
    let cut = pull().max_bytes(2500).into_path(&to).await;
    assert!(matches!(cut, Err(PullError::TooLarge(2500))), "{cut:?}");
    assert_eq!((fs::read(part_of(&to)).unwrap(), to.exists()), (bytes(2000), false));
    assert_eq!(pull().into_path(&to).await.unwrap(), 5500);
    assert_eq!(fs::read(&to).unwrap(), bytes(5500));
    assert_eq!(transaction.status().receivers[0].bytes, 3000 + 3501);
}

/// What was there of a file that is shorter now.
#[tokio::test(start_paused = true)]
async fn more_than_the_owner_has_is_pulled_anew() {
    let (_server, _site, owner, puller) = two().await;
    let folder = Folder::new();
    let (from, to) = (folder.file("from", 5500), folder.0.join("to"));
    folder.file("to.part", 6000);
    let offer = async || owner.offer_file(&from, Offer::to(fqcn("site-1"))).await.unwrap().0;
    let pull = |source: Source| puller.pull_file(&source.owner, source.ref_id).resume().into_path(&to);
    // An owner of this kind gives up a reference of which somebody claims to have more than there is.
    let failed = pull(offer().await).await;
    assert!(matches!(failed, Err(PullError::OwnerFailed { .. })), "{failed:?}");
    assert_eq!(pull(offer().await).await.unwrap(), 5500);
    assert_eq!(fs::read(&to).unwrap(), bytes(5500));
}

/// An owner of the reference says that there is no more, whatever somebody has beyond the end.
fn owner_of_the_reference(cell: &Cell, content: Vec<u8>) {
    cell.handle(wire::CHANNEL, wire::TOPIC, move |request: Request| {
        let ask = wire::Ask::decode(&request.message.payload).unwrap();
        let at = ask.state.as_ref().and_then(wire::received_bytes).unwrap_or(0) as usize;
        let told = match content.get(at..).filter(|rest| !rest.is_empty()) {
            Some(rest) => {
                let data = Bytes::copy_from_slice(&rest[..rest.len().min(1000)]);
                let state = wire::file_state((at + data.len()) as u64);
                wire::Told::Ok { state, data: Object::Bin(data) }
            }
            None => wire::Told::Eof,
        };
        async move { Ok::<_, HandlerError>(Message::new(told.encode())) }
    });
}

#[tokio::test(start_paused = true)]
async fn an_end_before_what_is_there_is_not_taken_for_its_end() {
    for (there, now) in [(6000, 5500), (5501, 5500), (5500, 5500), (5499, 5500), (1, 5500)] {
        let (server, _site, _owner, puller) = two().await;
        let folder = Folder::new();
        let to = folder.0.join("to");
        folder.file("to.part", there);
        owner_of_the_reference(&server, bytes(now));
        let pull = puller.pull_file(&fqcn("server"), "R1").resume();
        assert_eq!(pull.into_path(&to).await.unwrap(), now as u64, "{there}");
        assert_eq!(fs::read(&to).unwrap(), bytes(now), "{there}");
    }
}

/// The process ended after the last answer, before the file had its name.
#[tokio::test(start_paused = true)]
async fn a_file_that_was_pulled_before_gets_its_name() {
    let (server, _site, _owner, puller) = two().await;
    let folder = Folder::new();
    let to = folder.0.join("to");
    folder.file("to.part", 5500);
    owner_of_the_reference(&server, Vec::new());
    assert_eq!(puller.pull_file(&fqcn("server"), "R1").resume().into_path(&to).await.unwrap(), 5500);
    assert_eq!(fs::read(&to).unwrap(), bytes(5500));
}

#[tokio::test(start_paused = true)]
async fn a_writer_gets_what_it_does_not_have() {
    let (_server, _site, owner, puller) = two().await;
    let folder = Folder::new();
    let (source, _) = owner.offer_file(folder.file("from", 5500), Offer::to(fqcn("site-1"))).await.unwrap();
    let mut rest = Vec::new();
    let pull = puller.pull_file(&source.owner, source.ref_id).from(1234);
    assert_eq!(pull.into_writer(&mut rest).await.unwrap(), 5500);
    assert!(rest == bytes(5500)[1234..]);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_there_is_not_replaced_unasked() {
    let (_server, _site, owner, puller) = two().await;
    let folder = Folder::new();
    let (from, to) = (folder.file("from", 10), folder.file("to", 3));
    let (source, _) = owner.offer_file(&from, Offer::to(fqcn("site-1"))).await.unwrap();
    let pull = || puller.pull_file(&source.owner, source.ref_id.clone());
    assert!(matches!(pull().into_path(&to).await, Err(PullError::Exists(path)) if path == to));
    assert_eq!(fs::read(&to).unwrap(), bytes(3));
    pull().overwrite().into_path(&to).await.unwrap();
    assert_eq!(fs::read(&to).unwrap(), bytes(10));
}

#[tokio::test(start_paused = true)]
async fn two_pulls_to_one_path_exclude_each_other() {
    let (_server, _site, owner, puller) = two().await;
    let folder = Folder::new();
    let (from, to) = (folder.file("from", 10), folder.0.join("to"));
    let held = Part::open(to.clone(), true, false).unwrap();
    let (source, _) = owner.offer_file(&from, Offer::to(fqcn("site-1"))).await.unwrap();
    let pull = || puller.pull_file(&source.owner, source.ref_id.clone());
    assert!(matches!(pull().into_path(&to).await, Err(PullError::Exists(_))));
    drop(held);
    pull().into_path(&to).await.unwrap();
}

#[cfg(unix)]
#[tokio::test(start_paused = true)]
async fn a_link_in_the_place_of_a_part_is_not_followed() {
    let folder = Folder::new();
    let (precious, to) = (folder.file("precious", 3), folder.0.join("to"));
    std::os::unix::fs::symlink(&precious, part_of(&to)).unwrap();
    assert!(matches!(Part::open(to, false, true), Err(PullError::Exists(_))));
    assert_eq!(fs::read(&precious).unwrap(), bytes(3));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_shrinks_is_an_error_at_both_ends() {
    let (_server, _site, owner, puller) = two().await;
    let folder = Folder::new();
    let (from, to) = (folder.file("from", 5500), folder.0.join("to"));
    let (source, transaction) = owner.offer_file(&from, Offer::to(fqcn("site-1"))).await.unwrap();
    let shrinks = move |_| fs::write(&from, b"less").unwrap();
    let failed = puller.pull_file(&source.owner, source.ref_id).on_progress(shrinks).into_path(&to).await;
    assert!(matches!(failed, Err(PullError::OwnerFailed { .. })), "{failed:?}");
    assert!(!to.exists() && !part_of(&to).exists());
    assert_eq!(transaction.done().await, Outcome::Failed);
}

#[tokio::test(start_paused = true)]
async fn a_place_that_cannot_be_written_is_named() {
    let (_server, _site, owner, puller) = two().await;
    let folder = Folder::new();
    let (source, _) = owner.offer_file(folder.file("from", 10), Offer::to(fqcn("site-1"))).await.unwrap();
    let nowhere = folder.0.join("nowhere").join("to");
    let failed = puller.pull_file(&source.owner, source.ref_id).into_path(nowhere).await;
    assert!(matches!(failed, Err(PullError::Sink(_))), "{failed:?}");
}
