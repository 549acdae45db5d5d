//! What the turns gave, as a table in Markdown.

use cellnet_benches::spread::Spread;

/// What a side is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) side: &'static str,
    pub(crate) scheme: &'static str,
    /// Where its files are.
    pub(crate) files: String,
}

/// One copy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    pub(crate) seconds: f64,
    /// Processor seconds of both ends.
    pub(crate) cpu: f64,
}

/// All turns of one side.
#[derive(Debug)]
pub(crate) struct Row {
    name: Name,
    pub(crate) turns: Vec<Turn>,
}

impl Row {
    pub(crate) fn new(name: Name) -> Self {
        Self { name, turns: Vec::new() }
    }
}

/// Prints medians. A ratio is the median of those of the rounds, and above 1 where `cellnet cp` does better.
pub(crate) fn show(rows: &[Row], bytes: u64) {
    println!("{} MiB, {} turns each; medians, of MB/s with quartiles", bytes >> 20, rows[0].turns.len());
    println!(
        "| copy | over | files in | MB/s | CPU s for a GB | speed, to bare | CPU, bare to it | speed, to nvflare | CPU, nvflare to it |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let gigabytes = bytes as f64 / 1e9;
    for row in rows {
        let Name { side, scheme, files } = &row.name;
        let rates = Spread::quartiles(row.turns.iter().map(|turn| 1e3 * gigabytes / turn.seconds));
        let cpu = Spread::quartiles(row.turns.iter().map(|turn| turn.cpu / gigabytes));
        print!("| {side} | {scheme} | {files} ");
        print!("| {:.0} ({:.0}-{:.0}) | {:.2} ", rates.median, rates.low, rates.high, cpu.median);
        let bare = rows.iter().find(|other| other.name.side == "bare" && other.name.scheme == *scheme);
        let nvflare = rows.iter().find(|other| other.name.side.starts_with("nvflare"));
        for other in [bare, nvflare] {
            match other.filter(|other| other.name != row.name && *side == "cellnet cp") {
                Some(other) => print!(
                    "| {} | {} ",
                    ratio(row, other, |turn| turn.seconds),
                    ratio(row, other, |turn| turn.cpu)
                ),
                None => print!("| | "),
            }
        }
        println!("|");
    }
}

/// What the other needs for each unit that this one needs.
fn ratio(row: &Row, other: &Row, what: fn(&Turn) -> f64) -> String {
    let rounds = row.turns.iter().zip(&other.turns);
    format!("{:.2}", Spread::quartiles(rounds.map(|(this, other)| what(other) / what(this))).median)
}
