//! A file between two cells. It is in the directory for temporary files at both ends, so where that is on a disk the
//! disk is measured too; `TMPDIR=/dev/shm` leaves it out.

use std::{fs, time::Duration};

use cellnet_benches::Pair;
use cellnet_core::transfer::{SendOptions, TransferConfig, Transfers};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;

const SIZE: u64 = 256 << 20;

fn transfers(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime starts");
    let dir = std::env::temp_dir().join(format!("cellnet-transfer-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("there is room");
    let path = dir.join("model");
    let content: Vec<u8> = (0..SIZE).map(|at| (at / 1000 + at * 31) as u8 | 1).collect();
    fs::write(&path, content).expect("there is room");
    let mut group = c.benchmark_group("transfer");
    group.throughput(Throughput::Bytes(SIZE)).sample_size(10).measurement_time(Duration::from_secs(8));
    let pairs = [("mem", runtime.block_on(Pair::over_mem())), ("tcp", runtime.block_on(Pair::over_tcp()))];
    for (transport, pair) in &pairs {
        let inbox = TransferConfig::with_inbox(dir.join(transport));
        let _receiver = runtime.block_on(Transfers::attach(&pair.server, inbox)).expect("the inbox is made");
        let sender =
            runtime.block_on(Transfers::attach(&pair.site, TransferConfig::default())).expect("no inbox");
        group.bench_function(*transport, |b| {
            b.to_async(&runtime).iter(async || {
                let options = SendOptions::default().overwrite(true);
                let receipt = sender.send([&path], pair.server.name(), "", options).receipt().await;
                assert_eq!(receipt.expect("all is well").bytes, SIZE);
            });
        });
    }
    group.finish();
    fs::remove_dir_all(&dir).expect("it was made here");
}

criterion_group!(benches, transfers);
criterion_main!(benches);
