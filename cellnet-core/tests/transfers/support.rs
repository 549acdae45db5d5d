//! Cells with inboxes, and files to send.

use std::{
    fs,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    time::Duration,
};

use cellnet_core::{
    cell::Cell,
    testkit::sim::Sim,
    transfer::{Receipt, SendOptions, TransferConfig, TransferError, Transfers},
};
use tempfile::TempDir;

/// Blocks of the tests; the smallest there are.
pub(crate) const BLOCK: usize = 64 << 10;

/// A sender and a receiver with a relay between them.
pub(crate) struct Net {
    pub(crate) sim: Sim,
    pub(crate) server: Cell,
    _relay: Cell,
    pub(crate) dir: TempDir,
}

impl Net {
    pub(crate) async fn new() -> Self {
        // Relays that keep blocks have tests of their own; here every request comes to the source.
        Self::of(Sim::new().configured(|config| config.block_cache = 0)).await
    }

    /// With a relay that keeps blocks.
    pub(crate) async fn keeping() -> Self {
        Self::of(Sim::new()).await
    }

    /// In which a file takes some time.
    pub(crate) async fn slow() -> Self {
        let net = Self::new().await;
        net.slow_down();
        net
    }

    pub(crate) fn slow_down(&self) {
        for (from, to) in [("relay", "server"), ("server", "relay")] {
            self.sim.net.set_latency(from, to, Duration::from_millis(20));
        }
    }

    async fn of(sim: Sim) -> Self {
        let server = sim.cell("server", &[]).await;
        let _relay = sim.cell("relay", &["server"]).await;
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("source")).unwrap();
        Self { sim, server, _relay, dir }
    }

    /// A cell below the relay.
    pub(crate) async fn site(&self, name: &str) -> Cell {
        self.sim.cell(&format!("relay.{name}"), &["relay"]).await
    }

    /// The transfers of the server, with an inbox.
    pub(crate) async fn receiver(&self) -> Transfers {
        Transfers::attach(&self.server, self.inbox_config()).await.unwrap()
    }

    pub(crate) fn inbox_config(&self) -> TransferConfig {
        let mut config = TransferConfig::with_inbox(self.inbox());
        config.window = 4 * BLOCK;
        config
    }

    /// The transfers of the server, of which others may fetch all that is at the source.
    pub(crate) async fn outbox(&self) -> Transfers {
        Transfers::attach(&self.server, self.outbox_config()).await.unwrap()
    }

    /// The transfers of the server, with an outbox.
    pub(crate) async fn source_of_files(&self) -> Transfers {
        Transfers::attach(&self.server, self.outbox_config()).await.unwrap()
    }

    pub(crate) fn outbox_config(&self) -> TransferConfig {
        let mut config = sender_config();
        config.outbox = Some(self.dir.path().join("source"));
        config
    }

    /// An empty directory for what is fetched.
    pub(crate) fn local(&self, name: &str) -> PathBuf {
        let local = self.dir.path().join(name);
        fs::create_dir(&local).unwrap();
        local
    }

    /// The transfers of a new cell below the relay, without an inbox.
    pub(crate) async fn sender(&self, name: &str) -> Transfers {
        Transfers::attach(&self.site(name).await, sender_config()).await.unwrap()
    }

    pub(crate) fn inbox(&self) -> PathBuf {
        self.dir.path().join("inbox")
    }

    pub(crate) fn source(&self, name: &str) -> PathBuf {
        self.dir.path().join("source").join(name)
    }

    /// A file of so many bytes at the source.
    pub(crate) fn file(&self, name: &str, len: usize) -> PathBuf {
        let path = self.source(name);
        fs::write(&path, content(len)).unwrap();
        path
    }

    /// The names in the inbox, sorted.
    pub(crate) fn received(&self) -> Vec<String> {
        names(&self.inbox())
    }
}

pub(crate) fn sender_config() -> TransferConfig {
    let mut config = TransferConfig::default();
    config.block_size = BLOCK;
    config
}

pub(crate) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Bytes of which no block is like another.
pub(crate) fn content(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 251 + at * 31 + at / BLOCK * 7) as u8 | 1).collect()
}

pub(crate) fn digest(path: &Path) -> [u8; 32] {
    blake3::hash(&fs::read(path).unwrap()).into()
}

pub(crate) async fn send(transfers: &Transfers, path: &Path, remote: &str) -> Result<Receipt, TransferError> {
    transfers.send([path], &cellnet_core::Fqcn::server(), remote, SendOptions::default()).receipt().await
}

/// Waits until something holds, for an hour at most.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..360_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not even after an hour: {what}");
}

/// A file with data at some blocks and holes elsewhere.
pub(crate) fn sparse(path: &Path, len: u64, blocks: &[u64]) {
    let file = fs::File::create(path).unwrap();
    file.set_len(len).unwrap();
    for block in blocks {
        file.write_all_at(&content(BLOCK), block * BLOCK as u64).unwrap();
    }
}

/// Bytes that a file takes on disk.
pub(crate) fn stored(path: &Path) -> u64 {
    fs::metadata(path).unwrap().blocks() * 512
}
