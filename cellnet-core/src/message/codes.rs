//! Return codes: the outcome of a request, as a value in its reply.

use std::fmt;

use bytestring::ByteString;

/// The outcome that a reply reports. Applications may use texts of their own. Source: `fuel/f3/cellnet/defs.py`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ReturnCode(ByteString);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub const $name: Self = Self(ByteString::from_static($text));)*
    };
}

impl ReturnCode {
    codes! {
        /// Done.
        OK = "ok";
        /// No answer in time.
        TIMEOUT = "timeout";
        /// The target is no cell name.
        INVALID_TARGET = "invalid_target";
        /// No way from here to the target.
        TARGET_UNREACHABLE = "target_unreachable";
        /// It broke on the way.
        COMM_ERROR = "comm_error";
        /// Larger than somebody accepts.
        MSG_TOO_BIG = "msg_too_big";
        /// An outgoing filter refused it.
        FILTER_ERROR = "filter_error";
        /// The receiver could not make sense of it.
        INVALID_REQUEST = "invalid_request";
        /// The handler failed, or there is none.
        PROCESS_EXCEPTION = "process_exception";
        /// Credentials were refused.
        AUTHENTICATION_ERROR = "authentication_error";
        /// The receiver is overloaded or out of service.
        SERVICE_UNAVAILABLE = "service_unavailable";
        /// The session is unknown or over.
        INVALID_SESSION = "invalid_session";
        /// The run must end.
        ABORT_RUN = "abort_run";
        /// Credentials are missing.
        UNAUTHENTICATED = "unauthenticated";
    }

    /// The code as it travels.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The code as shared text.
    pub fn into_text(self) -> ByteString {
        self.0
    }
}

impl From<ByteString> for ReturnCode {
    fn from(text: ByteString) -> Self {
        Self(text)
    }
}

impl From<&str> for ReturnCode {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for ReturnCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ReturnCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}
