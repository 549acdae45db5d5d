//! Start-up kits as the reference's own provisioning makes them.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::OnceLock,
    time::Duration,
};

use cellnet_core::{
    testkit::pki::Pki,
    tls::{CredentialFiles, Tls},
};
use sha2::{Digest, Sha256};

use crate::python::{run_script, scripts};

/// The server's participant; its host names are `localhost` and `127.0.0.1`.
pub(crate) const SERVER: &str = "server.example.org";

/// The administrator's participant.
pub(crate) const ADMIN: &str = "admin@example.org";

/// The folder with the credentials of a participant. The first caller makes the kits; that takes seconds.
pub(crate) fn kit(participant: &str) -> PathBuf {
    kits().join(PROJECTS[0]).join("prod_00").join(participant).join("startup")
}

/// The same of another network, with an authority of its own.
pub(crate) fn foreign_kit(participant: &str) -> PathBuf {
    kits().join(PROJECTS[1]).join("prod_00").join(participant).join("startup")
}

/// The credentials of a participant, loaded.
pub(crate) fn tls(participant: &str) -> Tls {
    load(kit(participant))
}

/// Credentials from a folder.
pub(crate) fn load(folder: impl AsRef<Path>) -> Tls {
    Tls::load(CredentialFiles::in_dir(folder)).expect("a kit can be loaded")
}

/// A kit of other files: `(name, where it is from)`. It goes when the authority goes.
pub(crate) fn kit_of(files: &[(&str, PathBuf)], keeper: &Pki) -> PathBuf {
    let folder = keeper.dir().join(uuid::Uuid::new_v4().to_string());
    fs::create_dir_all(&folder).expect("a folder");
    for (name, from) in files {
        fs::copy(from, folder.join(name)).unwrap_or_else(|e| panic!("cannot copy {}: {e}", from.display()));
    }
    folder
}

/// Whose kit a cell uses, by its name.
pub(crate) fn participant(name: &str) -> &str {
    let below = name.strip_prefix("relay-1.").unwrap_or(name);
    match below.split(['.', '_']).next() {
        Some("server") => SERVER,
        Some("") => ADMIN,
        first => first.unwrap_or(below),
    }
}

const PROJECTS: [&str; 2] = ["ours", "foreign"];

fn kits() -> &'static Path {
    static READY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    READY.get_or_init(provision).as_ref().unwrap_or_else(|why| panic!("no start-up kits: {why}"))
}

/// Makes the kits once in a while, whichever test process comes first.
fn provision() -> Result<PathBuf, String> {
    let script = fs::read(scripts().join("kits.py")).map_err(|e| e.to_string())?;
    let digest = Sha256::digest(script);
    let key: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    // Not below the folder where cells of the reference run: they would find the kits' configuration there.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().ok_or("no target directory")?;
    let home = target.join("kits").join(key);
    let io = |e: std::io::Error| format!("cannot write to {}: {e}", home.display());
    fs::create_dir_all(&home).map_err(io)?;
    let lock = File::create(home.join("lock")).map_err(io)?;
    lock.lock().map_err(io)?;
    let stamp = home.join("complete");
    let made = fs::metadata(&stamp).and_then(|data| data.modified()).ok();
    if made.and_then(|made| made.elapsed().ok()).is_none_or(|age| age > FRESH) {
        // A half-made project would be continued, and an old one's certificates used again.
        for project in PROJECTS {
            let _ = fs::remove_dir_all(home.join(project));
            run_script("kits", &[&home.to_string_lossy(), project])?;
        }
        File::create(&stamp).map_err(io)?;
    }
    Ok(home)
}

/// The certificates run out after 360 days.
const FRESH: Duration = Duration::from_secs(30 * 24 * 60 * 60);
