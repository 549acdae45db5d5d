//! Words that FLARE knows.

/// Headers of a [`Shareable`](super::Shareable). Source: `apis/shareable.py`, `app_common/app_constant.py`.
pub mod header {
    /// Where the headers are.
    pub(crate) const HEADERS: &str = "__headers__";
    /// What the content is: `DXO`.
    pub const CONTENT_TYPE: &str = "__content_type__";
    /// The return code, one of [`code`](super::code).
    pub const RETURN_CODE: &str = "__rc__";
    /// Why a result is none.
    pub const ERROR: &str = "__error__";
    /// The name of the task.
    pub const TASK_NAME: &str = "__task_name__";
    /// The id of the task.
    pub const TASK_ID: &str = "__task_id__";
    /// What the server wants back with the result.
    pub const COOKIE_JAR: &str = "__cookie_jar__";
    /// Properties of the sender.
    pub const PEER_PROPS: &str = "__peer_props__";
    /// The context of the sender, an [`FlContext`](crate::flare::FlContext).
    pub const PEER_CONTEXT: &str = "__peer_ctx__";
    /// The message that others follow from.
    pub const MSG_ROOT_ID: &str = "__msg_root_id__";
    /// How long what that message refers to is kept, in seconds.
    pub const MSG_ROOT_TTL: &str = "__msg_root_ttl__";
    /// Whether references to arrays are to be passed on.
    pub const PASS_THROUGH: &str = "__pass_through__";
    /// The first round.
    pub const START_ROUND: &str = "start_round";
    /// This round.
    pub const CURRENT_ROUND: &str = "current_round";
    /// How many rounds there are.
    pub const NUM_ROUNDS: &str = "num_rounds";
    /// The job.
    pub const JOB_ID: &str = "job_id";
    /// The site.
    pub const SITE_NAME: &str = "site_name";
    /// Which model is wanted: `best_model`.
    pub const SUBMIT_MODEL_NAME: &str = "submit_model_name";
    /// Why a model is evaluated: before training, or against others.
    pub const VALIDATE_TYPE: &str = "_validate_type";
}

/// Keys of what goes with a model. Source: `apis/fl_constant.py`.
pub mod meta {
    /// How many steps were trained in this round; the weight of the result.
    pub const NUM_STEPS_CURRENT_ROUND: &str = "NUM_STEPS_CURRENT_ROUND";
    /// Metrics of the model before training.
    pub const INITIAL_METRICS: &str = "initial_metrics";
    /// Which filters the data went through.
    pub const FILTER_HISTORY: &str = "filter_history";
    /// Settings for the trainer.
    pub const CONFIGS: &str = "configs";
    /// As the header [`VALIDATE_TYPE`](super::header::VALIDATE_TYPE).
    pub const VALIDATE_TYPE: &str = "validate_type";
    /// The job.
    pub const JOB_ID: &str = "job_id";
    /// The site.
    pub const SITE_NAME: &str = "site_name";
    /// As the header of that name.
    pub const SUBMIT_MODEL_NAME: &str = "submit_model_name";
}

/// Return codes of tasks, which are not those of messages. Source: `apis/fl_constant.py`.
pub mod code {
    /// It worked; also if there is no code.
    pub const OK: &str = "OK";
    /// The task made no sense.
    pub const BAD_TASK_DATA: &str = "BAD_TASK_DATA";
    /// The network failed.
    pub const COMMUNICATION_ERROR: &str = "COMMUNICATION_ERROR";
    /// Something failed.
    pub const ERROR: &str = "ERROR";
    /// The program failed.
    pub const EXECUTION_EXCEPTION: &str = "EXECUTION_EXCEPTION";
    /// The program gave no result.
    pub const EMPTY_RESULT: &str = "EMPTY_RESULT";
    /// The task was ended.
    pub const TASK_ABORTED: &str = "TASK_ABORTED";
    /// Nobody knows such a task.
    pub const TASK_UNKNOWN: &str = "TASK_UNKNOWN";
    /// It took too long.
    pub const TIMEOUT: &str = "TIMEOUT";
}

/// What dicts of their own types are taken apart by.
pub(super) const DICT_DC: &str = "nvflare.fuel.utils.fobs.decomposer.DictDecomposer";
