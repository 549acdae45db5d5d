//! What a copy says when it is over.

use std::io;

use cellnet::{Cell, ReturnCode};
use indicatif::{HumanBytes, HumanDuration};
use serde::Serialize;

use super::{follow::Ended, place::Job};
use crate::cli::{
    figures::{self, Watch},
    net, show,
    status::Failure,
};

/// The last object of `--json`. Bytes are those of files, in all targets together, MB = 10^6 bytes of what travelled, memory
/// in MiB; what is unknown is null.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    name: String,
    /// The other cell, or several with commas between.
    peer: String,
    /// The URLs by which those above were reached.
    via: Vec<String>,
    return_code: String,
    /// A stable word for what went wrong.
    reason: Option<&'static str>,
    error: Option<String>,
    files: u64,
    bytes: u64,
    /// Of `bytes`, what was there when this copy began, or when the other side last began.
    resumed_bytes: u64,
    /// What travelled this time; holes and `resumed_bytes` did not.
    moved_bytes: u64,
    /// BLAKE3 of one file, as `b3sum` prints it, or of a tree.
    hash: Option<String>,
    seconds: f64,
    #[serde(rename = "MBps")]
    mbps: f64,
    cpu_s: Option<f64>,
    rss_mb: Option<f64>,
    /// The most memory that this process ever held.
    peak_mb: Option<f64>,
    #[serde(skip)]
    to_stdout: bool,
}

impl Report {
    pub(crate) fn of(cell: &Cell, job: &Job, ended: &Result<Vec<Ended>, Failure>, watch: &Watch) -> Self {
        let each = ended.as_deref().unwrap_or_default();
        let sum = |bytes: fn(&Ended) -> u64| each.iter().map(bytes).sum::<u64>();
        let lost: Vec<_> = each.iter().filter_map(|ended| ended.outcome.as_ref().err()).collect();
        let failure = ended.as_ref().err();
        let errors = lost.iter().map(ToString::to_string).chain(failure.map(ToString::to_string));
        let errors: Vec<_> = errors.collect();
        let code = lost.first().map(|lost| lost.code()).or_else(|| failure.map(Failure::return_code));
        let peers: Vec<_> = job.targets().iter().map(ToString::to_string).collect();
        let (seconds, moved) = (watch.elapsed().as_secs_f64(), sum(|ended| ended.reach.moved));
        Self {
            name: cell.name().to_string(),
            peer: peers.join(","),
            via: net::via(cell),
            return_code: code.unwrap_or(ReturnCode::OK).to_string(),
            reason: lost.first().map(|lost| lost.reason()),
            error: (!errors.is_empty()).then(|| errors.join("; ")),
            files: sum(|ended| ended.reach.files),
            bytes: sum(|ended| ended.reach.bytes),
            resumed_bytes: sum(|ended| ended.reach.resumed),
            moved_bytes: moved,
            hash: each.iter().find_map(|ended| ended.outcome.as_ref().ok().cloned()),
            seconds,
            mbps: moved as f64 / seconds.max(1e-9) / 1e6,
            cpu_s: watch.cpu(),
            rss_mb: figures::resident_mib(),
            peak_mb: figures::peak_mib(),
            to_stdout: job.fills_stdout(),
        }
    }

    /// Prints it for scripts, or what of it people want to know.
    pub(crate) fn tell(&self, json: bool) -> io::Result<()> {
        match (json, self.to_stdout) {
            (true, false) => show::print_json(self),
            // Standard output belongs to the file.
            (true, true) => show::print_json_aside(self),
            (false, false) if self.error.is_none() => show::print_line(&self.sentence()),
            (false, _) => Ok(()),
        }
    }

    fn sentence(&self) -> String {
        let files = if self.files == 1 { "1 file".to_owned() } else { format!("{} files", self.files) };
        let took = match self.seconds {
            few @ ..100.0 => format!("{few:.1} seconds"),
            many => HumanDuration(std::time::Duration::from_secs_f64(many)).to_string(),
        };
        let resumed = match self.resumed_bytes {
            0 => String::new(),
            bytes => format!(", {} of it before", HumanBytes(bytes)),
        };
        let hash = self.hash.as_deref().unwrap_or_default();
        let size = HumanBytes(self.bytes);
        format!("{files}, {size}{resumed}, in {took} ({:.1} MB/s), blake3 {hash}", self.mbps)
    }
}
