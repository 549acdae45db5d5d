//! Cells and pipes of the reference: nvflare from PyPI in a virtual environment of its own, and our scripts that use it.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use sha2::{Digest, Sha256};

use crate::process::Process;

impl Process {
    /// A script of `tests/python` with these arguments, as in `Process::python("root_cell", &["--events"])`.
    pub(crate) fn python(script: &str, args: &[&str]) -> Self {
        Self::python_with(script, args, &[])
    }

    /// Like [`Process::python`], with variables for the environment, which configure nvflare (`NVFLARE_…`).
    pub(crate) fn python_with(script: &str, args: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(interpreter());
        command.arg(scripts().join(format!("{script}.py"))).arg("--lifeline").args(args);
        command.current_dir(env!("CARGO_TARGET_TMPDIR"));
        command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONUNBUFFERED", "1").env_remove("PYTHONPATH");
        command.envs(variables.iter().copied());
        Self::spawn(format!("{script}.py {}", args.join(" ")), command)
    }
}

/// Runs a script of `tests/python` to its end.
pub(crate) fn run_script(script: &str, args: &[&str]) -> Result<(), String> {
    let mut command = Command::new(interpreter());
    command.arg(scripts().join(format!("{script}.py"))).args(args).current_dir(env!("CARGO_TARGET_TMPDIR"));
    command.env("PYTHONDONTWRITEBYTECODE", "1").env_remove("PYTHONPATH");
    run(&mut command).map(drop)
}

/// The interpreter that has nvflare. The first caller installs it; that takes a minute.
fn interpreter() -> &'static Path {
    static READY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match READY.get_or_init(install) {
        Ok(path) => path,
        Err(why) => panic!("the reference implementation is needed for this test: {why}"),
    }
}

/// Makes the environment once per set of requirements and interpreter, whichever test process comes first.
fn install() -> Result<PathBuf, String> {
    let requirements = scripts().join("requirements.txt");
    let version = run(Command::new("python3")
        .args(["-c", "import sys; assert sys.version_info >= (3, 11); print(sys.version)"]))
    .map_err(|why| format!("{why}\ninstall Python 3.11 or newer, so that `python3` is on the PATH"))?;
    let pins = fs::read(&requirements).map_err(|e| format!("cannot read {}: {e}", requirements.display()))?;
    let digest = Sha256::new().chain_update(pins).chain_update(version).finalize();
    let key: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();

    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().ok_or("no target directory")?;
    let home = target.join("python");
    let venv = home.join(&key);
    let (interpreter, stamp) = (venv.join("bin/python"), venv.join("complete"));
    let io = |e: std::io::Error| format!("cannot write to {}: {e}", home.display());
    fs::create_dir_all(&home).map_err(io)?;
    let lock = File::create(home.join(format!("{key}.lock"))).map_err(io)?;
    lock.lock().map_err(io)?;
    if stamp.exists() {
        return Ok(interpreter);
    }
    eprintln!("installing nvflare into {}", venv.display());
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv)).map_err(|why| {
        format!("{why}\ninstall the venv module of Python, for example with `apt install python3-venv`")
    })?;
    let pip =
        ["-m", "pip", "install", "--no-deps", "--no-input", "--quiet", "--disable-pip-version-check", "-r"];
    run(Command::new(&interpreter).args(pip).arg(&requirements))
        .map_err(|why| format!("{why}\npip must reach PyPI or the index that pip is configured for, once"))?;
    run(Command::new(&interpreter).args(["-c", "import nvflare.fuel.utils.pipe.cell_pipe"]))?;
    File::create(&stamp).map_err(io)?;
    Ok(interpreter)
}

/// Runs to the end and gives stdout, or says what failed with the end of stderr.
pub(crate) fn run(command: &mut Command) -> Result<Vec<u8>, String> {
    let output = command.output().map_err(|e| format!("cannot run {command:?}: {e}"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let tail: Vec<&str> = stderr.lines().rev().take(20).collect();
    Err(format!(
        "{command:?} failed ({}):\n{}",
        output.status,
        tail.into_iter().rev().collect::<Vec<_>>().join("\n")
    ))
}

/// Where the scripts are.
pub(crate) fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python")
}

/// The harness and the scripts are sound if the reference understands itself through them.
#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_reference_talks_to_itself() {
        let mut root = Process::python("root_cell", &["--events"]);
        let url = root.ready().await["url"].as_str().unwrap().to_owned();
        for channel in ["echo", "task"] {
            let args = ["--root", &url, "--channel", channel, "--payload", "dict", "--count", "3"];
            let mut site = Process::python("client_cell", &args);
            let result = site.expect("RESULT").await;
            assert_eq!((&result["ok"], &result["bad"]), (&3.into(), &0.into()), "{result}");
            assert!(site.exit().await.success());
            root.event(|event| event["what"] == "request" && event["channel"] == channel).await;
        }
        assert!(root.resident() > 1 << 20);
        assert!(root.stop().await.success());
        assert_eq!(root.expect("RESULT").await["served"], 6);
    }

    #[tokio::test]
    async fn a_frozen_process_answers_when_it_thaws_and_a_killed_one_is_gone() {
        let mut root = Process::python("root_cell", &["--events"]);
        let url = root.ready().await["url"].as_str().unwrap().to_owned();
        root.freeze().await;
        let mut site = Process::python("client_cell", &["--root", &url, "--count", "1"]);
        root.thaw();
        assert_eq!(site.expect("RESULT").await["ok"], 1);
        root.kill();
        assert!(!root.exit().await.success());
    }
}
