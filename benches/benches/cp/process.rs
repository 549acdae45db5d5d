//! Processes that are measured, and their processor time.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::Value;

/// A process that runs until this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Process {
    /// Starts it and waits until it is ready; gives what it says then.
    pub(crate) fn start<A: AsRef<OsStr>>(program: impl AsRef<OsStr>, args: &[A]) -> (Self, Value) {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the program can be run");
        let stdin = child.stdin.take().expect("it was asked for");
        let stdout = BufReader::new(child.stdout.take().expect("it was asked for"));
        let mut this = Self { child, stdin, stdout };
        let ready = this.hear("READY");
        (this, ready)
    }

    /// Writes a line to its standard input.
    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").expect("the process listens");
    }

    /// Waits for a line that begins with this word; gives the object behind it.
    pub(crate) fn hear(&mut self, word: &str) -> Value {
        let lines = self.stdout.by_ref().lines().map(|line| line.expect("a line of text"));
        let mut said = Vec::new();
        for line in lines {
            if let Some(object) = line.strip_prefix(word) {
                return serde_json::from_str(object).expect("an object");
            }
            said.push(line);
        }
        panic!("the process ended before it said {word}, but {said:?}");
    }

    /// Seconds of processor time so far, in steps of 10 ms.
    pub(crate) fn cpu(&self) -> f64 {
        times(&format!("/proc/{}/stat", self.child.id())).0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Seconds of processor time of this process.
pub(crate) fn own_cpu() -> f64 {
    times("/proc/self/stat").0
}

/// Seconds of processor time of all processes that were started here and have ended.
pub(crate) fn ended_cpu() -> f64 {
    times("/proc/self/stat").1
}

/// Of a process, and of its children that ended; 0 where the system does not say.
fn times(path: &str) -> (f64, f64) {
    let stat = fs::read_to_string(path).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let mut ticks = fields.split_whitespace().skip(11).map(|ticks| ticks.parse::<u32>().unwrap_or(0));
    let mut seconds = || f64::from(ticks.next().unwrap_or(0) + ticks.next().unwrap_or(0)) / USER_HZ;
    (seconds(), seconds())
}

/// The unit of times that Linux shows to programs, on every architecture.
const USER_HZ: f64 = 100.0;
