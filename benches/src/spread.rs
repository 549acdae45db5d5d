//! Where figures of several turns lie.

use crate::figure::brief;

/// The middle of some figures, and how far they are apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// A low one.
    pub low: f64,
    /// The one in the middle.
    pub median: f64,
    /// A high one.
    pub high: f64,
}

impl Spread {
    /// The median with the quartiles; of at least one figure.
    pub fn quartiles(figures: impl IntoIterator<Item = f64>) -> Self {
        Self::around(figures, 0.25)
    }

    /// The median with the least and the greatest; of at least one figure.
    pub fn range(figures: impl IntoIterator<Item = f64>) -> Self {
        Self::around(figures, 0.0)
    }

    /// For people: the median in this unit, and how far it goes.
    pub fn shown(&self, unit: &str) -> String {
        let Self { low, median, high } = *self;
        format!("{}{unit} ({}–{})", brief(median), brief(low), brief(high))
    }

    fn around(figures: impl IntoIterator<Item = f64>, part: f64) -> Self {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let at = |part: f64| figures[((figures.len() - 1) as f64 * part).round() as usize];
        Self { low: at(part), median: at(0.5), high: at(1.0 - part) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_figures_does_not_matter() {
        let figures = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!(Spread::range(figures), Spread { low: 1.0, median: 3.0, high: 5.0 });
        assert_eq!(Spread::quartiles(figures), Spread { low: 2.0, median: 3.0, high: 4.0 });
        assert_eq!(Spread::range([7.0]).shown(" MB/s"), "7.00 MB/s (7.00–7.00)");
    }
}
