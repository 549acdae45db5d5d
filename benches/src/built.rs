//! Where cargo and the tests put what is measured.

use std::{
    env,
    path::{Path, PathBuf},
};

/// What cargo built for a release.
pub fn program(name: &str) -> PathBuf {
    target().join("release").join(name)
}

/// The Python that has nvflare, if `cellnet/tests/interop` has installed it.
pub fn python() -> Option<PathBuf> {
    let homes = target().join("python").read_dir().ok()?.filter_map(|home| Some(home.ok()?.path()));
    homes.filter(|home| home.join("complete").exists()).map(|home| home.join("bin/python")).max()
}

/// A file of this package, as an argument.
pub fn of_package(path: &str) -> String {
    format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))
}

/// The target directory of cargo.
///
/// # Panics
///
/// If the program that asks is no bench.
fn target() -> PathBuf {
    let this = env::current_exe().expect("a program has a path");
    this.ancestors().nth(3).map(Path::to_path_buf).expect("benches are in target/release/deps")
}
