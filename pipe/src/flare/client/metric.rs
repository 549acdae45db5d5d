//! What a trainer reports besides its results.

use bytestring::ByteString;
use cellnet_core::fobs::{self, Document, Object, Opaque};
use cellnet_core::message::Payload;

/// A value that the job follows over its rounds: a loss, an accuracy, a note.
///
/// ```
/// # use cellnet_pipe::flare::client::{Metric, Tracker};
/// let loss = Metric::scalar("loss", 0.25).at_step(3);
/// let all = Metric::scalars("quality", [("loss", 0.25), ("accuracy", 0.9)]).for_tracker(Tracker::MlFlow);
/// # assert_ne!(loss, all);
/// ```
///
/// Source: `apis/analytix.py`, `apis/utils/analytix_utils.py`.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    key: ByteString,
    value: Object,
    kind: MetricKind,
    tracker: Tracker,
    step: Option<i64>,
    path: Option<ByteString>,
    more: Vec<(ByteString, Object)>,
}

/// What a metric is to who follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names of the reference say it")]
pub enum MetricKind {
    Scalar,
    Scalars,
    Image,
    Text,
    LogRecord,
    Parameter,
    Parameters,
    Metric,
    Metrics,
    Model,
    Tag,
    Tags,
    InitData,
}

/// Whose way of tracking the metric follows. A receiver converts it to its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Tracker {
    /// TensorBoard: scalars and groups of them.
    #[default]
    TensorBoard,
    /// MLflow: metrics and parameters.
    MlFlow,
    /// Weights & Biases: metrics.
    WeightsAndBiases,
}

impl Metric {
    /// One number.
    pub fn scalar(key: impl Into<ByteString>, value: f64) -> Self {
        Self::new(key, MetricKind::Scalar, Object::F64(value))
    }

    /// Several numbers that belong together.
    pub fn scalars<K: Into<ByteString>>(
        key: impl Into<ByteString>,
        values: impl IntoIterator<Item = (K, f64)>,
    ) -> Self {
        let pairs = values.into_iter().map(|(name, value)| (Object::Str(name.into()), Object::F64(value)));
        Self::new(key, MetricKind::Scalars, Object::Map(pairs.collect()))
    }

    /// A text.
    pub fn text(key: impl Into<ByteString>, text: impl Into<ByteString>) -> Self {
        Self::new(key, MetricKind::Text, Object::Str(text.into()))
    }

    /// Anything. Receivers of the reference drop a value that does not fit its kind.
    pub fn new(key: impl Into<ByteString>, kind: MetricKind, value: Object) -> Self {
        Self {
            key: key.into(),
            value,
            kind,
            tracker: Tracker::default(),
            step: None,
            path: None,
            more: Vec::new(),
        }
    }

    /// Says when it was so: a round, an epoch, a batch. Not negative.
    #[must_use]
    pub fn at_step(mut self, step: u32) -> Self {
        self.step = Some(step.into());
        self
    }

    /// Says in which file an artefact is to be kept.
    #[must_use]
    pub fn at_path(mut self, path: impl Into<ByteString>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Says whose way of tracking it follows; TensorBoard's without.
    #[must_use]
    pub fn for_tracker(mut self, tracker: Tracker) -> Self {
        self.tracker = tracker;
        self
    }

    /// Adds something for the receiver.
    #[must_use]
    pub fn with(mut self, key: impl Into<ByteString>, value: impl Into<Object>) -> Self {
        self.more.push((key.into(), value.into()));
        self
    }

    /// What it is about.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The value.
    pub fn value(&self) -> &Object {
        &self.value
    }

    /// The metric as it travels: a DXO of the kind `ANALYTIC`.
    pub fn to_object(&self) -> Object {
        let text = |text: &'static str| Object::text(text);
        let mut data = vec![(text(KEY), Object::Str(self.key.clone())), (text(VALUE), self.value.clone())];
        let mut more = Vec::new();
        for (key, value) in [(STEP, self.step.map(Object::Int)), (PATH, self.path.clone().map(Object::Str))] {
            if let Some(value) = value {
                data.push((text(key), value.clone()));
                more.push((text(key), value));
            }
        }
        more.extend(self.more.iter().map(|(key, value)| (Object::Str(key.clone()), value.clone())));
        if !more.is_empty() {
            data.push((text(MORE), Object::Map(more)));
        }
        let meta = vec![
            (text(KIND), Object::enum_member(KINDS, self.kind.as_str())),
            (text(TRACKER), Object::enum_member(TRACKERS, self.tracker.as_str())),
        ];
        let parts = vec![Object::enum_member(DATA_KIND, "ANALYTIC"), Object::Map(meta), Object::Map(data)];
        Object::Opaque(Opaque::new(DXO, Object::Tuple(parts), DXO_DECOMPOSER))
    }

    pub(super) fn payload(&self) -> Payload {
        Payload::Fobs(fobs::encode(&Document::new(self.to_object())))
    }
}

impl MetricKind {
    /// The kind as the reference names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scalar => "SCALAR",
            Self::Scalars => "SCALARS",
            Self::Image => "IMAGE",
            Self::Text => "TEXT",
            Self::LogRecord => "LOG_RECORD",
            Self::Parameter => "PARAMETER",
            Self::Parameters => "PARAMETERS",
            Self::Metric => "METRIC",
            Self::Metrics => "METRICS",
            Self::Model => "MODEL",
            Self::Tag => "TAG",
            Self::Tags => "TAGS",
            Self::InitData => "INIT_DATA",
        }
    }
}

impl Tracker {
    /// The member of the reference's enum.
    fn as_str(self) -> &'static str {
        match self {
            Self::TensorBoard => "TORCH_TB",
            Self::MlFlow => "MLFLOW",
            Self::WeightsAndBiases => "WANDB",
        }
    }
}

const KEY: &str = "track_key";
const VALUE: &str = "track_value";
const STEP: &str = "global_step";
const PATH: &str = "path";
const MORE: &str = "analytics_kwargs";
const KIND: &str = "analytics_data_type";
const TRACKER: &str = "tracker_key";
const KINDS: &str = "nvflare.apis.analytix.AnalyticsDataType";
const TRACKERS: &str = "nvflare.apis.analytix.LogWriterName";
const DATA_KIND: &str = "nvflare.apis.dxo.DataKind";
const DXO: &str = "nvflare.apis.dxo.DXO";
const DXO_DECOMPOSER: &str = "nvflare.apis.utils.decomposers.flare_decomposers.DXODecomposer";

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// What the reference's client sends for the same calls.
    #[test]
    fn metrics_are_those_of_the_reference() {
        let observed: Value =
            serde_json::from_str(include_str!("../../../tests/data/flare_metrics.json")).unwrap();
        let cases = [
            ("scalar", Metric::scalar("loss", 0.5).at_step(3)),
            ("scalars", Metric::scalars("pair", [("a", 1.0), ("b", 2.0)]).at_step(0)),
            ("text", Metric::text("note", "x").at_path("d/f.txt").for_tracker(Tracker::MlFlow)),
            (
                "without_step",
                Metric::new("acc", MetricKind::Metric, 1_i64.into())
                    .for_tracker(Tracker::WeightsAndBiases)
                    .with("global_step", Object::Nil),
            ),
        ];
        assert_eq!(observed.as_object().unwrap().len(), cases.len());
        for (name, metric) in cases {
            let sent = metric.payload();
            let hex: String = sent.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(observed[name], hex, "{name}");
        }
    }
}
