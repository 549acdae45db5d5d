//! A request and its reply through a cell in between, next to those by a direct connection. TCP on loopback, all cells in this
//! process.

use bytes::Bytes;
use cellnet_benches::{PLAIN, Pair, STREAMED};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;

fn relays(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime starts");
    let direct = runtime.block_on(Pair::over_tcp());
    let relayed = runtime.block_on(Pair::through_relay());
    for (kind, channel, size) in [("plain", PLAIN, 64), ("blob", STREAMED, 1 << 20)] {
        let payload = Bytes::from(vec![7; size]);
        let mut group = c.benchmark_group(format!("relay_{kind}/{size}"));
        group.throughput(Throughput::Bytes(2 * size as u64));
        for (way, pair) in [("direct", &direct), ("relayed", &relayed)] {
            group.bench_function(way, |b| {
                b.to_async(&runtime).iter(|| pair.ask(channel, payload.clone()));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, relays);
criterion_main!(benches);
