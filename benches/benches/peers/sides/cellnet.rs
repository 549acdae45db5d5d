//! `cellnet bench` from `target/release`.

use std::{
    io,
    path::PathBuf,
    process::{Command, Stdio},
};

use cellnet_benches::process::Process;
use serde_json::Value;

use super::{Side, program::text};
use crate::{
    OURS,
    load::{Load, Pace},
    turn::{Cost, Turn, known},
};

/// Cells.
#[derive(Debug)]
pub(crate) struct Cellnet {
    pub(crate) program: PathBuf,
}

impl Side for Cellnet {
    fn name(&self) -> &'static str {
        OURS
    }

    fn does(&self, _: &Load) -> bool {
        true
    }

    fn turn(&self, load: &Load, pace: Pace) -> io::Result<Turn> {
        if !load.relayed {
            let (_serve, root) = self.start(&["bench", "serve"])?;
            return self.run(&["--connect", &root], load, pace);
        }
        // Both ends of a pipe are cells below the root, which is a process of its own as a relay is.
        let (_serve, relay, way) = if load.workload == "pipe" {
            let (relay, root) = self.start(&["serve", "--name", "server"])?;
            let bench = ["bench", "serve", "--name", "site-1", "--root", &root];
            let (serve, _) = Process::start(&self.program, &bench)?;
            (serve, relay, vec!["--connect".to_owned(), root, "--to".into(), "site-1".into()])
        } else {
            let (serve, root) = self.start(&["bench", "serve"])?;
            let (relay, address) = self.start(&["serve", "--name", "relay-1", "--root", &root])?;
            (serve, relay, vec!["--via".to_owned(), format!("relay-1@{address}")])
        };
        let way: Vec<_> = way.iter().map(String::as_str).collect();
        let before = relay.cpu();
        let turn = self.run(&way, load, pace)?;
        // It was busy during the warm-up, too.
        let messages = turn.msgs_s * (pace.warmup + pace.lasts).as_secs_f64();
        Ok(Turn { between: Some(Cost::of(&relay, before, messages)), ..turn })
    }
}

impl Cellnet {
    /// Starts a process that listens; gives where.
    fn start(&self, args: &[&str]) -> io::Result<(Process, String)> {
        let args = [args, &["--listen", "tcp://127.0.0.1:0"]].concat();
        let (process, ready) = Process::start(&self.program, &args)?;
        Ok((process, text(&ready["listen"][0])))
    }

    fn run(&self, way: &[&str], load: &Load, pace: Pace) -> io::Result<Turn> {
        let job = load.job(pace);
        let mut command = Command::new(&self.program);
        command.args(["bench", "run", "--json", "--workload", load.workload]).args(way);
        for (flag, value) in [
            ("--size", job.size.to_string()),
            ("--inflight", job.inflight.to_string()),
            ("--connections", job.clients.to_string()),
            ("--warmup", format!("{}ms", job.warmup.as_millis())),
            ("--seconds", job.lasts.as_secs_f64().to_string()),
        ] {
            command.args([flag, &value]);
        }
        let done = command.stdin(Stdio::null()).stderr(Stdio::piped()).output()?;
        if !done.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&done.stderr)));
        }
        let said = String::from_utf8_lossy(&done.stdout);
        let figures: Value = serde_json::from_str(said.lines().last().unwrap_or_default())?;
        let cost = |cpu, peak| Cost { cpu_us: known(&figures, cpu), peak_mib: known(&figures, peak) };
        Ok(Turn {
            msgs_s: known(&figures, "msgs_s"),
            p50_us: figures["p50_us"].as_f64(),
            p99_us: figures["p99_us"].as_f64(),
            run: cost("cpu_s_per_million", "rss_mb"),
            serve: cost("serve_cpu_s_per_million", "serve_rss_mb"),
            between: None,
        })
    }
}
