//! What FLARE tells a trainer before it starts it: `config/client_api_config.json`.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::properties::CellProperties;
use crate::{CELL_PIPE_CLASS, Credentials, Mode, PipeArgs};

/// Where FLARE puts the file, seen from the folder in which it starts a trainer.
pub const CONFIG_FILE: &str = "config/client_api_config.json";

/// The file by which FLARE tells a trainer about the job, the site and the pipes. Keys that are not known here are kept
/// in [`raw`](Self::raw) and have no effect.
///
/// Source: `client/config.py`, `app_common/executors/client_api_launcher_executor.py`,
/// `app_common/utils/export_utils.py`.
#[derive(Clone)]
#[non_exhaustive]
pub struct ClientConfig {
    /// The name of the site.
    pub site: String,
    /// The id of the job.
    pub job_id: String,
    /// What the site shows to cells that check who sends.
    pub credentials: Credentials,
    /// The cells that a process of the site may attach to; in the simulator there are none, and the URL of a pipe is that
    /// of the server.
    pub cells: CellProperties,
    /// How tasks come and results go.
    pub task: TaskExchange,
    /// How metrics go, if the job takes any.
    pub metrics: Option<MetricsExchange>,
    raw: Map<String, Value>,
}

/// The pipe of tasks, and what the job expects of a trainer.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TaskExchange {
    /// The trainer's side of the pipe.
    pub pipe: PipeArgs,
    /// The name of the pipe; `task` by default.
    pub channel: String,
    /// What arrays are to the trainer.
    pub exchange_format: ExchangeFormat,
    /// Whether results are whole models or differences.
    pub transfer_type: TransferType,
    /// Whether the job wants metrics with every trained model.
    pub train_with_evaluation: bool,
    /// The name of the task that trains; `train` by default.
    pub train_task: String,
    /// The name of the task that evaluates; `validate` by default.
    pub evaluate_task: String,
    /// The name of the task that asks for the best local model; `submit_model` by default.
    pub submit_model_task: String,
    /// How long the job may be silent; `None` for ever. 60 s by default.
    pub heartbeat_timeout: Option<Duration>,
    /// How long a try to hand over a result may take, without progress. 300 s by default.
    pub submit_timeout: Duration,
    /// How often a result is sent again; `None` for no limit. 3 by default.
    pub max_resends: Option<u32>,
    /// How long the arrays of a result wait to be fetched, since somebody fetched last. 1,800 s by default. Zero: nobody is
    /// waited for, and they stay for [`submit_timeout`](Self::submit_timeout).
    pub download_timeout: Duration,
    /// Whether the trainer lives as long as the job. If not, it handles one task.
    pub launch_once: bool,
}

/// The pipe of metrics.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MetricsExchange {
    /// The trainer's side of the pipe.
    pub pipe: PipeArgs,
    /// The name of the pipe; `metric` by default.
    pub channel: String,
    /// How long the job may be silent; `None` for ever. 60 s by default.
    pub heartbeat_timeout: Option<Duration>,
}

/// What arrays of a model are to the trainer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExchangeFormat {
    /// Arrays of numpy, by name.
    Numpy,
    /// Whatever the server sends.
    Raw,
}

/// What the parameters of a result are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransferType {
    /// The whole model.
    Full,
    /// What has to be added to the model that came with the task.
    Diff,
}

impl ClientConfig {
    /// Reads [`CONFIG_FILE`] below the current folder, which is where FLARE starts a trainer.
    ///
    /// # Errors
    ///
    /// If the file is not there, or is not what FLARE writes for a trainer with pipes through cells.
    pub fn load() -> Result<Self, ConfigError> {
        Self::from_file(CONFIG_FILE)
    }

