//! Files that appear whole, and keys that nobody else could ever read.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    path::Path,
};

use crate::cli::status::{Failure, Status};

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readers {
    Owner,
    All,
}

/// Makes a folder for its owner alone, and those above it. One that exists stays as it is.
pub(super) fn make_dir(dir: &Path) -> Result<(), Failure> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).map_err(|error| failed("make the folder", dir, &error))
}

/// Refuses to go on if one of the files is there.
pub(super) fn none_there<'p>(paths: impl IntoIterator<Item = &'p Path>) -> Result<(), Failure> {
    match paths.into_iter().find(|path| path.exists()) {
        None => Ok(()),
        Some(path) => {
            let text = format!("'{}' is there already; --force replaces it", path.display());
            Err(Failure::new(Status::Config, text))
        }
    }
}

/// Writes a file beside its place and moves it there, so that nobody sees a part of it.
pub(super) fn write(path: &Path, text: &str, readers: Readers) -> Result<(), Failure> {
    let beside = path.with_added_extension("new");
    let write = || {
        // Left by somebody who was interrupted.
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(
            &mut options,
            if readers == Readers::Owner { 0o600 } else { 0o644 },
        );
        let mut file = options.open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(|error| failed("write", path, &error))
}

/// Reads a text that the authority is made of.
pub(super) fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path)
        .map_err(|error| Failure::new(Status::Config, format!("cannot read '{}': {error}", path.display())))
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(Status::Failed, format!("cannot {what} '{}': {error}", path.display()))
}
