//! A file that is much larger than memory may be, from process to process through a relay.
//!
//! `CELLNET_TRANSFER_BYTES` says how large, 1 GiB by default. `CELLNET_TRANSFER_SEED` repeats a run that failed: the moments
//! at which processes die follow from it.

use std::{
    env,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::Value;
use tokio::sync::Mutex;

use crate::{
    content::Content,
    network::{Cost, Network, reaches, report},
    process::Process,
};

/// They fill both the disk and the processors, so one goes after the other.
static TURN: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_of_sender_relay_and_receiver_stays_small() {
    let _turn = TURN.lock().await;
    let (mut network, run) = (Network::start("quic").await, Run::new());
    let file = network.scratch.path("large");
    let hash = run.content.write(&file);
    let mut copy = network.copy("quic", &file);
    let done = ended_well(&mut copy, &hash).await;
    assert_eq!(
        (&done["bytes"], &done["moved_bytes"]),
        (&run.content.bytes.into(), &run.content.bytes.into())
    );
    assert_eq!(network.arrived().await["hash"], done["hash"]);
    run.content.check(&network.scratch.path("inbox/large"));
    assert_eq!(network.scratch.names("inbox"), ["large"]);
    say("undisturbed", &done, network.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_outlives_receiver_relay_and_sender_and_changes_its_transport() {
    let _turn = TURN.lock().await;
    let (mut network, run) = (Network::start("quic").await, Run::new());
    let file = network.scratch.path("large");
    let hash = run.content.write(&file);

    let mut copy = network.copy("quic", &file);
    reaches(&mut copy, run.between(5, 30)).await;
    network.replace_receiver("wss").await;
    reaches(&mut copy, run.between(35, 60)).await;
    network.replace_relay().await;
    let last = reaches(&mut copy, run.between(65, 90)).await;
    let mut peak = crate::toll::peak(copy.pid());
    copy.kill();
    assert!(!network.scratch.path("inbox/large").exists(), "half a file has its name");

    let mut copy = network.copy("wss", &file);
    let done = ended_well(&mut copy, &hash).await;
    assert!(done["resumed_bytes"].as_u64() >= last["bytes"].as_u64(), "safe is not safe: {last}, {done}");
    run.content.check(&network.scratch.path("inbox/large"));
    assert_eq!(network.scratch.names("inbox"), ["large"]);
    peak = peak.max(mib(&done["peak_mb"]));
    let cost = network.stop().await;
    // What was on the way when one of the three died was not written, and came again.
    let travelled = cost.written + 3 * WINDOW;
    let twice = travelled.saturating_sub(run.content.bytes);
    println!("{:.2} % travelled twice; {done}", 100.0 * twice as f64 / run.content.bytes as f64);
    assert!(twice * 20 <= run.content.bytes, "{twice} bytes travelled twice, seed {}", run.content.seed);
    assert!(peak < MEMORY, "a sender held {peak} bytes");
    say("killed", &done, cost);
}

/// What a transfer has on the way at most.
const WINDOW: u64 = 4 << 20;
const MEMORY: u64 = 64 << 20;

/// The file and the luck of one run.
struct Run {
    content: Content,
}

impl Run {
    fn new() -> Self {
        let number = |name| env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
        let seed = number("CELLNET_TRANSFER_SEED").unwrap_or(u64::from(now.subsec_nanos()));
        let bytes = number("CELLNET_TRANSFER_BYTES").unwrap_or(1 << 30);
        println!("CELLNET_TRANSFER_SEED={seed} CELLNET_TRANSFER_BYTES={bytes}");
        Self { content: Content { seed, bytes } }
    }

    /// A number of bytes between two percentages, which follows from the seed.
    fn between(&self, low: u64, high: u64) -> u64 {
        let luck = u64::from_le_bytes(self.content.word(8 * low)) % 1000;
        self.content.bytes / 100 * low + self.content.bytes / 100_000 * (high - low) * luck
    }
}

/// Waits for the last line of a copy, which tells that all went well.
async fn ended_well(copy: &mut Process, hash: &str) -> Value {
    let done = report(copy).await;
    assert!(copy.exit().await.success(), "{done}, {}", copy.stderr());
    assert_eq!((&done["hash"], &done["error"]), (&hash.into(), &Value::Null), "{done}");
    done
}

/// None of the three ever held more than it may. Prints what the documentation quotes.
fn say(what: &str, done: &Value, cost: Cost) {
    let sender = mib(&done["peak_mb"]);
    for (who, peak) in [("sender", sender), ("relay", cost.relay_peak), ("receiver", cost.receiver_peak)] {
        println!("{what}: {who} held {:.1} MiB at most", peak as f64 / (1 << 20) as f64);
        assert!(peak < MEMORY, "{who} held {peak} bytes");
    }
    println!("{what}: {done}");
}

fn mib(value: &Value) -> u64 {
    (value.as_f64().expect("a number of MiB") * f64::from(1 << 20)) as u64
}
