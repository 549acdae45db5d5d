//! A request and its reply between two cells: small and large, in one piece and as blobs.

use bytes::Bytes;
use cellnet_benches::{PLAIN, Pair, STREAMED};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;

const SIZES: [usize; 2] = [64, 1 << 20];

fn requests(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime starts");
    let pairs = [("mem", runtime.block_on(Pair::over_mem())), ("tcp", runtime.block_on(Pair::over_tcp()))];
    for (transport, pair) in &pairs {
        let mut group = c.benchmark_group(format!("request_{transport}"));
        for (kind, channel) in [("plain", PLAIN), ("blob", STREAMED)] {
            for size in SIZES {
                let payload = Bytes::from(vec![7; size]);
                group.throughput(Throughput::Bytes(2 * size as u64));
                group.bench_function(format!("{kind}/{size}"), |b| {
                    b.to_async(&runtime).iter(|| pair.ask(channel, payload.clone()));
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, requests);
criterion_main!(benches);