    /// Reads a file.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let failed = |source| ConfigError::Read { path: path.to_owned(), source };
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text))
            .map_err(failed)?;
        if text.len() as u64 > MAX_FILE {
            return Err(failed(io::Error::other(format!("larger than {MAX_FILE} bytes"))));
        }
        Self::from_json(&text)
    }

    /// Reads what stands in the file.
    ///
    /// # Errors
    ///
    /// If it is not what FLARE writes.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        let raw: Map<String, Value> = serde_json::from_str(text).map_err(ConfigError::Json)?;
        let top: Top = serde_json::from_value(Value::Object(raw.clone())).map_err(ConfigError::Json)?;
        let task = top.task_exchange.ok_or(ConfigError::NoTaskPipe)?;
        let metrics = top.metrics_exchange.map(|metrics| metrics.check("METRICS_EXCHANGE")).transpose()?;
        let cells = CellProperties::new(top.root_conn_props, top.cp_conn_props, top.relay_conn_props)?;
        let common = metrics.as_ref().map(|metrics| metrics.heartbeat_timeout);
        let na = || "NA".to_owned();
        Ok(Self {
            site: top.site_name.ok_or(ConfigError::Missing("site_name"))?,
            job_id: top.job_id.unwrap_or_default(),
            credentials: Credentials {
                token: top.auth_token.unwrap_or_else(na),
                signature: top.auth_token_signature.unwrap_or_else(na),
            },
            cells,
            task: task.check(common)?,
            metrics,
            raw,
        })
    }

    /// Everything that stands in the file.
    pub fn raw(&self) -> &Map<String, Value> {
        &self.raw
    }

    /// Whether a pipe asks for a secured connection.
    pub fn is_secure(&self) -> bool {
        let metrics = self.metrics.as_ref().is_some_and(|metrics| metrics.pipe.secure_mode);
        self.task.pipe.secure_mode || metrics
    }

    /// The folder with `rootCA.pem`: the start-up kit of the site. `None` if it is not where FLARE keeps it.
    pub fn kit(&self) -> Option<PathBuf> {
        let workspace = Path::new(&self.task.pipe.workspace_dir);
        let places = [workspace.join("startup"), workspace.to_owned()];
        places.into_iter().find(|dir| dir.join("rootCA.pem").is_file())
    }
}

/// Without [`ClientConfig::raw`], which has secrets in it.
impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig")
            .field("site", &self.site)
            .field("job_id", &self.job_id)
            .field("cells", &self.cells)
            .field("task", &self.task)
            .field("metrics", &self.metrics)
            .finish_non_exhaustive()
    }
}

