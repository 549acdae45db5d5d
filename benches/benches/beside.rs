//! A small request and a heartbeat beside transfers of files that fill one connection both ways.
//!
//! Each cell has a runtime of its own with half of the processors, as two machines would have. Heartbeats are PINGs that a
//! wrapper of the driver puts on the control lane with what the writer of the link gives it; the PONG comes from the link at the other
//! end. Without `--bench`, a few requests show that it works. `cargo bench --bench beside -- tcp` measures one transport.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use cellnet_benches::apart::Apart;
use cellnet_core::{
    cell::{Cell, CellBuilder},
    stats::Meter,
    testkit::pki::Pki,
    transfer::{SendOptions, TransferConfig, Transfers},
    transport::{
        Batch, Bind, Connection, Frame, FrameReceiver, FrameSender, Lane, Listener, Target, Transport,
        TransportError,
    },
    url::Scheme,
    wire::{FrameKind, PREFIX_LEN, Prefix},
};
use cellnet_quic::Quic;
use cellnet_tcp::Tcp;
use hdrhistogram::Histogram;
use tokio::{runtime::Runtime, time::sleep};

fn main() {
    let said = |flag| env::args().any(|argument| argument == flag);
    if said("--list") {
        return;
    }
    let full = said("--bench") && !said("--test");
    let chosen = env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let chosen = |scheme: &&str| chosen.as_deref().is_none_or(|chosen| chosen == *scheme);
    println!(
        "| transport | transfers | request p50 µs | p99 µs | max µs | heartbeat p50 µs | p99 µs | max µs | MB/s up | MB/s down |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let pki = Pki::new();
    for scheme in ["tcp", "quic"].into_iter().filter(chosen) {
        let net = Net::over(scheme, &pki, if full { 256 << 20 } else { 4 << 20 });
        let lasts = Duration::from_millis(if full { 10_000 } else { 100 });
        for busy in [false, true] {
            println!(
                "| {scheme} | {} {} |",
                if busy { "both ways" } else { "none" },
                net.measure(busy, lasts)
            );
        }
    }
}

/// A server and a site that dialled it, each with an inbox and a file for the other.
struct Net {
    cells: Apart,
    server: Transfers,
    site: Transfers,
    pulse: Arc<Pulse>,
    dir: PathBuf,
}

impl Net {
    fn over(scheme: &str, pki: &Pki, bytes: usize) -> Self {
        // In memory where that can be, for it is the connection that is to be filled.
        let memory = Some(PathBuf::from("/dev/shm")).filter(|memory| memory.is_dir());
        let dir = memory.unwrap_or_else(env::temp_dir).join(format!("cellnet-beside-{}", std::process::id()));
        let content: Vec<u8> = (0..bytes).map(|at| (at / 1000 + at * 31) as u8 | 1).collect();
        for name in ["server", "site"] {
            fs::create_dir_all(dir.join(name)).expect("there is room");
            fs::write(dir.join(name).join("file"), &content).expect("there is room");
        }
        let pulse = Arc::new(Pulse::default());
        let cells = Apart::over(scheme, pki, |builder| with_pulse(builder, &pulse));
        let attach = |runtime: &Runtime, cell: &Cell, name: &str| {
            let config = TransferConfig::with_inbox(dir.join(name).join("inbox"));
            runtime.block_on(Transfers::attach(cell, config)).expect("the inbox is made")
        };
        let server = attach(&cells.far, &cells.server, "server");
        let site = attach(&cells.near, &cells.site, "site");
        Self { cells, server, site, pulse, dir }
    }

    /// Asks for so long; gives the cells of a row.
    fn measure(&self, busy: bool, lasts: Duration) -> String {
        let Apart { far, near, server, site } = &self.cells;
        let file = |of: &str| self.dir.join(of).join("file");
        let transfers: Vec<_> = if busy {
            let up = near.spawn(fill(self.site.clone(), file("site"), server.clone()));
            vec![up, far.spawn(fill(self.server.clone(), file("server"), site.clone()))]
        } else {
            Vec::new()
        };
        let meter = self.pulse.meter.get().expect("the site has dialled");
        let (mut times, (sent, got), began) = (times(), (meter.tx(), meter.rx()), Instant::now());
        let mut warm = busy;
        let mut since = (sent, got, began);
        near.block_on(async {
            while began.elapsed() < lasts {
                let took = self.cells.ask().await;
                if warm && began.elapsed() > WARM_UP {
                    (warm, since) = (false, (meter.tx(), meter.rx(), Instant::now()));
                    times.reset();
                    self.pulse.times().reset();
                }
                times.record(took.as_nanos() as u64).expect("the histogram grows");
                sleep(PACE).await;
            }
        });
        let seconds = since.2.elapsed().as_secs_f64();
        let (up, down) = (meter.tx() - since.0, meter.rx() - since.1);
        for transfer in transfers {
            transfer.abort();
            // It was stopped, which is an error to those who wait for its end.
            let _ = near.block_on(transfer);
        }
        let beats = std::mem::replace(&mut *self.pulse.times(), self::times());
        let rate = |bytes: u64| bytes as f64 / seconds / 1e6;
        format!("| {} | {} | {:.0} | {:.0}", quantiles(&times), quantiles(&beats), rate(up), rate(down))
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        // What cannot be removed is left to the system.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Transfers reach their pace within this.
const WARM_UP: Duration = Duration::from_secs(1);

/// Between two requests, so that they are no load.
const PACE: Duration = Duration::from_millis(2);

/// Sends a file for ever.
async fn fill(from: Transfers, file: impl AsRef<Path>, to: Cell) {
    loop {
        let options = SendOptions::default().overwrite(true);
        let sent = from.send([file.as_ref()], to.name(), "", options).receipt().await;
        sent.expect("all is well");
    }
}

fn times() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are possible")
}

fn quantiles(times: &Histogram<u64>) -> String {
    let micros = |nanos: u64| nanos / 1000;
    let of = |quantile| micros(times.value_at_quantile(quantile));
    format!("{} | {} | {}", of(0.5), of(0.99), micros(times.max()))
}

/// PINGs on the connection that was dialled, one at a time.
#[derive(Debug)]
struct Pulse {
    asked: Mutex<Option<Instant>>,
    /// In nanoseconds.
    times: Mutex<Histogram<u64>>,
    meter: OnceLock<Arc<Meter>>,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { asked: Mutex::default(), times: Mutex::new(times()), meter: OnceLock::new() }
    }
}

impl Pulse {
    fn asked(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn times(&self) -> std::sync::MutexGuard<'_, Histogram<u64>> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn with_pulse(builder: CellBuilder, pulse: &Arc<Pulse>) -> CellBuilder {
    let pulsing = |driver: Arc<dyn Transport>| Pulsing { driver, pulse: pulse.clone() };
    builder.transport(pulsing(Arc::new(Tcp::new()))).transport(pulsing(Arc::new(Quic::new())))
}

/// A driver whose dialled connections have a pulse.
#[derive(Debug)]
struct Pulsing {
    driver: Arc<dyn Transport>,
    pulse: Arc<Pulse>,
}

#[async_trait]
impl Transport for Pulsing {
    fn schemes(&self) -> &[Scheme] {
        self.driver.schemes()
    }

    async fn connect(&self, target: &Target) -> Result<Connection, TransportError> {
        let mut connection = self.driver.connect(target).await?;
        // There is one link, which is dialled once.
        let _ = self.pulse.meter.set(connection.info.meter.clone());
        let Lane { tx, rx } = connection.control;
        let pulse = || self.pulse.clone();
        connection.control = Lane {
            tx: Box::new(Asking { tx, pulse: pulse(), frames: 0 }),
            rx: Box::new(Hearing { rx, pulse: pulse() }),
        };
        Ok(connection)
    }

    async fn listen(&self, bind: &Bind) -> Result<Box<dyn Listener>, TransportError> {
        self.driver.listen(bind).await
    }
}

#[derive(Debug)]
struct Asking {
    tx: Box<dyn FrameSender>,
    pulse: Arc<Pulse>,
    frames: u64,
}

#[async_trait]
impl FrameSender for Asking {
    fn feed(&mut self, batch: &mut Batch) {
        self.frames += 1;
        let mut asked = self.pulse.asked();
        // Not before the handshake is over; and where the writer of a link puts them, before all that waits.
        if self.frames > 2 && asked.is_none() {
            *asked = Some(Instant::now());
            batch.push_front(ping());
        }
        drop(asked);
        self.tx.feed(batch);
    }

    async fn flush(&mut self) -> Result<(), TransportError> {
        self.tx.flush().await
    }

    async fn close(&mut self) -> Result<(), TransportError> {
        self.tx.close().await
    }

    fn meter(&self) -> Option<Arc<Meter>> {
        self.tx.meter()
    }
}

#[derive(Debug)]
struct Hearing {
    rx: Box<dyn FrameReceiver>,
    pulse: Arc<Pulse>,
}

#[async_trait]
impl FrameReceiver for Hearing {
    async fn recv(&mut self, batch: &mut Batch) -> Result<(), TransportError> {
        self.rx.recv(batch).await?;
        let is_pong =
            |frame: &Frame| frame.prefix().is_ok_and(|prefix| prefix.frame_kind() == Some(FrameKind::Pong));
        if batch.iter().any(is_pong)
            && let Some(asked) = self.pulse.asked().take()
        {
            self.pulse.times().record(asked.elapsed().as_nanos() as u64).expect("the histogram grows");
        }
        Ok(())
    }

    fn set_max_frame(&mut self, bytes: usize) {
        self.rx.set_max_frame(bytes);
    }
}

fn ping() -> Frame {
    let mut head = BytesMut::with_capacity(PREFIX_LEN);
    Prefix { length: PREFIX_LEN as u32, kind: FrameKind::Ping.code(), ..Prefix::default() }.encode(&mut head);
    Frame::new(head.freeze(), Bytes::new())
}
