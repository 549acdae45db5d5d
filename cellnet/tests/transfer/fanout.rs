//! One file for many receivers behind one relay, each a process: what does the relay's uplink carry?
//!
//! `CELLNET_FANOUT_BYTES` says how large the file is, 20 MiB by default.

use std::{env, path::Path, time::Instant};

use serde_json::Value;

use crate::{
    content::Content,
    network::{listening, report},
    process::Process,
    proxy::Proxy,
    scratch::Scratch,
};

const RECEIVERS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_receivers_behind_one_relay_cost_its_uplink_one_copy() {
    let scratch = Scratch::new();
    let bytes = env::var("CELLNET_FANOUT_BYTES").map_or(20 << 20, |text| text.parse().expect("a number"));
    let content = Content { seed: 3, bytes };
    let file = scratch.path("file");
    let hash = content.write(&file);

    let mut server = serve("server", &["--listen", "tcp://127.0.0.1:0"]);
    let root = listening(&server.ready().await).remove(0);
    let uplink = Proxy::to(root.trim_start_matches("tcp://")).await;
    let above = format!("tcp://{}", uplink.address());
    let mut relay = serve("relay-1", &["--listen", "tcp://127.0.0.1:0", "--root", &above]);
    let parent = listening(&relay.ready().await).remove(0);
    let names: Vec<_> = (0..RECEIVERS).map(|i| format!("relay-1.site-{i}")).collect();
    let start = |name: &String| serve(name, &["--parent", &parent, "--inbox", &scratch.arg(name)]);
    let mut receivers: Vec<_> = names.iter().map(start).collect();
    for receiver in &mut receivers {
        receiver.ready().await;
    }

    let before = uplink.down();
    let began = Instant::now();
    let target = format!("{}:", names.join(","));
    let mut copy = Process::cellnet(&["cp", "--json", "--root", &root, text(&file), &target]);
    let done = report(&mut copy).await;
    assert!(copy.exit().await.success(), "{done}, {}", copy.stderr());
    assert_eq!(done["error"], Value::Null, "{done}");
    let (carried, took) = (uplink.down() - before, began.elapsed());
    for name in &names {
        content.check(&scratch.path(name).join("file"));
    }
    println!(
        "{RECEIVERS} receivers of {bytes} bytes in {took:.1?}: {carried} bytes on the uplink, {:.3} of the file; the relay held {} MiB at most; BLAKE3 {hash}",
        carried as f64 / bytes as f64,
        crate::toll::peak(relay.pid()) >> 20,
    );
    assert!(carried <= bytes * 11 / 10, "{carried} bytes came to the relay for a file of {bytes}");
    assert!(carried >= bytes, "the file did not come by the relay");
    for process in receivers.iter_mut().chain([&mut relay, &mut server]) {
        assert!(process.stop().await.success(), "{}", process.stderr());
    }
}

fn serve(name: &str, args: &[&str]) -> Process {
    Process::cellnet(&[&["serve", "--name", name], args].concat())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}
