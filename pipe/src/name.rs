//! Names of the two cells of a pipe.
//!
//! The sides of a pipe find each other without asking anybody: both derive their own name and their peer's from the
//! site, a token that both were given, and the cell to which they attach (nvflare/fuel/utils/pipe/cell_pipe.py).

use std::{fmt, str::FromStr};

use cellnet_core::{Fqcn, FqcnError};

/// The name of the cell of one side of a pipe; the peer's is that of [`Mode::peer`].
///
/// The name is `SITE_TOKEN_MODE`, below the cell it attaches to unless that is the server.
///
/// ```
/// # use cellnet_pipe::{Mode, Place, pipe_fqcn};
/// let place: Place = "relay-1@tcp://127.0.0.1:9000".parse()?;
/// let name = pipe_fqcn(Mode::Passive, "site-1", "job-7", place.fqcn())?;
/// assert_eq!(name.as_str(), "relay-1.site-1_job-7_passive");
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// If the site or the token is empty or has a dot, which would make the pipe a child of a cell nobody knows, or if the
/// whole is not a valid name.
pub fn pipe_fqcn(mode: Mode, site: &str, token: &str, attached_to: &Fqcn) -> Result<Fqcn, PipeNameError> {
    for (what, value) in [("site", site), ("token", token)] {
        if value.is_empty() {
            return Err(PipeNameError::Empty(what));
        }
        if value.contains('.') {
            return Err(PipeNameError::Dot { what, value: value.into() });
        }
    }
    let base = format!("{site}_{token}_{mode}");
    Ok(if attached_to.is_server() { base.parse()? } else { attached_to.child(&base)? })
}

/// Which side of a pipe.
///
/// Neither side listens; by convention the job is passive and the trainer it starts is active.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The side that is started by the other.
    Active,
    /// The side that is there first.
    Passive,
}

impl Mode {
    /// The mode of the other side.
    pub fn peer(self) -> Self {
        match self {
            Self::Active => Self::Passive,
            Self::Passive => Self::Active,
        }
    }

    /// The mode as it stands in names, `active` or `passive`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Passive => "passive",
        }
    }

    /// The mode as it stands in the reference's arguments and job files, `ACTIVE` or `PASSIVE`.
    pub fn as_upper(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Passive => "PASSIVE",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Mode {
    type Err = ModeError;

    /// Takes upper and lower case.
    fn from_str(text: &str) -> Result<Self, ModeError> {
        let same = |mode: &Self| text.eq_ignore_ascii_case(mode.as_str());
        [Self::Active, Self::Passive].into_iter().find(same).ok_or_else(|| ModeError(text.into()))
    }
}

/// A text is not a mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a pipe mode; write 'active' or 'passive'")]
pub struct ModeError(String);

/// Why a pipe has no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PipeNameError {
    /// The site or the token is missing.
    #[error("the {0} of a pipe is empty")]
    Empty(&'static str),
    /// The site or the token is not a single part of a name.
    #[error("the {what} '{value}' of a pipe has a dot")]
    Dot {
        /// `site` or `token`.
        what: &'static str,
        /// The text.
        value: String,
    },
    /// The parts do not make a name.
    #[error("site and token make no valid name")]
    Fqcn(#[from] FqcnError),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(attached_to: &str, mode: Mode, site: &str, token: &str) -> String {
        pipe_fqcn(mode, site, token, &attached_to.parse().unwrap()).unwrap().to_string()
    }

    #[test]
    fn names_are_those_of_the_reference() {
        assert_eq!(at("server", Mode::Active, "site-1", "tok"), "site-1_tok_active");
        assert_eq!(at("server", Mode::Passive, "site-1", "tok"), "site-1_tok_passive");
        assert_eq!(at("site-1", Mode::Active, "site-1", "tok"), "site-1.site-1_tok_active");
        assert_eq!(at("relay-1", Mode::Passive, "s2", "tokr"), "relay-1.s2_tokr_passive");
        assert_eq!(at("relay-1.site-1", Mode::Passive, "site-1", "tok"), "relay-1.site-1.site-1_tok_passive");
    }

    #[test]
    fn what_would_change_the_family_is_refused() {
        let server = Fqcn::server();
        for (site, token) in [("", "t"), ("s", ""), ("a.b", "t"), ("s", "1.2"), ("s 1", "t"), ("s", "t/u")] {
            assert!(pipe_fqcn(Mode::Active, site, token, &server).is_err(), "{site:?} {token:?}");
        }
    }

    #[test]
    fn modes_are_read_in_both_cases() {
        for mode in [Mode::Active, Mode::Passive] {
            assert_eq!(mode.as_str().parse(), Ok(mode));
            assert_eq!(mode.as_upper().parse(), Ok(mode));
            assert_ne!(mode.peer(), mode);
            assert_eq!(mode.peer().peer(), mode);
        }
        assert!("both".parse::<Mode>().is_err());
    }
}
