//! How many frames a reader takes before others have their turn.

/// The turns of one reader: of what a read has brought, and what is done between them.
///
/// Messages that are under way together stay together: what comes in one read is answered, or passed on, in one write. If
/// that were all of them, only one cell on their way would be at work at a time. If it were each alone, every one would
/// cost a read and a write everywhere.
#[derive(Debug)]
pub(super) struct Turns {
    /// Frames in a turn.
    size: usize,
    taken: usize,
}

impl Default for Turns {
    fn default() -> Self {
        Self { size: TURN, taken: 0 }
    }
}

impl Turns {
    /// A read has brought `burst` frames; the cell waits for `awaited` replies.
    pub(super) fn begin(&mut self, burst: usize, awaited: usize) {
        let turns = (burst + TURN / 2) / TURN;
        // Nearly all that this cell waits for is here, so nobody else is at work on any of it.
        let all = burst <= awaited && burst * 4 >= awaited * 3;
        let turns = turns.max(if all { 2 } else { 1 });
        // One alone is answered by its handler, and whoever waits for it is not kept waiting by the next read.
        self.size = if burst == 1 { TURN } else { burst.div_ceil(turns) };
        self.taken = 0;
    }

    /// A frame was taken. Says whether others have their turn now.
    pub(super) fn step(&mut self) -> bool {
        self.taken += 1;
        self.taken.is_multiple_of(self.size)
    }
}

/// About as many are in each turn of a long burst.
const TURN: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many frames others have their turn.
    fn turns(burst: usize, awaited: usize) -> Vec<usize> {
        let mut turns = Turns::default();
        turns.begin(burst, awaited);
        (1..=burst).filter(|_| turns.step()).collect()
    }

    #[test]
    fn a_burst_is_one_turn_unless_it_is_long() {
        assert_eq!(turns(2, 0), [2]);
        assert_eq!(turns(31, 0), [31]);
        assert_eq!(turns(47, 0), [47]);
        assert_eq!(turns(48, 0), [24, 48]);
        assert_eq!(turns(64, 0), [32, 64]);
        assert_eq!(turns(320, 0).len(), 10);
    }

    #[test]
    fn all_that_is_awaited_is_two_turns() {
        assert_eq!(turns(2, 2), [1, 2]);
        assert_eq!(turns(7, 8), [4], "and the rest is on its way with what comes next");
        assert_eq!(turns(8, 8), [4, 8]);
        assert_eq!(turns(6, 8), [3, 6]);
        assert_eq!(turns(5, 8), [5], "others are still on their way");
        assert_eq!(turns(31, 1), [31], "most of it is for somebody else");
        assert_eq!(turns(64, 64), [32, 64]);
    }

    #[test]
    fn one_alone_needs_no_turn() {
        assert!(turns(1, 0).is_empty() && turns(1, 1).is_empty());
    }

    #[test]
    fn what_came_with_the_handshake_is_taken_in_turns_too() {
        let mut first = Turns::default();
        assert_eq!((1..=100).filter(|_| first.step()).collect::<Vec<_>>(), [32, 64, 96]);
    }
}
