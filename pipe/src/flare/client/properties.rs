//! The cells that a trainer may attach to.

use serde::Deserialize;

use super::ConfigError;
use crate::{ConnectionProperties, ConnectionSecurity, PipeArgs, Place, UnknownUrl};

/// The cells that a process of the site may attach to, as the site's job process tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellProperties(Option<ConnectionProperties>);

/// One of them as it stands in the file.
#[derive(Deserialize)]
pub(super) struct Raw {
    fqcn: String,
    url: String,
    connection_security: Option<String>,
}

impl CellProperties {
    /// Nothing is known without the server, which is so in the simulator; with it, the client parent has to be known.
    pub(super) fn new(root: Option<Raw>, cp: Option<Raw>, relay: Option<Raw>) -> Result<Self, ConfigError> {
        let Some(root) = root else { return Ok(Self(None)) };
        let cp = cp.ok_or(ConfigError::Missing("cp_conn_props"))?;
        Ok(Self(Some(ConnectionProperties {
            root: root.place("root_conn_props")?,
            cp: cp.place("cp_conn_props")?,
            relay: relay.map(|relay| relay.place("relay_conn_props")).transpose()?,
        })))
    }

    /// The cells, unless the job runs in the simulator.
    pub fn known(&self) -> Option<&ConnectionProperties> {
        self.0.as_ref()
    }

    /// Where a pipe attaches, and under which security.
    ///
    /// # Errors
    ///
    /// If the URL of the pipe is none, or not that of a cell that is known.
    pub fn place(&self, pipe: &PipeArgs) -> Result<Place, PipePlaceError> {
        let place = match &self.0 {
            Some(known) => known.choose(&pipe.root_url)?.clone(),
            None => Place::root(pipe.root_url.parse()?),
        };
        Ok(match place.security() {
            // What the reference does with credentials if nobody says more.
            None if pipe.secure_mode => place.with_security(ConnectionSecurity::Mtls),
            None => place.with_security(ConnectionSecurity::Clear),
            Some(_) => place,
        })
    }
}

/// Why a pipe attaches nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PipePlaceError {
    /// It is no URL.
    #[error("the root URL of the pipe is none")]
    Url(#[from] cellnet_core::UrlError),
    /// Nobody known listens there.
    #[error(transparent)]
    Unknown(#[from] UnknownUrl),
}

impl Raw {
    fn place(self, key: &'static str) -> Result<Place, ConfigError> {
        let place = format!("{}@{}", self.fqcn, self.url).parse::<Place>();
        let place = place.map_err(|source| ConfigError::Cell { key, source })?;
        match self.connection_security.as_deref() {
            None | Some("") => Ok(place),
            Some(security) => match security.parse() {
                Ok(security) => Ok(place.with_security(security)),
                Err(source) => Err(ConfigError::Security { key, source }),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(fqcn: &str, url: &str, security: Option<&str>) -> Option<Raw> {
        Some(Raw { fqcn: fqcn.into(), url: url.into(), connection_security: security.map(Into::into) })
    }

    fn pipe(root_url: &str, secure_mode: bool) -> PipeArgs {
        PipeArgs {
            mode: "ACTIVE".into(),
            site_name: "site-1".into(),
            token: "job".into(),
            root_url: root_url.into(),
            secure_mode,
            workspace_dir: String::new(),
        }
    }

    #[test]
    fn without_properties_the_url_is_the_servers() {
        let cells = CellProperties::new(None, raw("site-1", "tcp://127.0.0.1:1", None), None).unwrap();
        let place = cells.place(&pipe("tcp://127.0.0.1:7000", false)).unwrap();
        assert!(place.is_root());
        assert_eq!(place.security(), Some(ConnectionSecurity::Clear));
        assert!(matches!(cells.place(&pipe("", false)), Err(PipePlaceError::Url(_))));
    }

    #[test]
    fn with_properties_an_empty_url_is_the_client_parents() {
        let root = raw("server", "tcp://hub:8002", Some("mtls"));
        let cp = raw("site-1", "tcp://127.0.0.1:9000", Some("clear"));
        let relay = raw("relay-1", "tcp://relay:8003", None);
        let cells = CellProperties::new(root, cp, relay).unwrap();
        let at =
            |url| cells.place(&pipe(url, true)).map(|place| (place.to_string(), place.security().unwrap()));
        assert_eq!(at(""), Ok(("site-1@tcp://127.0.0.1:9000".into(), ConnectionSecurity::Clear)));
        assert_eq!(at("tcp://hub:8002"), Ok(("server@tcp://hub:8002".into(), ConnectionSecurity::Mtls)));
        assert_eq!(at("tcp://relay:8003"), Ok(("relay-1@tcp://relay:8003".into(), ConnectionSecurity::Mtls)));
        assert!(matches!(at("tcp://other:1"), Err(PipePlaceError::Unknown(_))));
    }

    #[test]
    fn what_names_no_cell_is_said() {
        let root = || raw("server", "tcp://hub:8002", None);
        assert!(matches!(
            CellProperties::new(root(), None, None),
            Err(ConfigError::Missing("cp_conn_props"))
        ));
        let odd = CellProperties::new(root(), raw("site-1", "tcp://h:1", Some("half")), None);
        assert!(matches!(odd, Err(ConfigError::Security { key: "cp_conn_props", .. })));
        let bad = CellProperties::new(root(), raw("site 1", "tcp://h:1", None), None);
        assert!(matches!(bad, Err(ConfigError::Cell { key: "cp_conn_props", .. })));
    }
}