/// Why there is no usable configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file is not there, or cannot be read.
    #[error("cannot read '{}'", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The content is not JSON, or a value is of the wrong kind.
    #[error("not a configuration of a FLARE client")]
    Json(#[source] serde_json::Error),
    /// A value that must be there.
    #[error("'{0}' is missing")]
    Missing(&'static str),
    /// Only metrics could be exchanged.
    #[error("'TASK_EXCHANGE' is missing; the job gives this process no tasks")]
    NoTaskPipe,
    /// A pipe through files, or of somebody's own.
    #[error("the pipe of '{section}' is a '{class}'; only '{CELL_PIPE_CLASS}' is spoken here")]
    PipeClass {
        /// Part of the file.
        section: &'static str,
        /// What it names.
        class: String,
    },
    /// The trainer would be the side that starts the other.
    #[error("the pipe of '{section}' has the mode '{mode}'; a trainer is the active side")]
    PipeMode {
        /// Part of the file.
        section: &'static str,
        /// What it names.
        mode: String,
    },
    /// A time that is none.
    #[error("'{key}' is {value}; give a number of seconds, not negative")]
    Seconds {
        /// The value's name.
        key: &'static str,
        /// What stands there.
        value: f64,
    },
    /// Arrays of a framework that is not spoken.
    #[error("'exchange_format' is '{0}'; numpy and raw are spoken")]
    ExchangeFormat(String),
    /// Neither the whole model nor differences.
    #[error("'transfer_type' is '{0}'; FULL and DIFF are known")]
    TransferType(String),
    /// What the file says about the cells to attach to.
    #[error("'{key}' names no cell")]
    Cell {
        /// The value's name.
        key: &'static str,
        /// Why.
        source: crate::PlaceError,
    },
    /// A connection is secured in a way that is not known.
    #[error("'{key}' names no security")]
    Security {
        /// The value's name.
        key: &'static str,
        /// Why.
        source: crate::ConnectionSecurityError,
    },
}

/// The file as it stands.
#[derive(Deserialize)]
struct Top {
    site_name: Option<String>,
    job_id: Option<String>,
    auth_token: Option<String>,
    auth_token_signature: Option<String>,
    root_conn_props: Option<super::properties::Raw>,
    cp_conn_props: Option<super::properties::Raw>,
    relay_conn_props: Option<super::properties::Raw>,
    #[serde(rename = "TASK_EXCHANGE")]
    task_exchange: Option<RawTask>,
    #[serde(rename = "METRICS_EXCHANGE")]
    metrics_exchange: Option<RawMetrics>,
}

#[derive(Deserialize)]
struct RawPipe {
    #[serde(rename = "CLASS_NAME")]
    class: String,
    #[serde(rename = "ARG")]
    args: Value,
}

#[derive(Deserialize)]
struct RawTask {
    pipe: RawPipe,
    pipe_channel_name: Option<String>,
    exchange_format: Option<String>,
    transfer_type: Option<String>,
    train_with_eval: Option<bool>,
    train_task_name: Option<String>,
    eval_task_name: Option<String>,
    submit_model_task_name: Option<String>,
    /// Missing and null differ.
    #[serde(rename = "HEARTBEAT_TIMEOUT", default, deserialize_with = "given")]
    heartbeat_timeout: Option<Option<f64>>,
    submit_result_timeout: Option<f64>,
    #[serde(default, deserialize_with = "given")]
    max_resends: Option<Option<i64>>,
    download_complete_timeout: Option<f64>,
    launch_once: Option<bool>,
}

#[derive(Deserialize)]
struct RawMetrics {
    pipe: RawPipe,
    pipe_channel_name: Option<String>,
    #[serde(rename = "HEARTBEAT_TIMEOUT", default, deserialize_with = "given")]
    heartbeat_timeout: Option<Option<f64>>,
}

/// A value that is there, null or not.
fn given<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

impl RawPipe {
    fn check(self, section: &'static str) -> Result<PipeArgs, ConfigError> {
        if self.class != CELL_PIPE_CLASS {
            return Err(ConfigError::PipeClass { section, class: self.class });
        }
        let args: PipeArgs = serde_json::from_value(self.args).map_err(ConfigError::Json)?;
        match args.mode.parse() {
            Ok(Mode::Active) => Ok(args),
            _ => Err(ConfigError::PipeMode { section, mode: args.mode }),
        }
    }
}

impl RawTask {
    /// A silence that only the pipe of metrics names counts for tasks, too, as in the reference.
    fn check(self, metrics_silence: Option<Option<Duration>>) -> Result<TaskExchange, ConfigError> {
        let name = |given: Option<String>, usual: &str| given.unwrap_or_else(|| usual.to_owned());
        let heartbeat_timeout = match self.heartbeat_timeout {
            Some(given) => silence(given)?,
            None => metrics_silence.unwrap_or(Some(SILENCE)),
        };
        Ok(TaskExchange {
            pipe: self.pipe.check("TASK_EXCHANGE")?,
            channel: name(self.pipe_channel_name, "task"),
            exchange_format: match self.exchange_format.as_deref() {
                Some("numpy") => ExchangeFormat::Numpy,
                Some("raw" | "") | None => ExchangeFormat::Raw,
                Some(other) => return Err(ConfigError::ExchangeFormat(other.into())),
            },
            transfer_type: match self.transfer_type.as_deref() {
                Some("FULL") | None => TransferType::Full,
                Some("DIFF") => TransferType::Diff,
                Some(other) => return Err(ConfigError::TransferType(other.into())),
            },
            train_with_evaluation: self.train_with_eval.unwrap_or(false),
            train_task: name(self.train_task_name, "train"),
            evaluate_task: name(self.eval_task_name, "validate"),
            submit_model_task: name(self.submit_model_task_name, "submit_model"),
            heartbeat_timeout,
            submit_timeout: seconds("submit_result_timeout", self.submit_result_timeout.unwrap_or(300.0))?,
            max_resends: match self.max_resends {
                None => Some(3),
                Some(None) => None,
                Some(Some(given)) => Some(u32::try_from(given.max(0)).unwrap_or(u32::MAX)),
            },
            download_timeout: seconds(
                "download_complete_timeout",
                self.download_complete_timeout.unwrap_or(1800.0),
            )?,
            launch_once: self.launch_once.unwrap_or(false),
        })
    }
}

impl RawMetrics {
    fn check(self, section: &'static str) -> Result<MetricsExchange, ConfigError> {
        Ok(MetricsExchange {
            pipe: self.pipe.check(section)?,
            channel: self.pipe_channel_name.unwrap_or_else(|| "metric".to_owned()),
            heartbeat_timeout: self.heartbeat_timeout.map_or(Ok(Some(SILENCE)), silence)?,
        })
    }
}

/// Nothing and 0 are for ever.
fn silence(given: Option<f64>) -> Result<Option<Duration>, ConfigError> {
    let found = seconds("HEARTBEAT_TIMEOUT", given.unwrap_or(0.0))?;
    Ok(Some(found).filter(|found| !found.is_zero()))
}

fn seconds(key: &'static str, value: f64) -> Result<Duration, ConfigError> {
    let found = Duration::try_from_secs_f64(value.min(LONGEST));
    found.map_err(|_| ConfigError::Seconds { key, value })
}

const SILENCE: Duration = Duration::from_secs(60);
/// Longer than any job, and short enough for clocks.
const LONGEST: f64 = 365.0 * 86_400.0;
/// FLARE writes 2 KiB.
const MAX_FILE: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// What FLARE 2.8.3 writes in its simulator.
    const SIMULATOR: &str = include_str!("../../../tests/data/client_api_config.json");

    fn changed(pointer: &str, value: Value) -> Result<ClientConfig, ConfigError> {
        let mut json: Value = serde_json::from_str(SIMULATOR).unwrap();
        *json.pointer_mut(pointer).unwrap() = value;
        ClientConfig::from_json(&json.to_string())
    }

    #[test]
    fn the_file_of_the_simulator_is_read() {
        let config = ClientConfig::from_json(SIMULATOR).unwrap();
        assert_eq!((&*config.site, &*config.job_id), ("site-1", "simulate_job"));
        assert_eq!(config.credentials.token, "00000000-0000-0000-0000-000000000001");
        assert_eq!(config.credentials.signature, "NA");
        let task = &config.task;
        assert_eq!((&*task.channel, &*task.pipe.token), ("task", "simulate_job"));
        assert_eq!(task.exchange_format, ExchangeFormat::Numpy);
        assert_eq!(task.transfer_type, TransferType::Full);
        assert_eq!(task.heartbeat_timeout, Some(Duration::from_secs(30)));
        assert_eq!(task.download_timeout, Duration::from_secs(1800));
        assert_eq!((task.max_resends, task.launch_once), (Some(3), true));
        let metrics = config.metrics.as_ref().unwrap();
        assert_eq!((&*metrics.channel, metrics.heartbeat_timeout), ("metric", Some(SILENCE)));
        assert!(!config.is_secure());
        assert_eq!(config.kit(), None);
        assert_eq!(config.raw()["TASK_EXCHANGE"]["cuda_empty_cache"], false);
    }

    #[test]
    fn secrets_are_not_shown() {
        let config = ClientConfig::from_json(SIMULATOR).unwrap();
        assert!(!format!("{config:?}").contains(&config.credentials.token));
    }

    #[test]
    fn what_is_not_said_is_as_in_the_reference() {
        let mut json: Value = serde_json::from_str(SIMULATOR).unwrap();
        let task = json["TASK_EXCHANGE"].as_object_mut().unwrap();
        task.retain(|key, _| key == "pipe");
        let read = |json: &Value| ClientConfig::from_json(&json.to_string()).unwrap().task;
        let found = read(&json);
        assert_eq!((&*found.channel, found.launch_once, found.max_resends), ("task", false, Some(3)));
        assert_eq!(found.submit_timeout, Duration::from_secs(300));
        assert_eq!(found.heartbeat_timeout, Some(SILENCE));
        json["METRICS_EXCHANGE"]["HEARTBEAT_TIMEOUT"] = 7.5.into();
        assert_eq!(read(&json).heartbeat_timeout, Some(Duration::from_millis(7500)));
    }

    #[test]
    fn null_and_zero_are_no_limit() {
        for never in [Value::Null, 0.into()] {
            let config = changed("/TASK_EXCHANGE/HEARTBEAT_TIMEOUT", never).unwrap();
            assert_eq!(config.task.heartbeat_timeout, None);
        }
        assert_eq!(changed("/TASK_EXCHANGE/max_resends", Value::Null).unwrap().task.max_resends, None);
        assert_eq!(changed("/TASK_EXCHANGE/max_resends", (-1).into()).unwrap().task.max_resends, Some(0));
    }

    #[test]
    fn a_wait_for_fetches_may_be_none() {
        let config = changed("/TASK_EXCHANGE/download_complete_timeout", 0.into()).unwrap();
        assert_eq!(config.task.download_timeout, Duration::ZERO);
    }

    #[test]
    fn what_is_not_spoken_is_named() {
        let class = changed("/TASK_EXCHANGE/pipe/CLASS_NAME", "x.FilePipe".into()).unwrap_err();
        assert!(class.to_string().contains("x.FilePipe"), "{class}");
        let mode = changed("/METRICS_EXCHANGE/pipe/ARG/mode", "PASSIVE".into()).unwrap_err();
        assert!(matches!(mode, ConfigError::PipeMode { section: "METRICS_EXCHANGE", .. }), "{mode}");
        let format = changed("/TASK_EXCHANGE/exchange_format", "pytorch".into()).unwrap_err();
        assert!(matches!(format, ConfigError::ExchangeFormat(_)), "{format}");
        let transfer = changed("/TASK_EXCHANGE/transfer_type", "HALF".into()).unwrap_err();
        assert!(matches!(transfer, ConfigError::TransferType(_)), "{transfer}");
        let time = changed("/TASK_EXCHANGE/submit_result_timeout", (-1).into()).unwrap_err();
        assert!(matches!(time, ConfigError::Seconds { .. }), "{time}");
        let site = changed("/site_name", Value::Null).unwrap_err();
        assert!(matches!(site, ConfigError::Missing("site_name")), "{site}");
        assert!(matches!(ClientConfig::from_json("[]"), Err(ConfigError::Json(_))));
        assert!(matches!(ClientConfig::from_file("no/such/file"), Err(ConfigError::Read { .. })));
    }
}
