//! What cellnet does between processes next to what others do: a bare socket, zenoh, gRPC by tonic, nvflare, ZeroMQ, and NATS.
//!
//! Every turn starts its processes anew, because where the system puts them decides how long a round trip is. All sides take a turn
//! in each round, so that whatever else the machine does meets all of them. TCP on loopback, without TLS.
//!
//! ```text
//! cargo build --release && cargo test -p cellnet --test interop download     # the latter installs nvflare once
//! cargo build --release --manifest-path benches/brokers/Cargo.toml           # ZeroMQ and NATS, for whoever wants them
//! cargo bench -p cellnet-benches --features peers --bench peers [-- --only rr,blob] [-- --write]
//! ```
//! `--only` takes some of `rr`, `clients`, `relay`, `srr`, `pipe`, `push`, `blob`, `fan` and `churn`. `--write` writes the tables of
//! `docs/performance.md` and of the README. `CELLNET_PEERS_ROUNDS` says how many turns each side has, 5 by default, `CELLNET_PEERS_SECONDS` how long one
//! is, 2 s, and `CELLNET_BROKERS` where the program of `benches/brokers` is.

mod child;
mod document;
mod load;
mod roles;
mod row;
mod sides;
mod summary;
mod table;
mod turn;

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::Duration,
};

use cellnet_benches::built;

use child::Role;
use load::{Load, Pace};
use row::Row;
use sides::{Cellnet, Nats, Nvflare, Program, Side};

fn main() -> ExitCode {
    if let Some(role) = Role::of_this_process() {
        roles::play(role);
    }
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<(), String> {
    let said = |flag| env::args().any(|argument| argument == flag);
    if said("--list") {
        return Ok(());
    }
    let cellnet = built::program("cellnet");
    if !cellnet.exists() {
        println!("nothing is measured: `cargo build --release` makes {}", cellnet.display());
        return Ok(());
    }
    let loads = chosen()?;
    if said("--write") && loads.len() < Load::ALL.len() {
        return Err("the tables of the documents have all workloads: --write goes without --only".into());
    }
    let number = |name, usual| env::var(name).map_or(usual, |text| text.parse().expect("a number"));
    let full = said("--bench") && !said("--test");
    let rounds = number("CELLNET_PEERS_ROUNDS", if full { 5.0 } else { 1.0 });
    let seconds = number("CELLNET_PEERS_SECONDS", if full { 2.0 } else { 0.1 });
    let lasts = Duration::from_secs_f64(seconds);
    let pace = Pace { warmup: lasts / 4, lasts, most_clients: if full { usize::MAX } else { 20 } };

    let (sides, absent) = sides(cellnet);
    let rows = take_turns(&sides, &loads, rounds as usize, pace);
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let caption = format!("Turns: {rounds} of {seconds} s each; processors: {processors}.\n\n");
    let figures = caption + &table::markdown(&rows, &absent);
    let summary = summary::markdown(&rows);
    println!("{figures}\n{}", summary.as_deref().unwrap_or_default());
    let failed = rows.iter().flat_map(|row| &row.turns).filter(|turn| turn.is_none()).count();
    if failed > 0 {
        return Err(format!("{failed} turns failed, so nothing is written"));
    }
    if said("--write") {
        document::write("docs/performance.md", &figures).map_err(|error| error.to_string())?;
        if let Some(summary) = summary {
            document::write("README.md", &summary).map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

/// Lets every side carry every load that it can, once in each round.
fn take_turns(sides: &[Box<dyn Side>], loads: &[Load], rounds: usize, pace: Pace) -> Vec<Row> {
    let mut rows = Vec::new();
    for load in loads {
        for side in sides.iter().filter(|side| side.does(load)) {
            rows.push((side, Row { load: *load, side: side.name(), turns: Vec::new() }));
        }
    }
    for round in 1..=rounds {
        for (side, row) in &mut rows {
            let turn = side.turn(&row.load, pace);
            let said =
                turn.as_ref().map_or_else(|error| error.to_string(), |turn| format!("{:.0}/s", turn.msgs_s));
            eprintln!("round {round} of {rounds}, {}, {}: {said}", row.load.title(), row.side);
            row.turns.push(turn.ok());
        }
    }
    rows.into_iter().map(|(_, row)| row).collect()
}

/// Whose ratios to the others are shown.
const OURS: &str = "cellnet";

/// To whom the README shows them.
const REFERENCE: &str = "nvflare 2.8.3";

/// Whom the README names besides: it has a server between any two.
const NATS: &str = "NATS";

/// What is named by `--only`, or everything.
fn chosen() -> Result<Vec<Load>, String> {
    let only = env::args().skip_while(|argument| argument != "--only").nth(1);
    let Some(only) = only else { return Ok(Load::ALL.into()) };
    let names: Vec<_> = only.split(',').collect();
    match names.iter().find(|name| Load::ALL.iter().all(|load| load.name != **name)) {
        Some(unknown) => Err(format!("no workload is called {unknown}")),
        None => Ok(Load::ALL.into_iter().filter(|load| names.contains(&load.name)).collect()),
    }
}

/// All who can be measured here, and a sentence about each who cannot.
fn sides(cellnet: PathBuf) -> (Vec<Box<dyn Side>>, Vec<String>) {
    let this = env::current_exe().expect("a program has a path");
    let library = |name, program: &Path, direct, relayed| Program {
        name,
        program: program.into(),
        direct,
        relayed,
        most_clients: 1,
        is_brokered: false,
    };
    let tokio = library("tokio", &this, &["rr", "push", "blob"], &["rr", "blob"]);
    let zenoh = library("zenoh", &this, &["rr", "push", "blob"], &["rr", "blob"]);
    let tonic = library("tonic", &this, &["rr", "blob"], &[]);
    let mut sides: Vec<Box<dyn Side>> = vec![
        Box::new(Cellnet { program: cellnet }),
        Box::new(Program { most_clients: usize::MAX, ..tokio }),
        Box::new(Program { is_brokered: true, ..zenoh }),
        Box::new(Program { most_clients: usize::MAX, ..tonic }),
    ];
    let mut absent = Vec::new();
    let brokers =
        env::var_os("CELLNET_BROKERS").map_or_else(|| built::of_package(BROKERS).into(), PathBuf::from);
    if brokers.exists() {
        sides.push(Box::new(library("ZeroMQ", &brokers, &["rr", "push", "blob"], &[])));
        match Nats::server() {
            Some(server) => sides.push(Box::new(Nats { server, clients: brokers })),
            None => absent.push("NATS is left out: `apt-get install nats-server` brings its server.".into()),
        }
    } else {
        absent.push("ZeroMQ and NATS are left out: benches/brokers was not built.".into());
    }
    match built::python() {
        Some(python) => sides.push(Box::new(Nvflare { python })),
        None => absent.push("nvflare is left out: the tests have not installed it.".into()),
    }
    (sides, absent)
}

/// Where cargo puts the package that is no member of the workspace.
const BROKERS: &str = "brokers/target/release/cellnet-bench-brokers";
