//! What matters most, next to the reference, and a sentence about NATS: what the README shows.

use std::fmt::Write;

use cellnet_benches::figure::brief;

use crate::{NATS, OURS, REFERENCE, load::Load, row::Row};

/// The table, if both were measured. The sentence, if NATS was.
pub(crate) fn markdown(rows: &[Row]) -> Option<String> {
    let mut table = String::from(HEADING);
    for Line { title, load, unit, smaller, figure } in LINES {
        let [ours, theirs] = [OURS, REFERENCE].map(|side| figure(Row::find(rows, load, side)?));
        let (ours, theirs) = (ours?, theirs?);
        let ratio = if smaller { theirs / ours } else { ours / theirs };
        writeln!(table, "| {title} | {}{unit} | {}{unit} | {} × |", brief(ours), brief(theirs), brief(ratio))
            .expect("a string takes all");
    }
    if let Some(sentence) = beside_nats(rows) {
        write!(table, "\n{sentence}\n").expect("a string takes all");
    }
    Some(table)
}

const HEADING: &str = "\
| operation | cellnet ↔ cellnet | Python ↔ Python | ratio |
| --- | --- | --- | --- |
";

struct Line {
    title: &'static str,
    load: Load,
    unit: &'static str,
    /// Whether less is better.
    smaller: bool,
    figure: fn(&Row) -> Option<f64>,
}

const fn line(title: &'static str, load: Load, figure: fn(&Row) -> Option<f64>) -> Line {
    Line { title, load, unit: "", smaller: false, figure }
}

const LINES: [Line; 9] = [
    Line { unit: " µs", smaller: true, ..line("64 B request, p50", Load::STREAMED, p50) },
    line("64 B requests per second, 1 in flight", Load::STREAMED, rate),
    line("64 B requests per second, 64 in flight", Load::MANY_STREAMED, rate),
    line("64 MiB request and its echo, MB/s of payload", Load::LARGE, rate),
    Line {
        unit: " µs",
        smaller: true,
        ..line("64 B pipe message through a root, acknowledged, p50", Load::PIPE, p50)
    },
    memory("peak memory of the asking process, 64 in flight", Load::MANY_STREAMED, asking),
    memory("peak memory of the answering process, 64 in flight", Load::MANY_STREAMED, answering),
    memory("peak memory of the asking process, 64 MiB", Load::LARGE, asking),
    memory("peak memory of the answering process, 64 MiB", Load::LARGE, answering),
];

fn beside_nats(rows: &[Row]) -> Option<String> {
    let [ours, theirs] = [OURS, NATS].map(|side| Row::find(rows, Load::ONE_CLIENT, side));
    let (rate, ratio) = (rate(ours?)?, ours?.ratio(theirs?)?.median);
    let (rate, ratio) = (brief(rate), brief(ratio));
    Some(format!(
        "64 B requests on a channel that does not stream, 64 in flight: {rate} per second, {ratio} × those of two \
         clients of a NATS server."
    ))
}

const fn memory(title: &'static str, load: Load, figure: fn(&Row) -> Option<f64>) -> Line {
    Line { unit: " MiB", smaller: true, ..line(title, load, figure) }
}

fn p50(row: &Row) -> Option<f64> {
    Some(row.spread(|turn| turn.p50_us)?.median)
}

fn rate(row: &Row) -> Option<f64> {
    Some(row.rate()?.median)
}

fn asking(row: &Row) -> Option<f64> {
    row.costs(|cost| cost.peak_mib).first().copied()
}

fn answering(row: &Row) -> Option<f64> {
    row.costs(|cost| cost.peak_mib).get(1).copied()
}
