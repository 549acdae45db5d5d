//! How figures look.

use std::fmt;

use cellnet_benches::spread::Spread;

/// A median with the least and the greatest, in a unit.
pub(crate) struct Range(pub(crate) Spread, pub(crate) &'static str);

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Spread { low, median, high }, unit) = *self;
        let [low, median, high] = [low, median, high].map(brief);
        write!(f, "{median}{unit} ({low}–{high})")
    }
}

/// Three digits that count, and commas between thousands.
pub(crate) fn brief(figure: f64) -> String {
    if !figure.is_finite() {
        return "?".into();
    }
    let whole = if figure > 0.0 { figure.log10().floor() as i32 + 1 } else { 1 };
    if whole < 3 {
        return format!("{figure:.*}", (3 - whole).clamp(0, 3) as usize);
    }
    let step = 10_f64.powi(whole - 3);
    let digits = format!("{:.0}", (figure / step).round() * step);
    let groups = digits.as_bytes().rchunks(3).rev().map(|group| str::from_utf8(group).expect("digits"));
    groups.collect::<Vec<_>>().join(",")
}
