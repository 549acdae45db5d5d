//! Jobs of the reference, FedAvg over two sites in its simulator, whose trainers are our example `flare_trainer`.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Duration,
};

use serde_json::Value;

use crate::{process::Process, python::run};

/// Runs a job to its end; `trainer` are the arguments of the trainers, `job` those of the script.
async fn run_job(name: &str, trainer: &str, job: &[&str]) -> Value {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("flare-{name}"));
    let command = format!("'{}' {trainer}", built_trainer().display());
    let folder = folder.to_str().expect("the target directory is text");
    let args = [&["--folder", folder, "--trainer", &command], job].concat();
    let mut process = Process::python("flare_job", &args).patient(Duration::from_secs(280));
    process.ready().await;
    let result = process.expect("RESULT").await;
    assert!(process.exit().await.success());
    assert_eq!(result["status"], 0, "{result:#}");
    result
}

/// The example as it is now.
pub(crate) fn built_trainer() -> &'static Path {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match BUILT.get_or_init(build_trainer) {
        Ok(path) => path,
        Err(why) => panic!("the example flare_trainer is needed for this test: {why}"),
    }
}

/// All of the workspace counts for which features are built, as in `cargo test --workspace`, which has built it already.
fn build_trainer() -> Result<PathBuf, String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from(env!("CARGO")));
    let mut command = Command::new(cargo);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    command.args(["build", "--workspace", "--example", "flare_trainer", "--message-format=json"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = run(&mut command)?;
    let lines =
        output.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let mut programs = lines.filter(|line| line["target"]["name"] == "flare_trainer");
    let program = programs.find_map(|line| line["executable"].as_str().map(PathBuf::from));
    program.ok_or_else(|| "cargo did not say where it is".into())
}

/// The lines of a site's trainers with this beginning.
fn said<'a>(result: &'a Value, site: &str, beginning: &str) -> Vec<&'a str> {
    let lines = result["said"][site].as_array().unwrap().iter().filter_map(Value::as_str);
    lines.filter(|line| line.starts_with(beginning)).collect()
}

#[tokio::test]
async fn a_job_adds_exactly_what_its_trainers_add() {
    // The reference's persistor, one process for the job, and an array that is larger than an answer of a download.
    let result = run_job("add", "--add 2.5", &["--model", "numpy_key:float64:700000", "--add", "2.5"]).await;
    let global = &result["model"]["numpy_key"];
    assert_eq!((&global["dtype"], &global["exact"]), (&"float64".into(), &true.into()), "{result:#}");
    for site in ["site-1", "site-2"] {
        assert_eq!(said(&result, site, "trainer of").len(), 1, "{result:#}");
        assert_eq!(said(&result, site, "the job is done").len(), 1, "{result:#}");
    }
}

#[tokio::test]
async fn a_job_with_arrays_of_several_types_starts_a_trainer_for_each_task() {
    let models = [
        ["--model", "large:float64:600x1000"],
        ["--model", "counts:int64:3x400000"],
        ["--model", "small:float32:2x3"],
    ];
    let result =
        run_job("many", "--add 3", &[&models.concat()[..], &["--add", "3", "--launch-each-time"]].concat())
            .await;
    for name in ["large", "counts", "small"] {
        assert_eq!(result["model"][name]["exact"], true, "{result:#}");
    }
    for site in ["site-1", "site-2"] {
        assert_eq!(said(&result, site, "trainer of").len(), 2, "{result:#}");
        // Averages are no integers any more; what the server sends first are.
        assert_eq!(said(&result, site, "round Some(0): counts Array(int64").len(), 1, "{result:#}");
    }
}

#[tokio::test]
async fn a_job_that_trains_gets_better() {
    let models = ["--model", "weights:float64:4", "--model", "bias:float64:1", "--zeros"];
    let result =
        run_job("learn", "", &[&models[..], &["--rounds", "3", "--transfer", "DIFF"]].concat()).await;
    let metrics = result["metrics"].as_array().unwrap();
    for site in ["site-1", "site-2"] {
        let of = |key: &str| {
            let mut found: Vec<_> =
                metrics.iter().filter(|line| line["site"] == site && line["key"] == key).collect();
            found.sort_by_key(|line| line["step"].as_u64());
            found.into_iter().map(|line| line["value"].as_f64().unwrap()).collect::<Vec<_>>()
        };
        let (loss, accuracy) = (of("loss"), of("accuracy"));
        assert_eq!((loss.len(), accuracy.len()), (3, 3), "{result:#}");
        assert!(loss.is_sorted_by(|before, after| before > after), "{loss:?}");
        assert!(accuracy[0] < 0.65 && accuracy[2] > 0.75, "{accuracy:?}");
    }
    assert!(result["model"]["weights"]["values"].as_array().unwrap().iter().all(|weight| *weight != 0.0));
}
