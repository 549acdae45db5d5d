//! Processes that are measured, and their processor time.

use std::{
    ffi::OsStr,
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::Value;

/// A process that runs until this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Process {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// If the program cannot be run.
    pub fn spawn<A: AsRef<OsStr>>(program: impl AsRef<OsStr>, args: &[A]) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let stdin = child.stdin.take().expect("it was asked for");
        let stdout = BufReader::new(child.stdout.take().expect("it was asked for"));
        Ok(Self { child, stdin, stdout })
    }

    /// Starts it and waits until it is ready; gives what it says then.
    ///
    /// # Errors
    ///
    /// If the program cannot be run, or ends before.
    pub fn start<A: AsRef<OsStr>>(program: impl AsRef<OsStr>, args: &[A]) -> io::Result<(Self, Value)> {
        let mut this = Self::spawn(program, args)?;
        let ready = this.hear("READY")?;
        Ok((this, ready))
    }

    /// Writes a line to its standard input.
    ///
    /// # Errors
    ///
    /// If the process has closed that.
    pub fn tell(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.stdin, "{line}")
    }

    /// Waits for a line that begins with this word; gives the object behind it.
    ///
    /// # Errors
    ///
    /// If the process ends before it says so; the error has what it said instead.
    pub fn hear(&mut self, word: &str) -> io::Result<Value> {
        let object = self.wait_for(word, |line| line.strip_prefix(word))?;
        Ok(serde_json::from_str(&object)?)
    }

    /// Waits for a line that has these words, wherever in it; gives what is behind them.
    ///
    /// # Errors
    ///
    /// As [`Process::hear`].
    pub fn hear_behind(&mut self, words: &str) -> io::Result<String> {
        self.wait_for(words, |line| Some(line.split_once(words)?.1))
    }

    fn wait_for(&mut self, words: &str, rest: impl Fn(&str) -> Option<&str>) -> io::Result<String> {
        let mut said = Vec::new();
        for line in self.stdout.by_ref().lines() {
            let line = line?;
            if let Some(rest) = rest(&line) {
                return Ok(rest.to_owned());
            }
            said.push(line);
        }
        Err(io::Error::other(format!("the process ended before it said {words}, but {said:?}")))
    }

    /// Seconds of processor time so far, in steps of 10 ms.
    pub fn cpu(&self) -> f64 {
        times(&format!("/proc/{}/stat", self.child.id())).0
    }

    /// The most memory that it has had, in MiB; 0 where the system does not say.
    pub fn peak_mib(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        let kib = peak.split_whitespace().next().and_then(|kib| kib.parse::<u32>().ok());
        f64::from(kib.unwrap_or(0)) / 1024.0
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
pub fn own_cpu() -> f64 {
    times("/proc/self/stat").0
}

/// Seconds of processor time of all processes that were started here and have ended.
pub fn ended_cpu() -> f64 {
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
