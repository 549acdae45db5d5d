//! A file by `cellnet cp` next to the bare socket below it and to the file download of the reference.
//!
//! Copies are between processes: `cellnet serve --inbox` and `cellnet cp` from `target/release`, and two Python cells of nvflare
//! if the tests have installed it. The bare side carries the same bytes from memory to memory by the loop of the bench `transport`. All sides
//! take turns, so that whatever else the machine does meets all of them.
//!
//! ```text
//! cargo build --release && cargo test -p cellnet --test interop download     # the latter installs nvflare once
//! cargo bench -p cellnet-benches --bench cp [-- tcp | quic]
//! ```
//! `CELLNET_CP_BYTES` says how large the file is, 1 GiB by default, `CELLNET_CP_ROUNDS` how many turns each side has, 5.

mod sides;
mod table;

use std::{
    env,
    path::{Path, PathBuf},
};

use cellnet_benches::{
    built,
    way::{Ends, Load},
};
use cellnet_core::testkit::pki::Pki;

use sides::{Bare, Cp, Nvflare, Side};
use table::Row;

fn main() {
    let said = |flag| env::args().any(|argument| argument == flag);
    if said("--list") {
        return;
    }
    let cellnet = built::program("cellnet");
    if !cellnet.exists() {
        return println!("nothing is measured: `cargo build --release` makes {}", cellnet.display());
    }
    let number = |name, usual| env::var(name).map_or(usual, |text| text.parse().expect("a number"));
    let full = said("--bench") && !said("--test");
    let bytes = number("CELLNET_CP_BYTES", if full { 1 << 30 } else { 8 << 20 });
    let rounds = number("CELLNET_CP_ROUNDS", if full { 5 } else { 1 });
    let chosen = env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let chosen = |scheme: &&str| chosen.as_deref().is_none_or(|chosen| chosen == *scheme);

    let (ends, pki, load) = (Ends::new(), Pki::new(), Load::large());
    let places: Vec<Place> = [MEMORY.into(), env::temp_dir()].into_iter().filter_map(Place::new).collect();
    places.iter().for_each(|place| place.fill(bytes));
    let mut sides: Vec<Box<dyn Side + '_>> = Vec::new();
    for scheme in SCHEMES.into_iter().filter(chosen) {
        for place in &places {
            sides.push(Box::new(Cp::start(scheme, &cellnet, &pki, place)));
        }
        sides.push(Box::new(Bare { scheme, ends: &ends, pki: &pki, load: &load }));
    }
    match built::python() {
        Some(python) => sides.push(Box::new(Nvflare::start(&python, &places[0]))),
        None => println!("nvflare is not measured: it is not installed"),
    }
    let mut rows: Vec<Row> = sides.iter().map(|side| Row::new(side.name())).collect();
    // The first turn of each finds nothing warm, and does not count.
    for round in 0..rounds + u64::from(full) {
        for (side, row) in sides.iter_mut().zip(&mut rows) {
            let turn = side.turn(bytes);
            if round > 0 || !full {
                row.turns.push(turn);
            }
        }
    }
    table::show(&rows, bytes);
}

const SCHEMES: [&str; 2] = ["tcp", "quic"];

/// Files here are in memory.
const MEMORY: &str = "/dev/shm";

/// A folder with the file to be copied, which goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    /// Where it was made, for people.
    pub(crate) parent: PathBuf,
    pub(crate) dir: PathBuf,
}

impl Place {
    /// A folder of its own below `parent`, if that is there.
    fn new(parent: PathBuf) -> Option<Self> {
        let dir = parent.join(format!("cellnet-cp-{}", std::process::id()));
        std::fs::create_dir(&dir).ok()?;
        Some(Self { parent, dir })
    }

    fn fill(&self, bytes: u64) {
        use std::io::Write;
        let mut file = std::fs::File::create(self.file()).expect("there is room");
        let (mut piece, mut state, mut left) = (vec![0; 1 << 20], 1_u64, bytes);
        while left > 0 {
            for word in piece.chunks_exact_mut(8) {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                word.copy_from_slice(&state.to_le_bytes());
            }
            let now = left.min(piece.len() as u64);
            file.write_all(&piece[..now as usize]).expect("there is room");
            left -= now;
        }
        file.sync_all().expect("the disk takes it");
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.dir.join("file")
    }

    /// A folder in it for what arrives.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let folder = self.dir.join(name);
        std::fs::create_dir_all(&folder).expect("there is room");
        folder
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What cannot be removed is left to the system.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}
