//! Where figures of several turns lie.

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

    fn around(figures: impl IntoIterator<Item = f64>, part: f64) -> Self {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let at = |part: f64| figures[((figures.len() - 1) as f64 * part).round() as usize];
        Self { low: at(part), median: at(0.5), high: at(1.0 - part) }
    }
}
