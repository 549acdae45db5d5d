//! Clients of a server of NATS, which is the process between them.

use std::{env, io, path::PathBuf};

use cellnet_benches::{built, process::Process};

use super::Side;
use crate::{
    NATS,
    child::runtime::threads,
    load::{Load, Pace},
    turn::Turn,
};

/// `nats-server` with two programs of `benches/brokers`.
#[derive(Debug)]
pub(crate) struct Nats {
    pub(crate) server: PathBuf,
    pub(crate) clients: PathBuf,
}

impl Nats {
    /// Where the server is installed, if it is.
    pub(crate) fn server() -> Option<PathBuf> {
        let path = env::var_os("PATH").unwrap_or_default();
        // Servers are not on everybody's path.
        let folders = env::split_paths(&path).chain(["/usr/sbin".into()]);
        folders.map(|folder| folder.join("nats-server")).find(|program| program.is_file())
    }
}

impl Side for Nats {
    fn name(&self) -> &'static str {
        NATS
    }

    fn does(&self, load: &Load) -> bool {
        ["rr", "push", "blob"].contains(&load.workload) && load.clients == 1 && !load.relayed
    }

    fn turn(&self, load: &Load, pace: Pace) -> io::Result<Turn> {
        let threads = format!("GOMAXPROCS={}", threads());
        let settings = built::of_package("brokers/nats.conf");
        let mut server = Process::spawn(
            "env",
            &[threads.as_ref(), self.server.as_os_str(), "-c".as_ref(), settings.as_ref()],
        )?;
        let address = server.hear_behind("Listening for client connections on ")?;
        let (serve, _) = Process::start(&self.clients, &["serve", NATS, &address])?;
        let job = load.job(pace).to_string();
        let mut run = Process::spawn(&self.clients, &["run", NATS, &address, &job])?;
        Turn::hear(&mut run, &serve, Some(&server))
    }
}
