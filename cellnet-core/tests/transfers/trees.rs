//! Directories.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    time::{Duration, SystemTime},
};

use cellnet_core::{
    Fqcn,
    transfer::{FetchOptions, Reason, SendOptions, Transfers},
};

use crate::support::*;

/// A tree with large, small and empty files, and empty and deep directories.
fn tree(root: &Path) {
    for dir in ["empty", "a/b/c", "z"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    for (name, len) in [
        ("a/large", 9 * BLOCK + 1),
        ("a/b/c/small", 100),
        ("nothing", 0),
        ("z/block", BLOCK),
        ("z/two", 2 * BLOCK),
    ] {
        fs::write(root.join(name), content(len)).unwrap();
    }
    fs::set_permissions(root.join("a/large"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::set_permissions(root.join("a/b"), fs::Permissions::from_mode(0o750)).unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    for name in ["a/b/c/small", "a/b", "z", "."] {
        fs::File::open(root.join(name)).unwrap().set_modified(time).unwrap();
    }
}

/// Path, content, permissions and time of everything.
fn look(root: &Path) -> Vec<(String, Option<Vec<u8>>, u32, SystemTime)> {
    let (mut found, mut dirs) = (Vec::new(), vec![root.to_owned()]);
    while let Some(dir) = dirs.pop() {
        let entries = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
        for path in entries.chain((dir == root).then(|| dir.clone())) {
            let metadata = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let content = metadata.is_file().then(|| fs::read(&path).unwrap());
            found.push((name, content, metadata.permissions().mode() & 0o777, metadata.modified().unwrap()));
            if metadata.is_dir() && path != dir {
                dirs.push(path);
            }
        }
    }
    found.sort();
    found
}

#[tokio::test(start_paused = true)]
async fn a_tree_arrives_with_its_permissions_and_times() {
    let net = Net::new().await;
    let _receiver = net.receiver().await;
    let sender = net.sender("site").await;
    tree(&net.source("tree"));
    let receipt = send(&sender, &net.source("tree"), "in/").await.unwrap();
    assert_eq!((receipt.files, receipt.bytes), (5, (9 * BLOCK + 1 + 100 + 3 * BLOCK) as u64));
    assert_eq!(look(&net.inbox().join("in/tree")), look(&net.source("tree")));
    until("the journal is gone", || names(&net.inbox().join("in")) == ["tree"]).await;
    assert_eq!(send(&sender, &net.source("tree"), "in/").await.unwrap_err().reason(), Reason::Exists);
}

#[tokio::test(start_paused = true)]
async fn several_sources_go_into_one_directory() {
    let net = Net::new().await;
    let _receiver = net.receiver().await;
    let sender = net.sender("site").await;
    tree(&net.source("tree"));
    let (a, b) = (net.file("x", 10), net.file("y", 3 * BLOCK));
    let sending = sender.send([&a, &net.source("tree"), &b], &Fqcn::server(), "all", SendOptions::default());
    let receipt = sending.receipt().await.unwrap();
    assert_eq!(receipt.files, 7);
    until("journals are gone", || names(&net.inbox().join("all")) == ["tree", "x", "y"]).await;
    assert_eq!(digest(&net.inbox().join("all/y")), digest(&b));
    let twice = sender.send([&a, &a], &Fqcn::server(), "twice", SendOptions::default());
    assert_eq!(twice.receipt().await.unwrap_err().reason(), Reason::InvalidPath);
}

#[tokio::test(start_paused = true)]
async fn a_tree_over_another_replaces_files_and_keeps_the_rest() {
    let net = Net::new().await;
    let _receiver = net.receiver().await;
    let sender = net.sender("site").await;
    tree(&net.source("tree"));
    send(&sender, &net.source("tree"), "").await.unwrap();
    fs::write(net.inbox().join("tree/z/mine"), "kept").unwrap();
    fs::write(net.source("tree/z/block"), "new").unwrap();
    let options = SendOptions::default().overwrite(true);
    sender.send([net.source("tree")], &Fqcn::server(), "", options).receipt().await.unwrap();
    assert_eq!(fs::read(net.inbox().join("tree/z/block")).unwrap(), b"new");
    assert_eq!(fs::read(net.inbox().join("tree/z/mine")).unwrap(), b"kept");
    fs::remove_file(net.inbox().join("tree/z/mine")).unwrap();
    assert_eq!(fs::read(net.inbox().join("tree/a/large")).unwrap(), content(9 * BLOCK + 1));
    until("the journal is gone", || net.received() == ["tree"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_tree_that_cannot_replace_all_says_what_it_has_replaced_and_is_finished_later() {
    let net = Net::new().await;
    let _receiver = net.receiver().await;
    let sender = net.sender("site").await;
    fs::create_dir_all(net.source("tree/z")).unwrap();
    for name in ["a", "b", "m", "z/c"] {
        fs::write(net.source(&format!("tree/{name}")), "old").unwrap();
    }
    send(&sender, &net.source("tree"), "").await.unwrap();
    for name in ["a", "b", "m", "z/c"] {
        fs::write(net.source(&format!("tree/{name}")), "newer").unwrap();
    }
    // A file does not replace a directory.
    let here = net.inbox().join("tree");
    fs::remove_file(here.join("m")).unwrap();
    fs::create_dir(here.join("m")).unwrap();
    let options = SendOptions::default().overwrite(true);
    let again =
        async || sender.send([net.source("tree")], &Fqcn::server(), "", options.clone()).receipt().await;
    let error = again().await.unwrap_err();
    assert!(error.text().contains("'tree/m'"), "{error}");
    assert!(error.text().ends_with("in place already: 2 ('tree/a', 'tree/b')"), "{error}");
    let read = |name: &str| fs::read_to_string(here.join(name)).unwrap();
    assert_eq!([read("a"), read("b"), read("z/c")], ["newer", "newer", "old"]);
    fs::remove_dir(here.join("m")).unwrap();
    again().await.unwrap();
    assert_eq!([read("a"), read("m"), read("z/c")], ["newer"; 3]);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_file_is_an_error_or_left_out() {
    let net = Net::new().await;
    let _receiver = net.receiver().await;
    let sender = net.sender("site").await;
    tree(&net.source("tree"));
    symlink("/etc/passwd", net.source("tree/a/link")).unwrap();
    let error = send(&sender, &net.source("tree"), "").await.unwrap_err();
    assert_eq!(error.reason(), Reason::Unsupported, "{error}");
    assert_eq!(net.received(), [""; 0]);
    let options = SendOptions::default().skip_special(true);
    let receipt = sender.send([net.source("tree")], &Fqcn::server(), "", options).receipt().await.unwrap();
    assert_eq!(receipt.files, 5);
    assert!(!net.inbox().join("tree/a/link").exists());
}

#[tokio::test(start_paused = true)]
async fn a_tree_is_taken_up_where_it_was() {
    let net = Net::new().await;
    for (from, to) in [("relay", "server"), ("server", "relay")] {
        net.sim.net.set_latency(from, to, Duration::from_millis(20));
    }
    let receiver = net.receiver().await;
    let sender = net.sender("site").await;
    tree(&net.source("tree"));
    fs::write(net.source("tree/a/huge"), content(60 * BLOCK)).unwrap();
    let total = (60 * BLOCK + 12 * BLOCK + 101) as u64;
    let sending = sender.send([net.source("tree")], &Fqcn::server(), "", SendOptions::default());
    let progress = sending.progress();
    until("some of it is there", || progress.borrow().bytes > total / 3).await;
    assert_eq!(net.received(), ["tree.cellnet-journal", "tree.cellnet-partial"]);
    net.server.cancel();
    drop(receiver);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let server = net.sim.cell("server", &[]).await;
    let _receiver = Transfers::attach(&server, net.inbox_config()).await.unwrap();
    let receipt = sending.receipt().await.unwrap();
    assert!(receipt.resumed > total / 3);
    assert_eq!(receipt.resumed + receipt.received, total);
    assert_eq!(look(&net.inbox().join("tree")), look(&net.source("tree")));
}

#[tokio::test(start_paused = true)]
async fn a_manifest_of_many_pages_arrives_whole() {
    let net = Net::new().await;
    let _source = net.source_of_files().await;
    for at in 0..1300 {
        fs::create_dir_all(net.source(&format!("d{}", at % 7))).unwrap();
        fs::write(net.source(&format!("d{}/{at:05}", at % 7)), at.to_string()).unwrap();
    }
    let puller = net.sender("site").await;
    let local = net.dir.path().join("local");
    fs::create_dir(&local).unwrap();
    let receipt = puller.fetch(&Fqcn::server(), "", &local, FetchOptions::default()).receipt().await.unwrap();
    assert_eq!(receipt.files, 1300);
    for at in 0..7 {
        let name = format!("d{at}");
        assert_eq!(look(&local.join(&name)), look(&net.source(&name)));
    }
}

#[tokio::test(start_paused = true)]
async fn more_entries_than_there_may_be_are_refused() {
    let net = Net::new().await;
    let mut config = net.inbox_config();
    config.max_entries = 9;
    let _receiver = Transfers::attach(&net.server, config).await.unwrap();
    let sender = net.sender("site").await;
    tree(&net.source("tree"));
    assert_eq!(send(&sender, &net.source("tree"), "").await.unwrap_err().reason(), Reason::TooMany);
}
