//! Those who copy: each takes its turns.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use cellnet_benches::{
    bare, built,
    driver::is_secure,
    process::{Process, ended_cpu, own_cpu},
    way::{Ends, Load},
};
use cellnet_core::testkit::pki::Pki;

use crate::{
    Place,
    table::{Name, Turn},
    text,
};

/// Somebody who copies a file.
pub(crate) trait Side {
    /// What it is called in the table.
    fn name(&self) -> Name;

    /// Copies once.
    fn turn(&mut self, bytes: u64) -> Turn;
}

/// `cellnet serve --inbox`, which stays, and a new `cellnet cp` for each turn, of which everything counts.
pub(crate) struct Cp<'p> {
    scheme: &'static str,
    place: &'p Place,
    server: Process,
    cellnet: PathBuf,
    inbox: PathBuf,
    args: Vec<String>,
}

impl<'p> Cp<'p> {
    pub(crate) fn start(scheme: &'static str, cellnet: &Path, pki: &Pki, place: &'p Place) -> Self {
        let inbox = place.folder(&format!("inbox-{scheme}"));
        let credentials = |name| match is_secure(scheme) {
            true => vec!["--credentials".to_owned(), text(&pki.kit(name)).to_owned()],
            false => Vec::new(),
        };
        let url = format!("{scheme}://127.0.0.1:0");
        let serve = ["serve", "--name", "server", "--listen", &url, "--inbox", text(&inbox)];
        let serve: Vec<_> = serve.map(str::to_owned).into_iter().chain(credentials("server")).collect();
        let (server, ready) = Process::start(cellnet, &serve).expect("the program serves");
        let root = ready["listen"][0].as_str().expect("READY names listeners");
        let file = place.file();
        let cp = ["cp", text(&file), "server:copy", "--name", "site-1", "--root", root];
        let args = cp.map(str::to_owned).into_iter().chain(credentials("site-1")).collect();
        Self { scheme, place, server, cellnet: cellnet.into(), inbox, args }
    }
}

impl Side for Cp<'_> {
    fn name(&self) -> Name {
        Name { side: "cellnet cp", scheme: self.scheme, files: text(&self.place.parent).into() }
    }

    fn turn(&mut self, bytes: u64) -> Turn {
        let cpu = || self.server.cpu() + ended_cpu();
        let (before, began) = (cpu(), Instant::now());
        let mut command = Command::new(&self.cellnet);
        command.args(&self.args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let done = command.output().expect("the program can be run");
        let turn = Turn { seconds: began.elapsed().as_secs_f64(), cpu: cpu() - before };
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let copy = self.inbox.join("copy");
        assert_eq!(copy.metadata().map(|metadata| metadata.len()).ok(), Some(bytes));
        fs::remove_file(copy).expect("it is there");
        turn
    }
}

/// A bare connection: a loop that writes from memory and one that reads into memory, on a thread each.
pub(crate) struct Bare<'e> {
    pub(crate) scheme: &'static str,
    pub(crate) ends: &'e Ends,
    pub(crate) pki: &'e Pki,
    pub(crate) load: &'e Load,
}

impl Side for Bare<'_> {
    fn name(&self) -> Name {
        Name { side: "bare", scheme: self.scheme, files: "no files".into() }
    }

    /// The connection is made before the clock starts, and each time, as QUIC gives up those that are idle.
    fn turn(&mut self, bytes: u64) -> Turn {
        let mut way = bare::open(self.ends, self.scheme, self.pki);
        let (before, frames) = (own_cpu(), bytes.div_ceil(self.load.body.len() as u64));
        let took = self.ends.carry(&mut way, self.load, frames as usize);
        Turn { seconds: took.as_secs_f64(), cpu: own_cpu() - before }
    }
}

/// Two Python cells, which both stay: only the download counts.
pub(crate) struct Nvflare<'p> {
    place: &'p Place,
    offering: Process,
    taking: Process,
}

impl<'p> Nvflare<'p> {
    pub(crate) fn start(python: &Path, place: &'p Place) -> Self {
        let script = built::of_package("nvflare/file_copy.py");
        let start = |args: &[&str]| Process::start(python, args).expect("nvflare starts");
        let (offering, ready) = start(&[&script, "--lifetime", "0", "--offer", text(&place.file())]);
        let root = ready["url"].as_str().expect("READY has the URL");
        let folder = place.folder("taken");
        let (taking, _) = start(&[&script, "--lifetime", "0", "--take", text(&folder), "--root", root]);
        Self { place, offering, taking }
    }
}

impl Side for Nvflare<'_> {
    fn name(&self) -> Name {
        Name { side: "nvflare 2.8.3", scheme: "tcp", files: text(&self.place.parent).into() }
    }

    fn turn(&mut self, bytes: u64) -> Turn {
        let cpu = |this: &Self| this.offering.cpu() + this.taking.cpu();
        let before = cpu(self);
        self.taking.tell("take").expect("it listens");
        let taken = self.taking.hear("TAKEN").expect("the download succeeds");
        assert_eq!(taken["bytes"].as_u64(), Some(bytes), "{taken}");
        let seconds = taken["seconds"].as_f64().expect("TAKEN has the time");
        Turn { seconds, cpu: cpu(self) - before }
    }
}
