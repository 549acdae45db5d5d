//! A server, a relay and a receiver behind it, each a process that can be killed and started again where it was.

use std::path::Path;

use cellnet_core::testkit::pki::Pki;
use serde_json::Value;

use crate::{process::Process, scratch::Scratch, toll};

/// Processes that trust each other. `relay-1` listens by QUIC and WebSocket; `relay-1.site-1` has an inbox.
#[derive(Debug)]
pub(crate) struct Network {
    pki: Pki,
    pub(crate) scratch: Scratch,
    server: Process,
    root: String,
    relay: Process,
    /// Where the relay listens, by scheme.
    relay_urls: Vec<String>,
    receiver: Process,
    cost: Cost,
}

/// What was used, the processes that were killed included.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) relay_peak: u64,
    pub(crate) receiver_peak: u64,
    /// What the receivers wrote to disk.
    pub(crate) written: u64,
}

impl Network {
    /// Starts them all; the receiver dials the relay by this scheme.
    pub(crate) async fn start(scheme: &str) -> Self {
        let (pki, scratch) = (Pki::new(), Scratch::new());
        let mut server = serve(&pki, "server", &["--listen", "stcp://127.0.0.1:0"]);
        let root = listening(&server.ready().await).remove(0);
        let mut relay = start_relay(&pki, "quic://127.0.0.1:0,wss://127.0.0.1:0", &root);
        let relay_urls = listening(&relay.ready().await);
        let inbox = scratch.arg("inbox");
        let mut receiver = start_receiver(&pki, url(&relay_urls, scheme), &inbox);
        receiver.ready().await;
        Self { pki, scratch, server, root, relay, relay_urls, receiver, cost: Cost::default() }
    }

    /// Sends a file into the inbox, as a process that reaches the relay by this scheme and prints JSON.
    pub(crate) fn copy(&self, scheme: &str, file: &Path) -> Process {
        let kit = self.pki.kit("site-2");
        Process::cellnet(&[
            "cp",
            text(file),
            "relay-1.site-1:",
            "--json",
            "--name",
            "relay-1.site-2",
            "--timeout",
            "60s",
            "--parent",
            url(&self.relay_urls, scheme),
            "--credentials",
            text(&kit),
        ])
    }

    /// Kills the receiver and starts another one on its inbox, that dials the relay by this scheme.
    pub(crate) async fn replace_receiver(&mut self, scheme: &str) {
        self.receiver.freeze().await;
        self.take_receiver_cost();
        self.receiver.kill();
        self.receiver = start_receiver(&self.pki, url(&self.relay_urls, scheme), &self.scratch.arg("inbox"));
        self.receiver.ready().await;
    }

    /// Kills the relay and starts another one where it was.
    pub(crate) async fn replace_relay(&mut self) {
        self.take_relay_cost();
        self.relay.kill();
        self.relay = start_relay(&self.pki, &self.relay_urls.join(","), &self.root);
        self.relay.ready().await;
    }

    /// What the receiver says of what arrived, or failed to.
    pub(crate) async fn arrived(&mut self) -> Value {
        self.receiver.find("JSON", |line| line["event"] == "arrived").await
    }

    /// Stops them all; each ends well.
    pub(crate) async fn stop(mut self) -> Cost {
        self.take_receiver_cost();
        self.take_relay_cost();
        for process in [&mut self.receiver, &mut self.relay, &mut self.server] {
            assert!(process.stop().await.success(), "{}", process.stderr());
        }
        self.cost
    }

    fn take_receiver_cost(&mut self) {
        let pid = self.receiver.pid();
        self.cost.receiver_peak = self.cost.receiver_peak.max(toll::peak(pid));
        self.cost.written += toll::written(pid);
    }

    fn take_relay_cost(&mut self) {
        self.cost.relay_peak = self.cost.relay_peak.max(toll::peak(self.relay.pid()));
    }
}

fn start_relay(pki: &Pki, listen: &str, root: &str) -> Process {
    serve(pki, "relay-1", &["--listen", listen, "--root", root])
}

fn start_receiver(pki: &Pki, parent: &str, inbox: &str) -> Process {
    serve(pki, "relay-1.site-1", &["--parent", parent, "--inbox", inbox, "--json"])
}

fn serve(pki: &Pki, name: &str, args: &[&str]) -> Process {
    let kit = pki.kit(name.rsplit('.').next().unwrap_or(name));
    Process::cellnet(&[&["serve", "--name", name, "--credentials", text(&kit)], args].concat())
}

/// Where a process listens, as its READY says.
pub(crate) fn listening(ready: &Value) -> Vec<String> {
    let urls = ready["listen"].as_array().expect("READY names listeners");
    urls.iter().map(|url| url.as_str().expect("a URL").to_owned()).collect()
}

fn url<'a>(urls: &'a [String], scheme: &str) -> &'a str {
    urls.iter().find(|url| url.starts_with(scheme)).expect("the relay listens by this scheme")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

/// Waits until a copy has so many bytes safe; gives its event.
pub(crate) async fn reaches(copy: &mut Process, bytes: u64) -> Value {
    copy.find("JSON", |line| line["event"] == "progress" && line["bytes"].as_u64() >= Some(bytes)).await
}

/// The last line of a copy.
pub(crate) async fn report(copy: &mut Process) -> Value {
    copy.find("JSON", |line| line.get("event").is_none()).await
}
