//! What a copy shows while it runs: bars for people on a terminal, events for scripts with `--json`, else nothing.

use std::{
    io,
    time::{Duration, Instant},
};

use cellnet::Fqcn;
use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::cli::show;

/// How far a copy is. Bytes are those of files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Safe where they belong, those of earlier attempts included.
    pub(crate) bytes: u64,
    /// All that there are; `None` while that is not known.
    pub(crate) total: Option<u64>,
    /// Of `bytes`, what was there before this attempt.
    pub(crate) resumed: u64,
    /// Of `resumed`, what the other side does not count as such.
    pub(crate) earlier: u64,
    /// What has travelled in this attempt.
    pub(crate) moved: u64,
    pub(crate) files: u64,
    /// Whether the other side has said what it has.
    pub(crate) begun: bool,
}

/// Where all the copies of a command are shown.
#[derive(Debug)]
pub(crate) struct View {
    json: bool,
    bars: MultiProgress,
}

impl View {
    /// Bars draw themselves on a terminal only.
    pub(crate) fn new(json: bool) -> Self {
        Self::on(if json { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() }, json)
    }

    fn on(target: ProgressDrawTarget, json: bool) -> Self {
        Self { json, bars: MultiProgress::with_draw_target(target) }
    }

    /// Shows one more copy.
    pub(crate) fn follow(&self, peer: &Fqcn) -> Shown {
        let bar = self.bars.add(ProgressBar::new(0).with_style(style()).with_prefix(peer.to_string()));
        Shown { peer: peer.to_string(), json: self.json, bar, resumed: None, waits: false, told: None }
    }
}

fn style() -> ProgressStyle {
    let template =
        "{prefix} {bar:30} {bytes}/{total_bytes} {percent}% {binary_bytes_per_sec} eta {eta} {msg}";
    ProgressStyle::with_template(template).expect("the template is well-formed").progress_chars("=> ")
}

/// One copy that is shown.
#[derive(Debug)]
pub(crate) struct Shown {
    peer: String,
    json: bool,
    bar: ProgressBar,
    resumed: Option<u64>,
    waits: bool,
    told: Option<(Instant, u64)>,
}

impl Shown {
    /// Shows how far it is now. Events come at most ten times a second.
    pub(crate) fn at(&mut self, reach: Reach) -> io::Result<()> {
        match reach.total {
            Some(total) => self.bar.set_length(total),
            None => self.bar.unset_length(),
        }
        if !reach.begun {
            return Ok(());
        }
        if self.resumed != Some(reach.resumed) {
            self.resume(reach)?;
        }
        self.bar.set_position(reach.bytes);
        let now = Instant::now();
        let due = |(at, bytes)| bytes != reach.bytes && now.duration_since(at) >= BETWEEN_EVENTS;
        if self.json && self.told.is_none_or(due) {
            self.told = Some((now, reach.bytes));
            show::print_event(&self.progress(reach))?;
        }
        Ok(())
    }

    /// Shows whether it waits for the other side to be there.
    pub(crate) fn waits(&mut self, waits: bool) -> io::Result<()> {
        if std::mem::replace(&mut self.waits, waits) == waits {
            return Ok(());
        }
        self.bar.set_message(if waits { "waiting for the other side" } else { "" });
        if self.json {
            show::print_event(&Event::Waiting { peer: &self.peer, waiting: waits })
        } else {
            Ok(())
        }
    }

    /// Shows that it has ended.
    pub(crate) fn end(&mut self, reach: Reach, error: Option<&str>) -> io::Result<()> {
        self.bar.set_position(reach.bytes);
        self.bar.abandon_with_message(error.map_or("done", |_| "failed"));
        if !self.json {
            return Ok(());
        }
        show::print_event(&Event::End {
            peer: &self.peer,
            files: reach.files,
            bytes: reach.bytes,
            resumed_bytes: reach.resumed,
            moved_bytes: reach.moved,
            error,
        })
    }

