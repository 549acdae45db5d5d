//! Sets of numbers that are mostly runs.

use std::collections::BTreeMap;

/// A set of block numbers. It takes room for its gaps, not for its members.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Ranges {
    /// From the first of a run to the one behind its last. Runs do not touch.
    runs: BTreeMap<u64, u64>,
    count: u64,
}

impl Ranges {
    /// Adds a number below `u64::MAX`. Says whether it was new.
    pub(crate) fn insert(&mut self, number: u64) -> bool {
        let before = self.runs.range(..=number).next_back().map(|(first, end)| (*first, *end));
        if before.is_some_and(|(_, end)| number < end) {
            return false;
        }
        let first = before.filter(|(_, end)| *end == number).map_or(number, |(first, _)| first);
        let end = self.runs.remove(&(number + 1)).unwrap_or(number + 1);
        self.runs.insert(first, end);
        self.count += 1;
        true
    }

    /// The first number from `from` on that is not in it.
    pub(crate) fn gap(&self, from: u64) -> u64 {
        match self.runs.range(..=from).next_back() {
            Some((_, end)) if from < *end => *end,
            _ => from,
        }
    }

    /// How many numbers are in it.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_are_a_set(numbers in prop::collection::vec(0_u64..40, 0..60)) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for number in numbers {
                prop_assert_eq!(ranges.insert(number), set.insert(number));
                prop_assert_eq!(ranges.count(), set.len() as u64);
                for from in 0..42 {
                    prop_assert_eq!(ranges.gap(from), (from..).find(|at| !set.contains(at)).unwrap());
                }
            }
            let runs = set.iter().filter(|at| !set.contains(&(**at + 1))).count();
            prop_assert_eq!(ranges.runs.len(), runs);
        }
    }
}
