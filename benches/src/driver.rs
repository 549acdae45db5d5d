//! Frames by a driver of cellnet, without cells.

use async_trait::async_trait;
use cellnet_core::{
    CellUrl,
    stats::Budget,
    testkit::pki::Pki,
    tls::TlsMode,
    transport::{
        Batch, Bind, Connection, Frame, FrameReceiver, FrameSender, Lane, Listener, Target, Transports,
    },
};
use cellnet_quic::Quic;
use cellnet_tcp::Tcp;
use cellnet_ws::Ws;

use crate::way::{Ends, Load, Sink, Source, Way};

/// The drivers of this repository.
pub fn transports() -> Transports {
    let both = Transports::default().with(Tcp::new()).and_then(|some| some.with(Ws::new()));
    both.and_then(|some| some.with(Quic::new())).expect("no scheme is served twice")
}

/// Connects over loopback by a scheme. Where there is a bulk lane, large frames take it, as between cells.
pub fn open(ends: &Ends, scheme: &str, pki: &Pki, load: &Load) -> Way {
    let url: CellUrl = format!("{scheme}://127.0.0.1:0").parse().expect("a valid URL");
    let driver = transports().driver(&url).expect("the driver is known").clone();
    let tls = is_secure(scheme).then(|| pki.tls("bench", TlsMode::Tls));
    let mut bind = Bind::new(url, Budget::new(BUDGET));
    bind.tls.clone_from(&tls);
    let mut listener = ends.far.block_on(driver.listen(&bind)).expect("loopback can be listened on");
    let mut target = Target::new(listener.local_url().clone(), Budget::new(BUDGET));
    target.tls = tls;
    let accepted = ends.far.spawn(async move {
        let accepting = listener.accept().await.expect("a connection comes");
        (accepting.await.expect("its set-up succeeds"), listener)
    });
    let dialled = ends.near.block_on(driver.connect(&target)).expect("the listener is there");
    let (accepted, listener) = ends.far.block_on(accepted).expect("accepting does not panic");
    let (tx, idle) = lane(dialled, load);
    let source = LaneSource { tx: tx.tx, batch: Batch::new(), _open: (tx.rx, idle) };
    let (mut rx, mut idle) = lane(accepted, load);
    // As a link does after HELLO; some drivers give a connection little room until its control lane is told.
    for lane in idle.iter_mut().chain([&mut rx]) {
        lane.rx.set_max_frame(2 << 20);
    }
    let sink = LaneSink { rx: rx.rx, batch: Batch::new(), _open: (rx.tx, idle, listener) };
    Way::new(source, sink)
}

/// Whether a scheme asks for TLS; credentials with a mode of their own would protect the others too.
pub fn is_secure(scheme: &str) -> bool {
    ["stcp", "wss", "quic"].contains(&scheme)
}

/// As the frame budget of a cell.
const BUDGET: usize = 256 << 20;

/// The lane that a load takes, and those that stay idle.
fn lane(connection: Connection, load: &Load) -> (Lane, Vec<Lane>) {
    let Connection { control, mut bulk, .. } = connection;
    if bulk.is_empty() || load.batch > 1 {
        return (control, bulk);
    }
    let first = std::mem::replace(&mut bulk[0], control);
    (first, bulk)
}

struct LaneSource {
    tx: Box<dyn FrameSender>,
    batch: Batch,
    _open: (Box<dyn FrameReceiver>, Vec<Lane>),
}

#[async_trait]
impl Source for LaneSource {
    async fn send(&mut self, load: &Load, frames: usize) {
        let mut left = frames;
        while left > 0 {
            let now = left.min(load.batch);
            self.batch.extend((0..now).map(|_| Frame::new(load.head.clone(), load.body.clone())));
            while !self.batch.is_empty() {
                self.tx.feed(&mut self.batch);
                self.tx.flush().await.expect("the far end reads");
            }
            left -= now;
        }
    }
}

struct LaneSink {
    rx: Box<dyn FrameReceiver>,
    batch: Batch,
    _open: (Box<dyn FrameSender>, Vec<Lane>, Box<dyn Listener>),
}

#[async_trait]
impl Sink for LaneSink {
    async fn take(&mut self, load: &Load, frames: usize) {
        let mut taken = 0;
        while taken < frames {
            self.rx.recv(&mut self.batch).await.expect("the near end writes");
            taken += self.batch.len();
            for frame in self.batch.drain(..) {
                assert_eq!(frame.len(), load.frame_len());
            }
        }
        assert_eq!(taken, frames);
    }
}
