//! The program `cellnet`, run as a script would.

#![allow(dead_code, reason = "every test binary uses a part")]

use std::{ffi::OsStr, process::Stdio, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// Far more than anything here takes; nothing waits for ever.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: i32,
    pub(crate) raw: Vec<u8>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// The last line of standard output.
    pub(crate) fn json(&self) -> Value {
        let line = self.stdout.lines().last().unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

pub(crate) async fn cellnet(args: &[&str]) -> Ended {
    cellnet_with(args, b"").await
}

pub(crate) async fn cellnet_with(args: &[&str], stdin: &[u8]) -> Ended {
    finish(command(args).spawn().unwrap(), stdin).await
}

pub(crate) async fn finish(mut child: Child, stdin: &[u8]) -> Ended {
    // Who does not read standard input may be gone already.
    let _ = child.stdin.take().unwrap().write_all(stdin).await;
    let output = timeout(DEADLINE, child.wait_with_output()).await.unwrap().unwrap();
    Ended {
        status: output.status.code().unwrap(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        raw: output.stdout,
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The program with none of the caller's environment for it.
pub(crate) fn command<S: AsRef<OsStr>>(args: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cellnet"));
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    for (name, _) in std::env::vars_os() {
        if name == "RUST_LOG" || name.to_string_lossy().starts_with("CELLNET_") {
            command.env_remove(name);
        }
    }
    command
}

/// A command that runs until it is stopped.
pub(crate) struct Serving {
    pub(crate) child: Child,
    pub(crate) ready: Value,
}

impl Serving {
    pub(crate) async fn start(args: &[&str]) -> Self {
        Self::of(command(args).stderr(Stdio::inherit()).spawn().unwrap()).await
    }

    pub(crate) async fn of(mut child: Child) -> Self {
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap().expect("READY");
        let ready = line.strip_prefix("READY ").unwrap_or_else(|| panic!("not READY: {line}"));
        let ready = serde_json::from_str(ready).unwrap();
        Self { child, ready }
    }

    pub(crate) fn url(&self) -> String {
        self.ready["listen"][0].as_str().unwrap().to_owned()
    }

    pub(crate) async fn stop(self, name: &str) -> Option<i32> {
        signal(self.child, name).await
    }
}

/// Sends a signal to a process; gives its exit status.
pub(crate) async fn signal(mut child: Child, name: &str) -> Option<i32> {
    send_signal(&child, name).await;
    timeout(DEADLINE, child.wait()).await.unwrap().unwrap().code()
}

pub(crate) async fn send_signal(child: &Child, name: &str) {
    let pid = child.id().unwrap().to_string();
    let sent = Command::new("kill").args(["-s", name, &pid]).status().await.unwrap();
    assert!(sent.success());
}