    /// The other side has said what it has. It may find more while it compares that with its journal.
    fn resume(&mut self, reach: Reach) -> io::Result<()> {
        let first = self.resumed.replace(reach.resumed).is_none();
        // What was there already says nothing about the rate.
        self.bar.set_position(reach.resumed);
        self.bar.reset_eta();
        if reach.resumed > 0 {
            self.bar.set_message(format!("resumed from {}", HumanBytes(reach.resumed)));
        }
        if !self.json || !first {
            return Ok(());
        }
        show::print_event(&Event::Begin {
            peer: &self.peer,
            files: reach.files,
            total_bytes: reach.total,
            resumed_bytes: reach.resumed,
        })
    }

    fn progress(&self, reach: Reach) -> Event<'_> {
        let rate = self.bar.per_sec();
        let left = reach.total.map(|total| total.saturating_sub(reach.bytes));
        Event::Progress {
            peer: &self.peer,
            bytes: reach.bytes,
            total_bytes: reach.total,
            resumed_bytes: reach.resumed,
            mbps: rate / 1e6,
            eta_s: left.filter(|_| rate > 0.0).map(|left| left as f64 / rate),
        }
    }
}

/// Often enough to see where a copy is, and seldom enough not to be work.
const BETWEEN_EVENTS: Duration = Duration::from_millis(100);

/// What `--json` prints before the last line. Bytes are those of files, MB = 10^6 bytes.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event<'a> {
    /// The other side has said what it has.
    Begin { peer: &'a str, files: u64, total_bytes: Option<u64>, resumed_bytes: u64 },
    Progress {
        peer: &'a str,
        bytes: u64,
        total_bytes: Option<u64>,
        resumed_bytes: u64,
        #[serde(rename = "MBps")]
        mbps: f64,
        eta_s: Option<f64>,
    },
    /// The other side is out of reach, or is back.
    Waiting { peer: &'a str, waiting: bool },
    End {
        peer: &'a str,
        files: u64,
        bytes: u64,
        resumed_bytes: u64,
        moved_bytes: u64,
        error: Option<&'a str>,
    },
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use indicatif::TermLike;

    use super::*;

    /// A terminal that remembers what was written.
    #[derive(Debug, Clone, Default)]
    struct Paper(Arc<Mutex<String>>);

    impl TermLike for Paper {
        fn width(&self) -> u16 {
            160
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(&format!("{text}\n"))
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn reach(bytes: u64, resumed: u64) -> Reach {
        Reach {
            bytes,
            total: Some(4 << 20),
            resumed,
            earlier: 0,
            moved: bytes - resumed,
            files: 1,
            begun: true,
        }
    }

    #[test]
    fn a_bar_tells_the_target_how_much_of_what_and_where_it_resumed() {
        let paper = Paper::default();
        let view = View::on(ProgressDrawTarget::term_like(Box::new(paper.clone())), false);
        let mut shown = view.follow(&"site-1".parse().unwrap());
        shown.at(reach(1 << 20, 1 << 20)).unwrap();
        shown.end(reach(4 << 20, 1 << 20), None).unwrap();
        let text = paper.0.lock().unwrap().clone();
        for part in ["site-1 ", "4.00 MiB/4.00 MiB 100%", "resumed from 1.00 MiB", "done"] {
            assert!(text.contains(part), "no '{part}' in {text}");
        }
    }

    #[test]
    fn events_have_the_names_that_scripts_rely_on() {
        let view = View::on(ProgressDrawTarget::hidden(), false);
        let shown = view.follow(&"site-1".parse().unwrap());
        let event = serde_json::to_value(shown.progress(reach(2 << 20, 1 << 20))).unwrap();
        assert_eq!((&event["event"], &event["peer"]), (&"progress".into(), &"site-1".into()));
        assert_eq!((&event["bytes"], &event["total_bytes"]), (&(2 << 20).into(), &(4 << 20).into()));
        for name in ["MBps", "eta_s"] {
            assert!(event.get(name).is_some(), "{name} is missing in {event}");
        }
    }
}
