//! When to ask an owner again and when to give up. Knows no tasks and no clock.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use bytestring::ByteString;
use cellnet_core::{
    Fqcn,
    cell::RequestError,
    fobs::{Object, Source},
    message::{Message, ReturnCode},
};
use tokio::time::Instant;

use super::{
    PullConfig, PullError,
    wire::{Ask, Told},
};

/// One reference that is being pulled.
#[derive(Debug)]
pub(super) struct Pull {
    source: Source,
    config: PullConfig,
    state: Option<Object>,
    /// When something last moved.
    moved: Instant,
    /// Requests in a row without an answer.
    unanswered: usize,
    pauses: ExponentialBackoff,
}

/// What to do next.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// Use the data, say what state that makes, and ask again.
    Use { state: Object, data: Object },
    /// Ask the same again after a pause.
    Pause(Duration),
    /// Everything is there.
    Done,
}

impl Pull {
    /// Begins at the start, or with a state.
    pub(super) fn new(source: Source, config: PullConfig, state: Option<Object>, now: Instant) -> Self {
        let pauses = pauses(&config);
        Self { source, config, state, moved: now, unanswered: 0, pauses }
    }

    /// The next request, and how long it may take without a byte that moves.
    pub(super) fn ask(&self, now: Instant) -> Result<(Ask, Duration), PullError> {
        let left = self.left(now).ok_or_else(|| self.stalled())?;
        let ask = Ask { ref_id: self.source.ref_id.clone(), state: self.state.clone() };
        Ok((ask, left.min(self.config.request_timeout)))
    }

    /// Bytes of an answer have moved.
    pub(super) fn moved(&mut self, when: Instant) {
        self.moved = self.moved.max(when);
    }

    /// What to do after a request.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        outcome: Result<Message, RequestError>,
    ) -> Result<Next, PullError> {
        let owner = || self.source.owner.clone();
        let reply = match outcome {
            Ok(reply) => reply,
            Err(RequestError::Timeout(_)) => return self.pause(now),
            Err(
                error @ (RequestError::Unreachable(_) | RequestError::LinkLost { .. } | RequestError::NoRoom { .. }),
            ) => return Err(PullError::OwnerGone { owner: owner(), reason: error.to_string() }),
            Err(error) => return Err(error.into()),
        };
        let code = reply.code().unwrap_or(ReturnCode::OK);
        if code == ReturnCode::TIMEOUT {
            return self.pause(now);
        }
        if code != ReturnCode::OK {
            return Err(self.refusal(&code, &reply));
        }
        self.moved(now);
        self.unanswered = 0;
        self.pauses = pauses(&self.config);
        match Told::decode(&reply.payload) {
            Ok(Told::Ok { state, data }) => Ok(Next::Use { state, data }),
            Ok(Told::Eof) => Ok(Next::Done),
            Ok(Told::Error) => {
                Err(PullError::OwnerFailed { owner: owner(), reason: "it gave up".into() })
            }
            Err(error) => Err(corrupt(&self.source.owner, error)),
        }
    }

    /// The state for the next request.
    pub(super) fn go_on(&mut self, state: Object) {
        self.state = Some(state);
    }

    fn pause(&mut self, now: Instant) -> Result<Next, PullError> {
        self.unanswered += 1;
        let Some(left) = self.left(now) else { return Err(self.stalled()) };
        match self.pauses.next() {
            Some(pause) => Ok(Next::Pause(pause.min(left))),
            None => {
                Err(PullError::NoAnswer { owner: self.source.owner.clone(), requests: self.unanswered })
            }
        }
    }

    fn refusal(&self, code: &ReturnCode, reply: &Message) -> PullError {
        let owner = self.source.owner.clone();
        let reason = match reply.error() {
            Some(text) => format!("{code}: {}", clipped(text)),
            None => code.to_string(),
        };
        let is = |codes: &[ReturnCode]| codes.contains(code);
        if is(&[ReturnCode::INVALID_REQUEST]) {
            PullError::Unknown { owner, ref_id: self.source.ref_id.clone() }
        } else if is(&[ReturnCode::AUTHENTICATION_ERROR, ReturnCode::UNAUTHENTICATED]) {
            PullError::Refused { owner, reason }
        } else if is(&[ReturnCode::TARGET_UNREACHABLE, ReturnCode::COMM_ERROR, ReturnCode::INVALID_TARGET]) {
            PullError::OwnerGone { owner, reason }
        } else {
            PullError::OwnerFailed { owner, reason }
        }
    }

    /// Time until the progress deadline, unless it is over.
    fn left(&self, now: Instant) -> Option<Duration> {
        let left = self.config.progress.checked_sub(now.saturating_duration_since(self.moved))?;
        (!left.is_zero()).then_some(left)
    }

    fn stalled(&self) -> PullError {
        PullError::Stalled { owner: self.source.owner.clone(), patience: self.config.progress }
    }
}

/// 2, 4, 8 … s, as the reference waits.
fn pauses(config: &PullConfig) -> ExponentialBackoff {
    let (first, longest) = (Duration::from_secs(2), Duration::from_secs(60));
    let pauses = ExponentialBuilder::new().with_min_delay(first).with_max_delay(longest);
    pauses.with_factor(2.0).with_max_times(config.retries).build()
}

pub(super) fn corrupt(owner: &Fqcn, error: impl Into<super::CorruptError>) -> PullError {
    PullError::Corrupt { owner: owner.clone(), source: error.into() }
}

/// No more of a peer's text than is good for a log.
fn clipped(text: &str) -> ByteString {
    const MAX: usize = 512;
    text[..text.floor_char_boundary(MAX)].into()
}

