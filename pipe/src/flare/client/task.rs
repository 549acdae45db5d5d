//! What the job asks of a trainer.

use cellnet_core::{fobs, message::Payload, wire::Limits};

use super::{ClientConfig, TaskError};
use crate::{
    PipeMessage,
    download::Downloads,
    flare::{FlModel, Shareable},
};

/// Something to do with a model. Its answer is the result, by [`FlareClient::send`](super::FlareClient::send).
#[derive(Debug, Clone)]
pub struct Task {
    kind: TaskKind,
    model: FlModel,
    shareable: Shareable,
    /// The message without its content.
    pub(super) reply_to: PipeMessage,
}

/// What kind of task it is, by the names that the job gave them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TaskKind {
    /// Train the model, and give it back.
    Train,
    /// Evaluate the model, and give metrics.
    Evaluate,
    /// Give the best model that this site has.
    SubmitModel,
    /// Whatever its name says.
    Other,
}

impl Task {
    /// Reads a message, and fetches the arrays that it refers to.
    pub(super) async fn read(
        message: &PipeMessage,
        config: &ClientConfig,
        downloads: &Downloads,
    ) -> Result<Self, TaskError> {
        let object = match &message.data {
            Payload::Fobs(payload) => fobs::decode(payload, Limits::PAYLOAD)?.into_object()?,
            other => fobs::Object::Bin(other.to_bytes()),
        };
        let shareable = Shareable::try_from(downloads.resolve(object).await?)?;
        let model = FlModel::from_shareable(&shareable)?;
        let reply_to = PipeMessage { data: Payload::None, ..message.clone() };
        Ok(Self { kind: TaskKind::of(message.topic.as_str(), config), model, shareable, reply_to })
    }

    /// What kind of task it is.
    pub fn kind(&self) -> TaskKind {
        self.kind
    }

    /// Whether the model is to be trained.
    pub fn is_train(&self) -> bool {
        self.kind == TaskKind::Train
    }

    /// Whether the model is to be evaluated.
    pub fn is_evaluate(&self) -> bool {
        self.kind == TaskKind::Evaluate
    }

    /// Whether the best model of this site is wanted.
    pub fn is_submit_model(&self) -> bool {
        self.kind == TaskKind::SubmitModel
    }

    /// The name of the task.
    pub fn name(&self) -> &str {
        self.reply_to.topic.as_str()
    }

    /// The id of the task.
    pub fn id(&self) -> &str {
        &self.reply_to.msg_id
    }

    /// The model that came with the task.
    pub fn model(&self) -> &FlModel {
        &self.model
    }

    /// All that came with the task.
    pub fn shareable(&self) -> &Shareable {
        &self.shareable
    }
}

impl TaskKind {
    fn of(name: &str, config: &ClientConfig) -> Self {
        let task = &config.task;
        let known = [
            (&task.train_task, Self::Train),
            (&task.evaluate_task, Self::Evaluate),
            (&task.submit_model_task, Self::SubmitModel),
        ];
        known.into_iter().find(|(known, _)| *known == name).map_or(Self::Other, |(_, kind)| kind)
    }
}
