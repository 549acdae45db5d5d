//! What the turns of one side gave.

use cellnet_benches::spread::Spread;

use crate::{
    load::Load,
    turn::{Cost, Turn},
};

/// All turns of a side with a load. Of a turn that failed there is none.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) load: Load,
    pub(crate) side: &'static str,
    pub(crate) turns: Vec<Option<Turn>>,
}

impl Row {
    /// That of a side with a load, if it was measured.
    pub(crate) fn find<'r>(rows: &'r [Self], load: Load, side: &str) -> Option<&'r Self> {
        rows.iter().find(|row| row.load == load && row.side == side)
    }

    /// Whether a process was between the two where nobody asked for one.
    pub(crate) fn is_brokered(&self) -> bool {
        !self.load.relayed && self.turns.iter().flatten().any(|turn| turn.between.is_some())
    }

    /// A figure of the turns, if any has it.
    pub(crate) fn spread(&self, figure: impl Fn(&Turn) -> Option<f64>) -> Option<Spread> {
        some(self.turns.iter().flatten().filter_map(figure))
    }

    /// Messages a second, or megabytes of payload where these count.
    pub(crate) fn rate(&self) -> Option<Spread> {
        let scale = if self.load.is_bulk() { self.load.size as f64 / 1e6 } else { 1.0 };
        self.spread(|turn| Some(turn.msgs_s * scale))
    }

    /// How much faster it was than the other, round by round.
    pub(crate) fn ratio(&self, other: &Self) -> Option<Spread> {
        let rounds = self.turns.iter().zip(&other.turns);
        some(rounds.filter_map(|(this, other)| Some(this.as_ref()?.msgs_s / other.as_ref()?.msgs_s)))
    }

    /// Medians of what each process needed: the one that runs, the one that serves, the one between them.
    pub(crate) fn costs(&self, cost: fn(&Cost) -> f64) -> Vec<f64> {
        let processes: [fn(&Turn) -> Option<Cost>; 3] =
            [|turn| Some(turn.run), |turn| Some(turn.serve), |turn| turn.between];
        let costs = processes.map(|process| self.spread(|turn| process(turn).as_ref().map(cost)));
        costs.into_iter().flatten().map(|cost| cost.median).collect()
    }
}

fn some(figures: impl Iterator<Item = f64>) -> Option<Spread> {
    let mut figures = figures.peekable();
    figures.peek()?;
    Some(Spread::range(figures))
}
