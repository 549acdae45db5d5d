//! A small request between two cells, alone and while streams fill the connection: who waits for whom.
//!
//! Each cell has a runtime of its own with half of the processors, as two machines would have. Without `--bench`, a few requests show that it works.
//! `cargo bench --bench latency -- quic` measures one transport.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use cellnet_benches::apart::Apart;
use cellnet_core::{
    cell::{Cell, HandlerError},
    stream::IncomingStream,
    testkit::pki::Pki,
    wire::Headers,
};
use cellnet_quic::Quic;
use cellnet_tcp::Tcp;
use cellnet_ws::Ws;
use hdrhistogram::Histogram;
use tokio::{task::JoinHandle, time::sleep};

const SCHEMES: [&str; 3] = ["tcp", "ws", "quic"];

fn main() {
    let said = |flag| std::env::args().any(|argument| argument == flag);
    if said("--list") {
        return;
    }
    let (rounds, requests) = if said("--bench") && !said("--test") { (7, 1000) } else { (1, 5) };
    println!("| transport | bulk | p50 µs | p99 µs | p50 to idle | bulk MB/s each way | a chunk takes µs |");
    println!("|---|---|---|---|---|---|---|");
    let pki = Pki::new();
    let chosen = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let chosen = |scheme: &&str| chosen.as_deref().is_none_or(|chosen| chosen == *scheme);
    for scheme in SCHEMES.into_iter().filter(chosen) {
        let net = Net::over(scheme, &pki);
        let mut cases =
            BULK.map(|bulk| Case { scheme, bulk, times: times(), moved: 0, lasted: Duration::ZERO });
        // In turn, so that whatever else the machine does meets all of them.
        for _ in 0..rounds {
            cases.iter_mut().for_each(|case| net.measure(case, requests));
        }
        let idle = cases[0].times.value_at_quantile(0.5);
        cases.iter().for_each(|case| println!("{}", Row { case, idle }));
    }
}

/// Which ways streams run while requests are made: to the server and to the site.
#[derive(Debug, Clone, Copy)]
struct Bulk {
    name: &'static str,
    up: bool,
    down: bool,
}

const BULK: [Bulk; 4] = [
    Bulk { name: "none", up: false, down: false },
    Bulk { name: "with the request", up: true, down: false },
    Bulk { name: "with the reply", up: false, down: true },
    Bulk { name: "both ways", up: true, down: true },
];

struct Case {
    scheme: &'static str,
    bulk: Bulk,
    /// In nanoseconds.
    times: Histogram<u64>,
    /// Bytes of streams that arrived, and the time it took.
    moved: u64,
    lasted: Duration,
}

fn times() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are possible")
}

/// A server and a site that dialled it.
struct Net {
    cells: Apart,
    moved: Arc<AtomicU64>,
}

impl Net {
    fn over(scheme: &str, pki: &Pki) -> Self {
        let cells = Apart::over(scheme, pki, |builder| {
            builder.transport(Tcp::new()).transport(Ws::new()).transport(Quic::new())
        });
        let moved = Arc::new(AtomicU64::new(0));
        for cell in [&cells.server, &cells.site] {
            let moved = moved.clone();
            cell.handle_stream(BULK_CHANNEL, "*", move |stream| swallow(stream, moved.clone()));
        }
        Self { cells, moved }
    }

    fn measure(&self, case: &mut Case, requests: usize) {
        let Apart { far, near, server, site } = &self.cells;
        let up = case.bulk.up.then(|| near.spawn(fill(site.clone(), server.clone())));
        let down = case.bulk.down.then(|| far.spawn(fill(server.clone(), site.clone())));
        let streams: Vec<JoinHandle<()>> = [up, down].into_iter().flatten().collect();
        near.block_on(async {
            if !streams.is_empty() {
                sleep(WARM_UP).await;
            }
            let (moved, began) = (self.moved.load(Relaxed), Instant::now());
            for _ in 0..requests {
                if began.elapsed() > ROUND {
                    break;
                }
                let took = self.cells.ask().await;
                case.times.record(took.as_nanos() as u64).expect("the histogram grows");
            }
            case.moved += self.moved.load(Relaxed) - moved;
            case.lasted += began.elapsed();
        });
        for stream in streams {
            stream.abort();
            // It was stopped, which is an error to those who wait for its end.
            let _ = near.block_on(stream);
        }
        near.block_on(async { sleep(WARM_UP).await });
    }
}

/// A round ends after this, or after as many requests as it should make.
const ROUND: Duration = Duration::from_secs(2);

const BULK_CHANNEL: &str = "bulk";

/// Streams reach their pace, or their end, within this.
const WARM_UP: Duration = Duration::from_millis(300);

/// Streams for ever.
async fn fill(from: Cell, to: Cell) {
    let chunk = Bytes::from(vec![7; CHUNK]);
    let stream = from.open_stream(to.name(), BULK_CHANNEL, "t", Headers::default(), None);
    let mut stream = stream.expect("there is a link");
    while stream.write(chunk.clone()).await.is_ok() {}
}

/// A full chunk.
const CHUNK: usize = 1 << 20;

async fn swallow(mut stream: IncomingStream, moved: Arc<AtomicU64>) -> Result<(), HandlerError> {
    while let Ok(Some(chunk)) = stream.chunk().await {
        moved.fetch_add(chunk.len() as u64, Relaxed);
    }
    Ok(())
}

struct Row<'c> {
    case: &'c Case,
    /// Nanoseconds.
    idle: u64,
}

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case { scheme, bulk, times, moved, lasted } = self.case;
        let (p50, p99) = (times.value_at_quantile(0.5), times.value_at_quantile(0.99));
        let ways = (u8::from(bulk.up) + u8::from(bulk.down)).max(1);
        let rate = *moved as f64 / lasted.as_secs_f64() / f64::from(ways);
        write!(f, "| {scheme} | {} | {} | {} ", bulk.name, p50 / 1000, p99 / 1000)?;
        write!(f, "| {:.1} ", p50 as f64 / self.idle as f64)?;
        if *moved == 0 {
            return write!(f, "| - | - |");
        }
        write!(f, "| {:.0} | {:.0} |", rate / 1e6, CHUNK as f64 / rate * 1e6)
    }
}
