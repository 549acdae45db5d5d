//! A server with an inbox in the clear, reached through a wire that can be damaged.

use std::process::Command;

use serde_json::Value;

use crate::{
    network::{listening, report},
    process::Process,
    proxy::Proxy,
    scratch::Scratch,
};

/// Where copies go.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) scratch: Scratch,
    server: Process,
    url: String,
    pub(crate) proxy: Proxy,
}

impl Hub {
    /// One whose inbox is the folder `inbox` of its scratch, and its outbox as well; `flags` are added.
    pub(crate) async fn start(flags: &[&str]) -> Self {
        let scratch = Scratch::new();
        let inbox = scratch.arg("inbox");
        Self::of(scratch, |args| {
            Process::cellnet(&[args, &["--inbox", &inbox, "--outbox", &inbox], flags].concat())
        })
        .await
    }

    /// Asks the server to end, which it does well, and starts another one in its place.
    pub(crate) async fn replace_server(&mut self) {
        assert!(self.server.stop().await.success(), "{}", self.server.stderr());
        let inbox = self.scratch.arg("inbox");
        let serve = ["serve", "--name", "server", "--listen", &self.url, "--json", "--inbox", &inbox];
        self.server = Process::cellnet(&serve);
        self.server.ready().await;
    }

    /// One whose server is begun by a line of the shell, to which the program and its arguments are given.
    pub(crate) async fn in_shell(scratch: Scratch, line: &str, flags: &[&str]) -> Self {
        Self::of(scratch, |args| {
            let mut command = Command::new("sh");
            command.args(["-c", line, env!("CARGO_BIN_EXE_cellnet")]).args(args).args(flags);
            Process::spawn(format!("{line} {args:?}"), command)
        })
        .await
    }

    async fn of(scratch: Scratch, start: impl FnOnce(&[&str]) -> Process) -> Self {
        let mut server = start(&["serve", "--name", "server", "--listen", "tcp://127.0.0.1:0", "--json"]);
        let url = listening(&server.ready().await).remove(0);
        let proxy = Proxy::to(url.trim_start_matches("tcp://")).await;
        Self { scratch, server, url, proxy }
    }

    /// Begins `cellnet cp` with these places and flags.
    pub(crate) fn copy(&self, args: &[&str]) -> Process {
        let proxied = format!("tcp://{}", self.proxy.address());
        Process::cellnet(&[&["cp", "--json", "--root", &proxied], args].concat())
    }

    /// [`copy`](Self::copy) to its end, which is a good one; its last line.
    pub(crate) async fn copied(&self, args: &[&str]) -> Value {
        let mut copy = self.copy(args);
        let done = report(&mut copy).await;
        assert!(copy.exit().await.success(), "{args:?}: {done}, {}", copy.stderr());
        done
    }

    /// A copy ends with this status and word; its last line.
    pub(crate) async fn fails(&self, mut copy: Process, status: i32, reason: &str) -> Value {
        let done = report(&mut copy).await;
        let code = copy.exit().await.code();
        let said = copy.stderr();
        assert_eq!((code, done["reason"].as_str()), (Some(status), Some(reason)), "{done}, {said}");
        assert!(said.lines().any(|line| line.starts_with("cellnet: ")), "no error for people: {said}");
        done
    }

    /// What the server says of what arrived, or failed to.
    pub(crate) async fn arrived(&mut self) -> Value {
        self.server.find("JSON", |line| line["event"] == "arrived").await
    }

    /// Where the server listens itself.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}
