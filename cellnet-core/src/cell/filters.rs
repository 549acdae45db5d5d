//! Functions that see messages pass and may refuse them.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError, RwLock},
};

use super::registry::Registry;
use crate::{
    fqcn::Fqcn,
    message::{Message, MessageKind, ReturnCode},
    wire::{Headers, keys::cn},
};

/// Where a filter sits on the path of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Everything that arrives, messages in transit included. Streams are seen chunk by chunk, on the channel
    /// `sm__STREAM`.
    Incoming,
    /// Requests for this cell, before their handler; streams once, by the channel and topic of the application.
    IncomingRequest,
    /// Replies to requests of this cell.
    IncomingReply,
    /// Requests that this cell makes; streams once, and what a filter sets in the headers goes on every chunk. ACKs
    /// and errors of streams pass on the channel `sm__STREAM`.
    OutgoingRequest,
    /// Replies that this cell makes, except deferred ones.
    OutgoingReply,
}

const STAGES: usize = 5;

/// A message as a filter sees it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Passing<'a> {
    /// The headers; a filter may change them.
    pub headers: &'a mut Headers,
    /// What the message is for; `None` for a kind nobody knows.
    pub kind: Option<MessageKind>,
    /// The neighbour that it came from; `None` for messages that this cell makes.
    pub from: Option<&'a Fqcn>,
}

/// Looks at a message. `Err` refuses it: an incoming request is answered with that message, an outgoing reply is
/// replaced by it, and a request of this cell fails with [`RequestError::Filtered`](super::RequestError::Filtered) and
/// the message's text, be it refused on its way out or its reply on the way in.
pub type Filter = Arc<dyn Fn(&mut Passing<'_>) -> Result<(), Message> + Send + Sync>;

/// The filters of a cell. Unlike in the reference, a more exact registration does not hide a more general one: all
/// that match are asked, the most exact first.
#[derive(Default)]
pub(crate) struct Filters {
    stages: [RwLock<Registry<Vec<Filter>>>; STAGES],
}

impl Filters {
    pub(crate) fn add(&self, stage: Stage, channel: &str, topic: &str, filter: Filter) {
        let mut filters = self.stages[stage as usize].write().unwrap_or_else(PoisonError::into_inner);
        filters.entry(channel, topic).push(filter);
    }

    /// Whether no filter is there.
    pub(crate) fn none(&self, stage: Stage) -> bool {
        self.stages[stage as usize].read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// [`pass`](Self::pass) by the channel and topic in the headers, which nobody reads if there is no filter.
    pub(crate) fn pass_as_addressed(&self, stage: Stage, passing: &mut Passing<'_>) -> Result<(), Message> {
        if self.none(stage) {
            return Ok(());
        }
        let [channel, topic] =
            [cn::CHANNEL, cn::TOPIC].map(|key| passing.headers.shared_text(key).unwrap_or_default());
        self.pass(stage, &channel, &topic, passing)
    }

    /// Asks the filters in turn; the first that refuses ends it.
    pub(crate) fn pass(
        &self,
        stage: Stage,
        channel: &str,
        topic: &str,
        passing: &mut Passing<'_>,
    ) -> Result<(), Message> {
        let filters = self.stages[stage as usize].read().unwrap_or_else(PoisonError::into_inner);
        if filters.is_empty() {
            return Ok(());
        }
        // A filter may register filters, so none is called under the lock.
        let matching: Vec<Filter> = filters.matches(channel, topic).flatten().cloned().collect();
        drop(filters);
        matching.iter().try_for_each(|filter| ask(filter, passing))
    }
}

/// Asks one filter. One that panics refuses.
pub(crate) fn ask(filter: &Filter, passing: &mut Passing<'_>) -> Result<(), Message> {
    catch_unwind(AssertUnwindSafe(|| filter(passing))).unwrap_or_else(|_| {
        tracing::error!("a filter panicked");
        Err(Message::failure(ReturnCode::PROCESS_EXCEPTION, "a filter panicked"))
    })
}

impl std::fmt::Debug for Filters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filters").finish_non_exhaustive()
    }
}
