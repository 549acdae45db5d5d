//! A driver next to the bare library: the same load in turn, so that whatever else the machine does meets both.

use std::{fmt, fs, time::Duration};

use crate::{
    spread::Spread,
    way::{Ends, Load, Way},
};

/// Two ways for one load.
#[expect(missing_debug_implementations, reason = "its ways are foreign connections")]
pub struct Contest<'e> {
    /// Where both ways end.
    pub ends: &'e Ends,
    /// What both carry.
    pub load: Load,
    /// By a driver of cellnet.
    pub driver: Way,
    /// By the library below it.
    pub bare: Way,
}

impl Contest<'_> {
    /// Carries the load by turns, so many times each; every turn lasts some 100 ms or longer.
    pub fn run(&mut self, scheme: &'static str, rounds: usize) -> Outcome {
        let mut outcome = Outcome { scheme, load: self.load.clone(), rounds: Vec::new() };
        let slower = self.turn(Side::Driver, 1).time.max(self.turn(Side::Bare, 1).time);
        let steps = (TURN.as_secs_f64() / slower.as_secs_f64()).ceil().clamp(1.0, 100.0) as usize;
        for round in 0..rounds {
            // Who goes second may find the other's work still warm, or still under way.
            let (driver, bare) = if round % 2 == 0 {
                let driver = self.turn(Side::Driver, steps);
                (driver, self.turn(Side::Bare, steps))
            } else {
                let bare = self.turn(Side::Bare, steps);
                (self.turn(Side::Driver, steps), bare)
            };
            outcome.rounds.push(Round { driver, bare });
        }
        outcome
    }

    fn turn(&mut self, side: Side, steps: usize) -> Turn {
        let way = match side {
            Side::Driver => &mut self.driver,
            Side::Bare => &mut self.bare,
        };
        let frames = steps * self.load.step;
        let before = cpu();
        let time = self.ends.carry(way, &self.load, frames);
        let frames = frames as f64;
        Turn { time, rate: frames / time.as_secs_f64(), cpu: (cpu() - before) / frames }
    }
}

#[derive(Debug, Clone, Copy)]
enum Side {
    Driver,
    Bare,
}

/// What one turn must last to be worth a figure.
const TURN: Duration = Duration::from_millis(150);

/// What one side did in one turn.
#[derive(Debug, Clone, Copy)]
struct Turn {
    time: Duration,
    /// Frames a second.
    rate: f64,
    /// Processor seconds a frame, of both ends; 0 where the system does not say.
    cpu: f64,
}

#[derive(Debug, Clone, Copy)]
struct Round {
    driver: Turn,
    bare: Turn,
}

/// What a contest gave. Shown as a row of [`HEADING`].
#[derive(Debug, Clone)]
pub struct Outcome {
    scheme: &'static str,
    load: Load,
    rounds: Vec<Round>,
}

/// The heading of a table of [`Outcome`]s.
///
/// Rates are medians. A ratio is the median of the rounds' ratios, with the quartiles: driver to bare of rates, and bare
/// to driver of the processor time for a frame, so that 1 is as good as bare and less is worse in both.
pub const HEADING: &str = "\
| transport | frames | driver | bare | unit | rate, driver/bare | quartiles | processor time, bare/driver | quartiles |
|---|---|---|---|---|---|---|---|---|";

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |what: fn(&Round) -> f64| Spread::quartiles(self.rounds.iter().map(what));
        let (scale, unit) = match self.load.batch {
            1 => (self.load.body.len() as f64 / 1e6, "MB/s"),
            _ => (1e-3, "k/s"),
        };
        let (driver, bare) = (of(|round| round.driver.rate), of(|round| round.bare.rate));
        let rate = of(|round| round.driver.rate / round.bare.rate);
        let cpu = of(|round| round.bare.cpu / round.driver.cpu);
        write!(f, "| {} | {} ", self.scheme, self.load.name)?;
        write!(f, "| {:.0} | {:.0} | {unit} ", driver.median * scale, bare.median * scale)?;
        write!(f, "| {:.2} | {:.2}-{:.2} ", rate.median, rate.low, rate.high)?;
        write!(f, "| {:.2} | {:.2}-{:.2} |", cpu.median, cpu.low, cpu.high)
    }
}

/// Processor seconds of this process so far.
fn cpu() -> f64 {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let spent = tasks.filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    spent.sum::<u64>() as f64 / 1e9
}
