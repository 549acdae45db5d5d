//! Rust libraries, by programs that follow the protocol of `child`.

use std::{io, path::PathBuf};

use cellnet_benches::process::Process;
use serde_json::Value;

use super::Side;
use crate::{
    load::{Load, Pace},
    turn::Turn,
};

/// One library.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) program: PathBuf,
    /// What it can do: workloads, and what goes through a relay.
    pub(crate) direct: &'static [&'static str],
    pub(crate) relayed: &'static [&'static str],
    pub(crate) most_clients: usize,
    /// Whether servers dial relays, or else relays dial servers.
    pub(crate) is_brokered: bool,
}

impl Side for Program {
    fn name(&self) -> &'static str {
        self.name
    }

    fn does(&self, load: &Load) -> bool {
        let known = if load.relayed { self.relayed } else { self.direct };
        known.contains(&load.workload) && load.clients <= self.most_clients
    }

    fn turn(&self, load: &Load, pace: Pace) -> io::Result<Turn> {
        let (relay, serve, address) = if !load.relayed {
            let (serve, address) = self.start("serve", None)?;
            (None, serve, address)
        } else if self.is_brokered {
            let (relay, address) = self.start("relay", None)?;
            let (serve, _) = self.start("serve", Some(&address))?;
            (Some(relay), serve, address)
        } else {
            let (serve, address) = self.start("serve", None)?;
            let (relay, address) = self.start("relay", Some(&address))?;
            (Some(relay), serve, address)
        };
        let job = load.job(pace).to_string();
        let mut run = Process::spawn(&self.program, &["run", self.name, &address, &job])?;
        Turn::hear(&mut run, &serve, relay.as_ref())
    }
}

impl Program {
    fn start(&self, role: &str, address: Option<&str>) -> io::Result<(Process, String)> {
        let args: Vec<_> = [role, self.name].into_iter().chain(address).collect();
        let (process, ready) = Process::start(&self.program, &args)?;
        Ok((process, text(&ready["address"])))
    }
}

/// An address that READY has.
pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
