//! How many frames a reader takes before others have their turn.

/// The turns of one reader.
///
/// Messages that are under way together stay together: what comes in one read is answered, or passed on, in one write. So
/// a burst is one turn, because each of several would cost every cell on its way a read and a write of its own. A long one
/// is several of 24 to 47 frames. And if it is nearly all that this cell waits for, by any link, it is two: or whoever
/// answers would have nothing to do while this cell works.
#[derive(Debug)]
pub(super) struct Turns {
    /// Frames in a turn.
    size: usize,
    /// Frames of it that were taken.
    taken: usize,
}

impl Default for Turns {
    fn default() -> Self {
        Self { size: TURN, taken: 0 }
    }
}

impl Turns {
    /// A read has brought `burst` frames; the cell waits for as many replies as `awaited` says.
    pub(super) fn begin(&mut self, burst: usize, awaited: impl FnOnce() -> usize) {
        if burst == 1 {
            // They go on with the turn that they find, so that others have theirs however frames come.
            self.size = TURN;
            return;
        }
        let mut turns = (burst + TURN / 2) / TURN;
        if turns < 2 {
            let awaited = awaited();
            turns = if burst <= awaited && burst * 4 >= awaited * 3 { 2 } else { 1 };
        }
        self.size = burst.div_ceil(turns).max(1);
        self.taken = 0;
    }

    /// A frame was taken. Says whether others have their turn now.
    pub(super) fn step(&mut self) -> bool {
        self.taken += 1;
        let others = self.taken >= self.size;
        if others {
            self.taken = 0;
        }
        others
    }
}

/// Frames of a turn, more or less: bursts of less than half as many more are not divided.
const TURN: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many frames others have their turn.
    fn turns(burst: usize, awaited: usize) -> Vec<usize> {
        let mut turns = Turns::default();
        turns.begin(burst, || awaited);
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
    fn others_have_their_turn_also_if_frames_come_alone() {
        let mut turns = Turns::default();
        let mut alone = |count| {
            let step = |_: &usize| {
                turns.begin(1, || unreachable!("it does not matter"));
                turns.step()
            };
            (1..=count).filter(step).collect::<Vec<_>>()
        };
        assert_eq!(alone(70), [32, 64]);
        assert_eq!(alone(26), [26], "32 since the last time");
    }

    #[test]
    fn a_read_without_frames_changes_little() {
        let mut turns = Turns::default();
        turns.begin(0, || 0);
        assert!(turns.step());
    }

    #[test]
    fn what_came_with_the_handshake_is_taken_in_turns_too() {
        let mut first = Turns::default();
        assert_eq!((1..=100).filter(|_| first.step()).collect::<Vec<_>>(), [32, 64, 96]);
    }
}
