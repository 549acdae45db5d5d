//! How figures look.

/// Three digits that count, no more than three behind the point, and commas between thousands.
pub fn brief(figure: f64) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_count() {
        for (figure, shown) in [
            (0.0, "0.00"),
            (0.01234, "0.012"),
            (0.4567, "0.457"),
            (9.876, "9.88"),
            (98.76, "98.8"),
            (999.6, "1,000"),
            (97_654.0, "97,700"),
            (14_812_345.0, "14,800,000"),
            (f64::NAN, "?"),
        ] {
            assert_eq!(brief(figure), shown);
        }
    }
}
