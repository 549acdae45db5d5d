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
        let owner = self.source.owner.clone();
        let reply = match outcome {
            Ok(reply) => reply,
            Err(RequestError::Timeout(_)) => return self.pause(now),
            Err(
                error @ (RequestError::Unreachable(_)
                | RequestError::LinkLost { .. }
                | RequestError::NoRoom { .. }),
            ) => return Err(PullError::OwnerGone { owner, reason: error.to_string() }),
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
            Ok(Told::Error) => Err(PullError::OwnerFailed { owner, reason: "it gave up".into() }),
            Err(error) => Err(corrupt(&owner, error)),
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
            None => Err(PullError::NoAnswer { owner: self.source.owner.clone(), requests: self.unanswered }),
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
    PullError::Corrupt { owner: owner.clone(), source: Box::new(error.into()) }
}

/// No more of a peer's text than is good for a log.
fn clipped(text: &str) -> ByteString {
    const MAX: usize = 512;
    text[..text.floor_char_boundary(MAX)].into()
}

#[cfg(test)]
mod tests {
    use cellnet_core::message::Payload;

    use super::*;
    use crate::download::wire::file_state;

    fn pull(now: Instant) -> Pull {
        Pull::new(Source::new(Fqcn::server(), "R1"), PullConfig::default(), None, now)
    }

    fn lost() -> Result<Message, RequestError> {
        Err(RequestError::Timeout(Duration::from_secs(1)))
    }

    fn seconds(seconds: u64) -> Next {
        Next::Pause(Duration::from_secs(seconds))
    }

    fn data() -> Result<Message, RequestError> {
        let told = Told::Ok { state: file_state(1), data: Object::Bin("x".into()) };
        Ok(Message::new(told.encode()).with_code(ReturnCode::OK))
    }

    #[test]
    fn only_timeouts_are_repeated_three_times_in_a_row() {
        let now = Instant::now();
        let mut pull = pull(now);
        let timeout = Ok(Message::failure(ReturnCode::TIMEOUT, ""));
        assert_eq!(pull.answered(now, lost()).unwrap(), seconds(2));
        assert_eq!(pull.answered(now, timeout).unwrap(), seconds(4));
        assert!(matches!(pull.answered(now, data()), Ok(Next::Use { .. })));
        for pause in [2, 4, 8] {
            assert_eq!(pull.answered(now, lost()).unwrap(), seconds(pause));
        }
        assert!(matches!(pull.answered(now, lost()), Err(PullError::NoAnswer { requests: 4, .. })));
    }

    #[test]
    fn the_progress_deadline_counts_from_the_last_byte() {
        let began = Instant::now();
        let mut pull = pull(began);
        pull.config.retries = 1000;
        let at = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(pull.ask(at(0)).unwrap().1, Duration::from_secs(600));
        assert_eq!(pull.ask(at(1700)).unwrap().1, Duration::from_secs(100));
        pull.moved(at(1700));
        assert!(matches!(pull.answered(at(3499), lost()), Ok(Next::Pause(pause)) if pause.as_secs() == 1));
        assert!(matches!(pull.answered(at(3500), lost()), Err(PullError::Stalled { .. })));
        assert!(matches!(pull.ask(at(3500)), Err(PullError::Stalled { .. })));
    }

    #[test]
    fn the_state_is_sent_back() {
        let now = Instant::now();
        let mut pull = pull(now);
        assert_eq!(pull.ask(now).unwrap().0.state, None);
        pull.go_on(file_state(7));
        assert_eq!(pull.ask(now).unwrap().0.state, Some(file_state(7)));
    }

    #[test]
    fn every_failure_has_its_own_error() {
        let now = Instant::now();
        let fails = |reply| pull(now).answered(now, Ok(reply)).unwrap_err();
        let code = |code| fails(Message::failure(code, "why"));
        assert!(matches!(code(ReturnCode::INVALID_REQUEST), PullError::Unknown { .. }));
        assert!(matches!(code(ReturnCode::AUTHENTICATION_ERROR), PullError::Refused { .. }));
        assert!(matches!(code(ReturnCode::TARGET_UNREACHABLE), PullError::OwnerGone { .. }));
        assert!(matches!(code(ReturnCode::PROCESS_EXCEPTION), PullError::OwnerFailed { .. }));
        assert!(matches!(fails(Message::new(Told::Error.encode())), PullError::OwnerFailed { .. }));
        assert!(matches!(fails(Message::new(Payload::None)), PullError::Corrupt { .. }));
        let gone = pull(now).answered(now, Err(RequestError::Unreachable(Fqcn::server())));
        assert!(matches!(gone, Err(PullError::OwnerGone { .. })));
        let stopping = pull(now).answered(now, Err(RequestError::ShuttingDown));
        assert!(matches!(stopping, Err(PullError::Request(_))));
        assert!(matches!(pull(now).answered(now, Ok(Message::new(Told::Eof.encode()))), Ok(Next::Done)));
    }
}
