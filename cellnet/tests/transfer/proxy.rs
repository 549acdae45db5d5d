//! A wire between two processes that a test can count on, slow down, cut and damage.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

/// Passes TCP connections on to an address. *Up* is from who connects to that address.
#[derive(Debug)]
pub(crate) struct Proxy {
    local: SocketAddr,
    wire: Arc<Wire>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Wire {
    upstream: String,
    up: Way,
    down: Way,
    /// Counts the cuts; connections of an earlier number end.
    cuts: watch::Sender<u64>,
}

/// One direction.
#[derive(Debug, Default)]
struct Way {
    bytes: AtomicU64,
    damage: Mutex<Option<Damage>>,
    /// Bytes a second; 0 for as fast as it goes.
    speed: AtomicU64,
}

/// What is to be damaged: the byte that follows these, the next time or always.
#[derive(Debug, Clone)]
pub(crate) struct Damage {
    pub(crate) after: [u8; 8],
    pub(crate) always: bool,
}

impl Proxy {
    /// To `host:port`.
    pub(crate) async fn to(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port of loopback");
        let local = listener.local_addr().expect("it is bound");
        let cuts = watch::Sender::new(0);
        let wire = Wire { upstream: upstream.into(), up: Way::default(), down: Way::default(), cuts };
        let wire = Arc::new(wire);
        let accepting = tokio::spawn(accept(listener, Arc::clone(&wire)));
        Self { local, wire, accepting }
    }

    /// Where it listens, `host:port`.
    pub(crate) fn address(&self) -> String {
        self.local.to_string()
    }

    /// Bytes that went from who connects.
    pub(crate) fn up(&self) -> u64 {
        self.wire.up.bytes.load(Relaxed)
    }

    /// Bytes that went to who connects.
    pub(crate) fn down(&self) -> u64 {
        self.wire.down.bytes.load(Relaxed)
    }

    /// Ends all connections; new ones are taken.
    pub(crate) fn cut(&self) {
        self.wire.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Lets so many bytes a second go up, or as many as will for 0.
    pub(crate) fn limit_up(&self, bytes_s: u64) {
        self.wire.up.speed.store(bytes_s, Relaxed);
    }

    /// Damages what goes up.
    pub(crate) fn damage_up(&self, damage: Damage) {
        *lock(&self.wire.up.damage) = Some(damage);
    }

    /// Whether something is still to be damaged.
    pub(crate) fn is_armed(&self) -> bool {
        lock(&self.wire.up.damage).is_some()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, wire: Arc<Wire>) {
    while let Ok((near, _)) = listener.accept().await {
        // Who waits for the far end does not keep others from connecting.
        tokio::spawn(serve(near, Arc::clone(&wire), wire.cuts.subscribe()));
    }
}

/// Carries one connection both ways until either way ends or it is cut.
async fn serve(near: TcpStream, wire: Arc<Wire>, mut cuts: watch::Receiver<u64>) {
    let Ok(far) = TcpStream::connect(&wire.upstream).await else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let ((near_rx, near_tx), (far_rx, far_tx)) = (near.into_split(), far.into_split());
    tokio::select! {
        _ = carry(near_rx, far_tx, &wire.up) => {}
        _ = carry(far_rx, near_tx, &wire.down) => {}
        _ = cuts.changed() => {}
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: &Way) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let mut seen = Seen::default();
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        let piece = &mut buffer[..length];
        seen.pass(piece, &way.damage);
        to.write_all(piece).await?;
        way.bytes.fetch_add(length as u64, Relaxed);
        let speed = way.speed.load(Relaxed);
        if speed > 0 {
            tokio::time::sleep(Duration::from_secs_f64(length as f64 / speed as f64)).await;
        }
    }
}

/// The end of what has passed, as what is looked for may come in two pieces.
#[derive(Debug, Default)]
struct Seen {
    tail: Vec<u8>,
}

impl Seen {
    /// Damages the byte of the piece that follows what is looked for.
    fn pass(&mut self, piece: &mut [u8], damage: &Mutex<Option<Damage>>) {
        let mut wanted = lock(damage);
        let Some(Damage { after, always }) = &*wanted else {
            self.tail.clear();
            return;
        };
        let before = self.tail.len();
        self.tail.extend_from_slice(piece);
        let hits = self.tail.windows(after.len()).enumerate().filter(|(_, window)| window == after);
        let ends =
            hits.map(|(at, _)| at + after.len()).filter(|end| (before..before + piece.len()).contains(end));
        let hits: Vec<usize> = if *always { ends.collect() } else { ends.take(1).collect() };
        for end in &hits {
            piece[end - before] ^= 0x20;
        }
        if !hits.is_empty() && !always {
            *wanted = None;
        }
        let keep = self.tail.len().saturating_sub(8);
        self.tail.drain(..keep);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[tokio::test]
async fn what_passes_is_counted_damaged_where_asked_and_cut() {
    let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::to(&echo.local_addr().unwrap().to_string()).await;
    let mut near = TcpStream::connect(proxy.address()).await.unwrap();
    let (mut far, _) = echo.accept().await.unwrap();
    proxy.damage_up(Damage { after: *b"NEEDLE-8", always: false });
    // In two pieces, the second of which begins with the byte that is damaged.
    for piece in [&b"..NEEDLE"[..], b"-8", b"x NEEDLE-8y"] {
        near.write_all(piece).await.unwrap();
        let mut came = vec![0; piece.len()];
        far.read_exact(&mut came).await.unwrap();
        assert_eq!(came, if piece[0] == b'x' { b"X NEEDLE-8y" } else { piece });
    }
    assert!(!proxy.is_armed());
    assert_eq!((proxy.up(), proxy.down()), (21, 0));
    proxy.cut();
    assert_eq!(near.read(&mut [0]).await.unwrap_or(0), 0);
    let _new = TcpStream::connect(proxy.address()).await.unwrap();
    echo.accept().await.unwrap();
}
