//! All figures, as a table in Markdown.

use std::fmt::Write;

use cellnet_benches::{figure::brief, spread::Spread};

use crate::{OURS, load::Load, row::Row};

/// The table, with a line below it for those who were not there.
pub(crate) fn markdown(rows: &[Row], absent: &[String]) -> String {
    let mut table = String::from(HEADING);
    let mut last = None;
    for row in rows {
        let title = if last == Some(row.load) { String::new() } else { row.load.title() };
        last = Some(row.load);
        let bulk = row.load.is_bulk();
        let shown = |figure: Option<Spread>, unit| figure.map_or(String::new(), |figure| figure.shown(unit));
        let rate = shown(row.rate(), if bulk { " MB/s" } else { "/s" });
        let (p50, p99) =
            (shown(row.spread(|turn| turn.p50_us), ""), shown(row.spread(|turn| turn.p99_us), ""));
        let (scale, unit) = if bulk { (1e3 / row.load.size as f64, "s/GB") } else { (1.0, "µs") };
        let cpu = joined(row.costs(|cost| cost.cpu_us).into_iter().map(|cost| cost * scale));
        let memory = joined(row.costs(|cost| cost.peak_mib));
        let ours = Row::find(rows, row.load, OURS).filter(|ours| ours.side != row.side);
        let ratio = shown(ours.and_then(|ours| ours.ratio(row)), "");
        let by = if row.is_brokered() { format!("{}, brokered", row.side) } else { row.side.into() };
        let cells = [title, by, rate, p50, p99, format!("{cpu} {unit}"), memory, ratio];
        writeln!(table, "| {} |", cells.join(" | ")).expect("a string takes all");
    }
    for note in many_to_one(rows).iter().chain(absent) {
        write!(table, "\n{note}\n").expect("a string takes all");
    }
    table
}

const HEADING: &str = "\
| workload | by | rate | p50 µs | p99 µs | processor time | peak MiB | cellnet to it |
| --- | --- | --- | --- | --- | --- | --- | --- |
";

fn joined(figures: impl IntoIterator<Item = f64>) -> String {
    figures.into_iter().map(brief).collect::<Vec<_>>().join(" / ")
}

/// What a side loses, or gains, when many clients ask in turn instead of one with many requests under way.
fn many_to_one(rows: &[Row]) -> Option<String> {
    let ratios = rows.iter().filter(|row| row.load.name == "clients").filter_map(|many| {
        let one = Row::find(rows, Load::ONE_CLIENT, many.side)?;
        Some(format!("{} {}", many.side, brief(many.ratio(one)?.median)))
    });
    let ratios: Vec<_> = ratios.collect();
    let all = ratios.join(", ");
    (!ratios.is_empty()).then(|| format!("The rate of many clients to that of one with 64 in flight: {all}."))
}
