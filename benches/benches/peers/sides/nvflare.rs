//! Python cells of the reference, by `benches/nvflare/request.py`.

use std::{io, path::PathBuf};

use cellnet_benches::{built, process::Process};

use super::{Side, program::text};
use crate::{
    REFERENCE,
    load::{Load, Pace},
    turn::Turn,
};

/// Cells of nvflare.
#[derive(Debug)]
pub(crate) struct Nvflare {
    pub(crate) python: PathBuf,
}

impl Side for Nvflare {
    fn name(&self) -> &'static str {
        REFERENCE
    }

    fn does(&self, load: &Load) -> bool {
        let through_root = load.workload == "pipe";
        ["rr", "srr", "blob", "pipe"].contains(&load.workload)
            && load.clients == 1
            && load.relayed == through_root
    }

    fn turn(&self, load: &Load, pace: Pace) -> io::Result<Turn> {
        let script = built::of_package("nvflare/request.py");
        let start = |args: &[&str]| Process::start(&self.python, &[&[script.as_str()], args].concat());
        let (root, ready) = start(&["--serve"])?;
        let root_url = text(&ready["url"]);
        let end = match load.workload {
            "pipe" => Some(start(&["--take", "--root", &root_url])?.0),
            _ => None,
        };
        let job = load.job(pace).to_string();
        let args = [script.as_str(), "--run", &job, "--root", &root_url];
        let mut run = Process::spawn(&self.python, &args)?;
        let (serve, between) = match &end {
            Some(end) => (end, Some(&root)),
            None => (&root, None),
        };
        Turn::hear(&mut run, serve, between)
    }
}
