//! Folders of tests, in the target folder, as there is more room than in memory.

use std::{fs, path::PathBuf};

use tempfile::TempDir;

/// A folder that goes away.
#[derive(Debug)]
pub(crate) struct Scratch(TempDir);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(
            TempDir::with_prefix_in("transfer-", env!("CARGO_TARGET_TMPDIR"))
                .expect("the target folder takes a folder"),
        )
    }

    /// A path in it; nothing is made.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// [`path`](Self::path) as an argument.
    pub(crate) fn arg(&self, name: &str) -> String {
        self.path(name).to_str().expect("a path that is text").to_owned()
    }

    /// Every file and folder below a path of it, in order, the path itself left out.
    pub(crate) fn names(&self, below: &str) -> Vec<String> {
        let mut names = Vec::new();
        let mut dirs = vec![self.path(below)];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(&dir).into_iter().flatten() {
                let path = entry.expect("an entry of our folder").path();
                let name = path.strip_prefix(self.path(below)).expect("it is below");
                names.push(name.to_str().expect("a path that is text").to_owned());
                if path.is_dir() {
                    dirs.push(path);
                }
            }
        }
        names.sort();
        names
    }
}
