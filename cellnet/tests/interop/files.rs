//! Files between `cellnet cp` and cells of the reference, which know no transfers: they go by its download service.

use std::{fs, path::Path};

use serde_json::Value;
use tempfile::TempDir;

use crate::process::Process;

/// Several pieces of the download service, and a bit.
const BYTES: usize = 12_000_001;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_goes_to_the_reference_and_comes_back() {
    let net = Network::start(&[]).await;
    fs::write(net.path("model"), content()).expect("a folder of ours");
    let sent = net.copy(&[&net.path("model"), "site-1:models/model"], 0).await;
    assert_eq!(
        (&sent["bytes"], &sent["files"], &sent["error"]),
        (&BYTES.into(), &1.into(), &Value::Null),
        "{sent}"
    );
    assert_eq!(fs::read(net.path("theirs/model")).expect("it is there"), content());

    let back = net.copy(&["site-1:model", &net.path("back")], 0).await;
    assert_eq!((&back["bytes"], &back["hash"]), (&sent["bytes"], &sent["hash"]), "{back}");
    assert_eq!(fs::read(net.path("back/model")).expect("it is there"), content());

    let again = net.copy(&["site-1:model", &net.path("back")], 1).await;
    assert_eq!(again["reason"], "exists", "{again}");
    net.copy(&["site-1:model", &net.path("back"), "--overwrite"], 0).await;
    let missing = net.copy(&["site-1:nothing", &net.path("back")], 1).await;
    assert!(missing["error"].as_str().expect("a text").contains("no such file"), "{missing}");
    let folder = net.copy(&[&net.path("back"), "site-1:"], 1).await;
    assert_eq!(folder["reason"], "unsupported", "{folder}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reference_is_pulled_by_its_name() {
    let scratch = scratch();
    let file = scratch.path().join("offered");
    fs::write(&file, content()).expect("a folder of ours");
    let net = Network::start(&["--offer", text(&file)]).await;
    let from = format!("site-1:{}", net.ready["ref_id"].as_str().expect("a reference"));
    net.copy(&[&from, &net.path("back")], 0).await;
    let name = from.trim_start_matches("site-1:");
    assert_eq!(fs::read(net.path(&format!("back/{name}"))).expect("it is there"), content());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_reference_has_must_be_what_was_sent() {
    let net = Network::start(&["--forge"]).await;
    fs::write(net.path("model"), content()).expect("a folder of ours");
    let sent = net.copy(&[&net.path("model"), "site-1:"], 9).await;
    assert_eq!(sent["reason"], "corrupt", "{sent}");
    let back = net.copy(&["site-1:model", &net.path("back")], 9).await;
    assert_eq!(back["reason"], "corrupt", "{back}");
    assert!(!Path::new(&net.path("back/model")).exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cell_of_the_reference_without_a_call_back_is_said_to_take_nothing() {
    let net = Network::start(&[]).await;
    let mut deaf =
        Process::python("client_cell", &["--fqcn", "site-2", "--root", &net.url, "--serve", "echo"]);
    deaf.ready().await;
    fs::write(net.path("model"), "x").expect("a folder of ours");
    let sent = net.copy(&[&net.path("model"), "site-2:"], 8).await;
    assert_eq!(sent["reason"], "no_inbox", "{sent}");
}

/// A server of ours, and a site of the reference with a folder for files.
struct Network {
    scratch: TempDir,
    url: String,
    ready: Value,
    _server: Process,
    _site: Process,
}

impl Network {
    async fn start(flags: &[&str]) -> Self {
        let scratch = scratch();
        let mut server = Process::cellnet(&["serve", "--name", "server", "--listen", "tcp://127.0.0.1:0"]);
        let url = server.ready().await["listen"][0].as_str().expect("a URL").to_owned();
        let theirs = scratch.path().join("theirs");
        fs::create_dir(&theirs).expect("a folder of ours");
        let site = ["--fqcn", "site-1", "--root", &url, "--folder", text(&theirs)];
        let mut site = Process::python("file_cell", &[&site, flags].concat());
        let ready = site.ready().await;
        Self { scratch, url, ready, _server: server, _site: site }
    }

    fn path(&self, name: &str) -> String {
        text(&self.scratch.path().join(name)).to_owned()
    }

    /// Runs a copy, which ends with this status; its last line.
    async fn copy(&self, args: &[&str], status: i32) -> Value {
        let mut copy = Process::cellnet(&[&["cp", "--json", "--root", &self.url], args].concat());
        let done = copy.find("JSON", |line| line.get("event").is_none()).await;
        assert_eq!(copy.exit().await.code(), Some(status), "{done}, {}", copy.stderr());
        done
    }
}

fn content() -> Vec<u8> {
    (0..BYTES).map(|at| (at.wrapping_mul(at) >> 5) as u8).collect()
}

fn scratch() -> TempDir {
    TempDir::with_prefix_in("files-", env!("CARGO_TARGET_TMPDIR")).expect("the target folder takes a folder")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}
