//! A process that a test talks to: ours or one of the reference.
//!
//! Such a process prints lines of a word and a JSON object, `READY {"name": "server"}` first. Threads read them, so a
//! process is never held up by a test that does not look.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout_at},
};

/// A running process, killed when dropped. What it does not do in time ends the test with the tail of its stderr.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    /// Our scripts leave when this closes, so that they do not outlive a test that was killed.
    _stdin: Option<ChildStdin>,
    output: Arc<Output>,
    patience: Duration,
}

impl Process {
    /// Our own program with these arguments.
    pub(crate) fn cellnet(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cellnet"));
        command.args(args);
        Self::spawn(format!("cellnet {}", args.join(" ")), command)
    }

    /// Starts `command`; `name` is for messages.
    pub(crate) fn spawn(name: String, mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot start {name}: {e}"));
        let output = Arc::new(Output::default());
        let (stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        read_lines(stdout, Arc::clone(&output), |state, line| state.take_line(line));
        read_lines(stderr, Arc::clone(&output), |state, line| keep(&mut state.stderr, line, MAX_TAIL));
        Self { name, _stdin: child.stdin.take(), child, output, patience: PATIENCE }
    }

    /// Sets how long this process has for anything it is expected to do; two minutes by default.
    pub(crate) fn patient(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// What the process says once it can be used.
    pub(crate) async fn ready(&mut self) -> Value {
        self.expect("READY").await
    }

    /// The first line of a kind; others stay for later.
    pub(crate) async fn expect(&mut self, kind: &str) -> Value {
        self.find(kind, |_| true).await
    }

    /// The first event that `wanted` takes; others stay for later.
    pub(crate) async fn event(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        self.find("EVENT", wanted).await
    }

    /// The first line of a kind that `wanted` takes; others stay for later.
    pub(crate) async fn find(&mut self, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + self.patience;
        loop {
            {
                let mut state = self.output.lock();
                let matches = |line: &Line| line.kind == kind && wanted(&line.value);
                if let Some(at) = state.lines.iter().position(matches) {
                    return state.lines.remove(at).expect("just found").value;
                }
                let failed = kind != "ERROR" && state.lines.iter().any(|line| line.kind == "ERROR");
                if state.streams_ended == 2 || failed {
                    drop(state);
                    let status = self.child.try_wait().expect("our child");
                    self.complain(&format!("ended or failed ({status:?}) before the wanted {kind}"));
                }
            }
            if timeout_at(deadline, self.output.changed.notified()).await.is_err() {
                self.complain(&format!("did not say the wanted {kind} in {:?}", self.patience));
            }
        }
    }

    /// How many lines of a kind are there that were not taken yet.
    pub(crate) fn waiting(&self, kind: &str) -> usize {
        self.output.lock().lines.iter().filter(|line| line.kind == kind).count()
    }

    /// Waits until the process has ended by itself, and has said all that it has to say.
    pub(crate) async fn exit(&mut self) -> ExitStatus {
        let deadline = Instant::now() + self.patience;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("our child") {
                break status;
            }
            if Instant::now() > deadline {
                self.complain(&format!("did not end in {:?}", self.patience));
            }
            sleep(Duration::from_millis(10)).await;
        };
        // What it has said may still be on its way; a process that it has started may hold the streams open.
        let deadline = Instant::now() + LAST_WORDS;
        while self.output.lock().streams_ended < 2
            && timeout_at(deadline, self.output.changed.notified()).await.is_ok()
        {}
        status
    }

    /// Asks the process to end (SIGTERM) and waits for it.
    pub(crate) async fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.exit().await
    }

    /// Ends the process without warning (SIGKILL).
    pub(crate) fn kill(&mut self) {
        // Fails only if it has ended already.
        let _ = self.child.kill();
        self.child.wait().expect("our child");
    }

