//! How a command ends.

use std::{error::Error, fmt, io, process::ExitCode};

use cellnet::{
    RequestError, ReturnCode, StartError,
    transfer::{Reason, TransferError},
    transport::TransportError,
};
use serde::Serialize;

/// The exit status of the program; scripts rely on the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Failed = 1,
    Usage = 2,
    Config = 3,
    Unreachable = 4,
    NotAuthorised = 5,
    Timeout = 6,
    PeerGone = 7,
    Limit = 8,
    Integrity = 9,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status as u8)
    }
}

impl Status {
    /// The status that a reply's return code means; `None` for success. A reply without one succeeded.
    pub(crate) fn of_reply(code: Option<&ReturnCode>) -> Option<Self> {
        code.and_then(Self::of_code)
    }

    /// The status for a transfer that failed.
    pub(crate) fn of_transfer(error: &TransferError) -> Self {
        match error.reason() {
            Reason::DiskFull | Reason::Quota | Reason::TooMany | Reason::Busy | Reason::NoInbox => {
                Self::Limit
            }
            Reason::PermissionDenied | Reason::OutsideInbox | Reason::Stranger => Self::NotAuthorised,
            Reason::Corrupt | Reason::SizeMismatch | Reason::SourceChanged => Self::Integrity,
            Reason::Stalled => Self::Timeout,
            Reason::Cancelled | Reason::ShuttingDown if matches!(error, TransferError::Peer { .. }) => {
                Self::PeerGone
            }
            _ => Self::Failed,
        }
    }

    fn of_code(code: &ReturnCode) -> Option<Self> {
        let is = |codes: &[ReturnCode]| codes.contains(code);
        Some(match code {
            code if *code == ReturnCode::OK => return None,
            code if *code == ReturnCode::TIMEOUT => Self::Timeout,
            _ if is(&[ReturnCode::TARGET_UNREACHABLE, ReturnCode::COMM_ERROR]) => Self::Unreachable,
            _ if is(&[ReturnCode::UNAUTHENTICATED, ReturnCode::AUTHENTICATION_ERROR]) => Self::NotAuthorised,
            _ if is(&[ReturnCode::MSG_TOO_BIG, ReturnCode::SERVICE_UNAVAILABLE]) => Self::Limit,
            _ => Self::Failed,
        })
    }
}

/// Why a command failed, as one sentence for people and a status for scripts.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: Status,
    /// What the network said, if it did.
    pub(crate) code: Option<ReturnCode>,
    text: String,
}

impl Failure {
    pub(crate) fn new(status: Status, text: impl Into<String>) -> Self {
        Self { status, code: None, text: text.into() }
    }

    pub(crate) fn with_code(mut self, code: ReturnCode) -> Self {
        self.code = Some(code);
        self
    }

    /// What the network said, or the code that says nothing else.
    pub(crate) fn return_code(&self) -> ReturnCode {
        self.code.clone().unwrap_or(ReturnCode::PROCESS_EXCEPTION)
    }

    /// The object that `--json` prints if the command printed none of its own.
    pub(crate) fn report(&self) -> impl Serialize {
        let code = self.code.as_ref().map(ReturnCode::as_str);
        serde_json::json!({ "return_code": code, "error": self.text })
    }

    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::new(Status::Usage, text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Failure {}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        let advice = match &error {
            RequestError::Unreachable(_) => "; check its name, and that it is connected",
            RequestError::Timeout(_) => "; check that it answers, or give more --timeout",
            _ => "",
        };
        let status = Status::of_code(&error.code()).unwrap_or(Status::Failed);
        Self::new(status, format!("{}{advice}", chain(&error))).with_code(error.code())
    }
}

impl From<TransferError> for Failure {
    fn from(error: TransferError) -> Self {
        Self::new(Status::of_transfer(&error), chain(&error)).with_code(error.reason().code())
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let (StartError::Listen { url, source } | StartError::Dial { url, source }) = &error else {
            return Self::new(Status::Failed, chain(&error));
        };
        match source {
            TransportError::Io { source, .. } if source.kind() == io::ErrorKind::AddrInUse => Self::new(
                Status::Failed,
                format!(
                    "cannot listen on '{url}': the port is in use; choose another, or 0 for any free one"
                ),
            ),
            #[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
            TransportError::Tls { .. } => Self::new(Status::Config, chain(&error)),
            TransportError::UnknownScheme { .. } | TransportError::Url { .. } => Self::usage(chain(source)),
            _ => Self::new(Status::Failed, chain(&error)),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(Status::Failed, format!("cannot write to standard output: {error}"))
    }
}

/// An error and its causes on one line, none twice.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        if !text.contains(&next_text) {
            text = format!("{text}: {next_text}");
        }
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn return_codes_map_to_the_documented_statuses() {
        let table = [
            ("ok", None),
            ("timeout", Some(Status::Timeout)),
            ("target_unreachable", Some(Status::Unreachable)),
            ("comm_error", Some(Status::Unreachable)),
            ("unauthenticated", Some(Status::NotAuthorised)),
            ("authentication_error", Some(Status::NotAuthorised)),
            ("msg_too_big", Some(Status::Limit)),
            ("service_unavailable", Some(Status::Limit)),
            ("process_exception", Some(Status::Failed)),
            ("of_its_own", Some(Status::Failed)),
        ];
        for (code, status) in table {
            assert_eq!(Status::of_reply(Some(&code.into())), status, "{code}");
        }
        assert_eq!(Status::of_reply(None), None);
    }

    #[test]
    fn failed_transfers_map_by_their_reason() {
        let status = |reason| Status::of_transfer(&TransferError::here(reason, "x"));
        for (reason, expected) in [
            (Reason::DiskFull, Status::Limit),
            (Reason::Quota, Status::Limit),
            (Reason::PermissionDenied, Status::NotAuthorised),
            (Reason::Stranger, Status::NotAuthorised),
            (Reason::OutsideInbox, Status::NotAuthorised),
            (Reason::Corrupt, Status::Integrity),
            (Reason::SizeMismatch, Status::Integrity),
            (Reason::SourceChanged, Status::Integrity),
            (Reason::Stalled, Status::Timeout),
            (Reason::Exists, Status::Failed),
            (Reason::Cancelled, Status::Failed),
        ] {
            assert_eq!(status(reason), expected, "{reason}");
        }
    }

    #[test]
    fn failed_requests_map_as_their_return_code() {
        let unreachable = Failure::from(RequestError::Unreachable("site-9".parse().unwrap()));
        assert_eq!(unreachable.status, Status::Unreachable);
        assert!(unreachable.to_string().contains("'site-9'"));
        let late = RequestError::Timeout(std::time::Duration::from_secs(5));
        assert_eq!(Failure::from(late).status, Status::Timeout);
    }
}
