//! A message of a pipe until it is acknowledged, through the cell that both ends attach to. All of them are in this process.

use bytes::Bytes;
use cellnet_core::{
    CellUrl,
    cell::{Cell, CellBuilder},
    testkit::sim::fqcn,
    transport::mem::MemNet,
};
use cellnet_pipe::{CellPipe, Mode, Pipe, PipeMessage, Place, TreePolicy};
use cellnet_tcp::Tcp;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;

const SIZES: [usize; 2] = [64, 1 << 20];

fn pipes(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime starts");
    let mem = MemNet::new();
    let over_mem = Ends::attach("mem://hub", move |cell| cell.transport(mem.clone()));
    let over_tcp = Ends::attach("tcp://127.0.0.1:0", |cell| cell.transport(Tcp::new()));
    let both = [("mem", runtime.block_on(over_mem)), ("tcp", runtime.block_on(over_tcp))];
    for (transport, ends) in &both {
        let mut group = c.benchmark_group(format!("pipe_{transport}"));
        for size in SIZES {
            let payload = Bytes::from(vec![7; size]);
            group.throughput(Throughput::Bytes(size as u64));
            group.bench_function(size.to_string(), |b| {
                b.to_async(&runtime).iter(|| ends.send(payload.clone()));
            });
        }
        group.finish();
    }
}

/// The end that sends, with all that must live as long; what arrives at the other one is taken and forgotten.
struct Ends {
    active: CellPipe,
    _hub: Cell,
}

impl Ends {
    async fn attach<F>(url: &str, describe: F) -> Self
    where
        F: Fn(CellBuilder) -> CellBuilder + Clone + Send + Sync + 'static,
    {
        let url: CellUrl = url.parse().expect("a valid URL");
        let hub = describe(Cell::builder(fqcn("server")).resolver(TreePolicy).listen(url)).start().await;
        let hub = hub.expect("the address is free");
        let open = async |mode| {
            let place = Place::root(hub.listening()[0].clone());
            let pipe = CellPipe::builder(mode, "site-1", "job-7", place).cell(describe.clone()).build();
            let pipe = pipe.expect("the names are valid");
            pipe.open("bench").await.expect("the cell starts");
            pipe.cell().expect("it is open").connected().await;
            pipe
        };
        let (active, passive) = (open(Mode::Active).await, open(Mode::Passive).await);
        tokio::spawn(async move { while let Ok(Some(_)) = passive.receive(None).await {} });
        Self { active, _hub: hub }
    }

    async fn send(&self, payload: Bytes) {
        let message = PipeMessage::new_request("load".parse().expect("a topic"), payload);
        assert!(self.active.send(&message, None).await.expect("the pipe is open").is_taken());
    }
}

criterion_group!(benches, pipes);
criterion_main!(benches);