    /// Stops the process from running (SIGSTOP) and waits until it stands still; its sockets stay open.
    pub(crate) async fn freeze(&self) {
        self.signal("STOP");
        let deadline = Instant::now() + self.patience;
        let path = format!("/proc/{}/status", self.pid());
        while !std::fs::read_to_string(&path).is_ok_and(|status| status.contains("\nState:\tT")) {
            if Instant::now() > deadline {
                self.complain("did not freeze");
            }
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Lets a frozen process run again (SIGCONT).
    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> u64 {
        resident(self.pid())
    }

    /// The last lines of stderr.
    pub(crate) fn stderr(&self) -> String {
        self.output.lock().stderr.iter().fold(String::new(), |text, line| text + line + "\n")
    }

    /// The shell's `kill` is there on every system; a program of that name is not.
    fn signal(&self, signal: &str) {
        let script = format!("kill -{signal} {}", self.pid());
        let status = Command::new("sh").args(["-c", &script]).stderr(Stdio::null()).status();
        // The process may have ended in the meantime, which the caller will see.
        status.unwrap_or_else(|e| panic!("cannot run sh to signal {}: {e}", self.name));
    }

    fn complain(&self, what: &str) -> ! {
        let mut text = format!("{} {what}\n", self.name);
        let state = self.output.lock();
        let _ = writeln!(text, "--- {} lines not taken, {} lost; the last:", state.lines.len(), state.lost);
        for line in state.lines.iter().skip(state.lines.len().saturating_sub(20)) {
            let _ = writeln!(text, "{} {}", line.kind, line.value);
        }
        drop(state);
        let _ = writeln!(text, "--- stderr:\n{}", self.stderr());
        panic!("{text}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Resident memory of any process, in bytes.
pub(crate) fn resident(pid: u32) -> u64 {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("cannot read {path}: {e}"));
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of kB");
    kib * 1024
}

/// A word and its JSON.
#[derive(Debug)]
struct Line {
    kind: String,
    value: Value,
}

#[derive(Debug, Default)]
struct Output {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Line>,
    lost: usize,
    /// Of stdout and stderr.
    streams_ended: u8,
    stderr: VecDeque<String>,
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl State {
    /// A line that is JSON alone, as our `--json` commands print it, is of the kind "JSON"; other text goes to the tail.
    fn take_line(&mut self, line: String) {
        let (kind, json) = if line.starts_with('{') {
            ("JSON", &*line)
        } else {
            line.split_once(' ').unwrap_or((&line, ""))
        };
        match serde_json::from_str(json) {
            Ok(value) => self.lost += keep(&mut self.lines, Line { kind: kind.into(), value }, MAX_LINES),
            Err(_) => {
                keep(&mut self.stderr, format!("(stdout) {line}"), MAX_TAIL);
            }
        }
    }
}

/// Adds to a bounded queue; what no longer fits is lost at the old end. Says how much.
fn keep<T>(queue: &mut VecDeque<T>, item: T, max: usize) -> usize {
    queue.push_back(item);
    if queue.len() > max { queue.pop_front().into_iter().count() } else { 0 }
}

fn read_lines<R>(
    from: impl Read + Send + 'static,
    output: Arc<Output>,
    take: impl Fn(&mut State, String) -> R + Send + 'static,
) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n') {
            let Ok(line) = line else { break };
            take(&mut output.lock(), String::from_utf8_lossy(&line).into_owned());
            output.changed.notify_one();
        }
        output.lock().streams_ended += 1;
        output.changed.notify_one();
    });
}

const PATIENCE: Duration = Duration::from_secs(120);
/// For what is left in the streams of a process that has ended.
const LAST_WORDS: Duration = Duration::from_secs(5);
const MAX_LINES: usize = 10_000;
const MAX_TAIL: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::spawn("shell".into(), command)
    }

    #[tokio::test]
    async fn lines_that_were_not_asked_for_are_kept() {
        let mut process =
            shell(r#"echo 'A {"n": 1}'; echo 'EVENT {"n": 2}'; echo noise; echo 'EVENT {"n": 3}'"#);
        assert_eq!(process.event(|event| event["n"] == 3).await["n"], 3);
        assert_eq!((process.waiting("A"), process.waiting("EVENT")), (1, 1));
        assert_eq!(process.expect("A").await["n"], 1);
        assert!(process.exit().await.success());
    }

    #[tokio::test]
    #[should_panic(expected = "what went wrong")]
    async fn an_early_end_shows_stderr() {
        shell("echo what went wrong >&2").ready().await;
    }

    #[tokio::test]
    #[should_panic(expected = "did not say the wanted READY")]
    async fn silence_ends_the_test() {
        shell("exec sleep 60").patient(Duration::from_millis(100)).ready().await;
    }

    #[tokio::test]
    #[should_panic(expected = "no such thing")]
    async fn an_error_line_ends_the_wait_at_once() {
        shell(r#"echo 'ERROR {"text": "no such thing"}'; exec sleep 60"#).ready().await;
    }

    #[tokio::test]
    async fn all_that_was_said_is_there_once_it_has_ended() {
        let mut process = shell(r#"seq 100000 >&2; echo 'A {"n": 1}'; echo last words >&2"#);
        assert!(process.exit().await.success());
        assert!(process.stderr().ends_with("last words\n"));
        assert_eq!(process.waiting("A"), 1);
    }

    #[tokio::test]
    async fn our_program_starts() {
        assert!(Process::cellnet(&["--version"]).exit().await.success());
    }
}
