//! Who a command is towards others, and whom it trusts.

use cellnet::{Cell, CellBuilder, CellUrl, Drivers, Fqcn, pipe::TreePolicy, tls::TlsMode};

#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
use super::status::{Status, chain};
use super::{status::Failure, web::Web};

/// Flags about certificates and names.
#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Security")]
pub(crate) struct Security {
    /// Folder with rootCA.pem, server.crt, server.key, client.crt and client.key, as in a start-up kit
    #[arg(long, env = "CELLNET_CREDENTIALS", value_name = "DIR")]
    credentials: Option<std::path::PathBuf>,

    /// Protection where the URL does not say: mtls by default for quic, stcp, wss and https, else clear
    #[arg(long, env = "CELLNET_TLS", value_name = "clear|tls|mtls")]
    tls: Option<TlsMode>,

    /// The name that certificates of listeners must have instead of the host in the URL
    #[arg(long, env = "CELLNET_SERVER_NAME", value_name = "NAME")]
    server_name: Option<String>,

    /// Take any certificate of the authority for any listener, for kits whose certificates name no host
    #[arg(long, env = "CELLNET_ANY_SERVER_NAME", value_parser = clap::builder::FalseyValueParser::new())]
    any_server_name: bool,

    /// Who may have which name under mtls: strict ties it to the certificate, lenient only warns
    #[arg(long, env = "CELLNET_IDENTITY", value_name = "strict|lenient", default_value = "strict")]
    identity: Rule,

    /// Common name of a certificate that may be an administrator; may be given several times
    #[arg(long, env = "CELLNET_ADMIN", value_name = "CN", value_delimiter = ',')]
    admin: Vec<String>,

    #[command(flatten)]
    web: Web,
}

/// Nothing to say without TLS.
#[cfg(not(any(feature = "tls", feature = "tls-aws-lc-rs")))]
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Security {
    #[command(flatten)]
    web: Web,
}

/// How names are tied to certificates.
#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Rule {
    #[default]
    Strict,
    Lenient,
}

/// [`Security`] with its files read. Clones are the same.
#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
#[derive(Debug, Clone)]
pub(crate) struct Trust {
    tls: Option<cellnet::tls::Tls>,
    policy: cellnet::identity::CommonNamePolicy,
    /// The name on the certificate, if it is shown to anybody who is dialled.
    cn: Option<String>,
    drivers: Drivers,
}

#[cfg(not(any(feature = "tls", feature = "tls-aws-lc-rs")))]
#[derive(Debug, Clone)]
pub(crate) struct Trust {
    drivers: Drivers,
}

/// What a command does with a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    Dial,
    Listen,
}

#[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
impl Security {
    /// Reads the credentials, and finds out before anything is dialled whether they will do for these URLs.
    pub(crate) fn load<'a>(
        &self,
        urls: impl IntoIterator<Item = (Use, &'a CellUrl)>,
    ) -> Result<Trust, Failure> {
        let unusable = |error| Failure::new(Status::Config, format!("--credentials: {}", chain(&error)));
        let tls = match &self.credentials {
            Some(dir) => Some(self.read(dir).map_err(unusable)?),
            None => None,
        };
        let mut cn = None;
        for (wanted, url) in urls {
            let mode = mode(url, self.tls)?;
            if mode == TlsMode::Clear {
                continue;
            }
            let Some(tls) = &tls else {
                return Err(Failure::usage(format!("'{url}' is under {mode}; give --credentials DIR")));
            };
            let fit = match wanted {
                Use::Dial => tls.client(url.host(), mode, &[]).map(drop),
                Use::Listen => tls.server(mode, &[]).map(drop),
            };
            fit.map_err(unusable)?;
            if (wanted, mode) == (Use::Dial, TlsMode::Mtls) {
                cn = tls.own_name();
            }
        }
        let mut policy = cellnet::identity::CommonNamePolicy::new().with_admins(&self.admin);
        if self.identity == Rule::Lenient {
            tracing::warn!(
                "--identity lenient: whoever has a certificate of the authority may take any name"
            );
            policy = policy.lenient();
        }
        Ok(Trust { tls, policy, cn, drivers: self.web.drivers() })
    }

    fn read(&self, dir: &std::path::Path) -> Result<cellnet::tls::Tls, cellnet::tls::TlsError> {
        let mut tls = cellnet::tls::Tls::load(cellnet::tls::CredentialFiles::in_dir(dir))?;
        if let Some(mode) = self.tls {
            tls = tls.with_mode(mode);
        }
        if self.any_server_name && self.server_name.is_none() {
            tracing::warn!("--any-server-name: any certificate of the authority is taken for any listener");
            tls = tls.with_any_server_name();
        } else if let Some(name) = &self.server_name {
            tls = tls.with_server_name(name);
        }
        Ok(tls)
    }
}

#[cfg(not(any(feature = "tls", feature = "tls-aws-lc-rs")))]
impl Security {
    /// Finds out before anything is dialled whether these URLs ask for what is not there.
    pub(crate) fn load<'a>(
        &self,
        urls: impl IntoIterator<Item = (Use, &'a CellUrl)>,
    ) -> Result<Trust, Failure> {
        for (_, url) in urls {
            let mode = mode(url, None)?;
            if mode != TlsMode::Clear {
                let text = "which is not compiled in; build cellnet with the feature 'tls'";
                return Err(Failure::usage(format!("'{url}' is under {mode}, {text}")));
            }
        }
        Ok(Trust { drivers: self.web.drivers() })
    }
}

/// How a URL is protected.
fn mode(url: &CellUrl, configured: Option<TlsMode>) -> Result<TlsMode, Failure> {
    let secure = ["quic", "stcp", "wss", "https"].contains(&url.scheme().as_str());
    TlsMode::of(url, secure, configured).map_err(|error| Failure::usage(error.to_string()))
}

impl Trust {
    /// Begins to describe a cell of the tree.
    pub(crate) fn builder(&self, name: Fqcn) -> CellBuilder {
        self.give(Cell::builder(name).resolver(TreePolicy))
    }

    /// Gives a cell its transports and lets it be who it is.
    #[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
    pub(crate) fn give(&self, builder: CellBuilder) -> CellBuilder {
        let builder = self.drivers.clone().add_to(builder).identity(self.policy.clone());
        match &self.tls {
            Some(tls) => builder.tls(tls.clone()),
            None => builder,
        }
    }

    #[cfg(not(any(feature = "tls", feature = "tls-aws-lc-rs")))]
    pub(crate) fn give(&self, builder: CellBuilder) -> CellBuilder {
        self.drivers.clone().add_to(builder)
    }

    /// A name that nobody else has, and that the certificate allows where one is shown.
    pub(crate) fn random_name(&self) -> Fqcn {
        let name = format!("_cli_{}", uuid::Uuid::new_v4());
        #[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
        if let Some(Ok(name)) = self.cn.as_ref().map(|cn| format!("{cn}.{name}").parse()) {
            return name;
        }
        name.parse().expect("a UUID has letters, digits and '-'")
    }

    /// The name on the certificate, if it is shown to anybody who is dialled.
    #[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
    pub(crate) fn common_name(&self) -> Option<&str> {
        self.cn.as_deref()
    }

    #[cfg(not(any(feature = "tls", feature = "tls-aws-lc-rs")))]
    pub(crate) fn common_name(&self) -> Option<&str> {
        None
    }

    /// Reads the credentials again and says how that went. Links stay.
    pub(crate) fn reload(&self) {
        #[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
        if let Some(tls) = &self.tls {
            let dir = tls.files().ca_cert.parent().unwrap_or(std::path::Path::new("."));
            let dir = dir.display();
            match tls.reload() {
                Ok(reloaded) => tracing::info!("credentials in '{dir}': {reloaded}; links stay"),
                Err(error) => {
                    tracing::warn!(
                        "credentials in '{dir}' cannot be used, the old ones stay: {}",
                        chain(&error)
                    );
                }
            }
            return;
        }
        tracing::info!("there are no credentials to load again");
    }
}

#[cfg(all(test, feature = "tcp"))]
mod tests {
    use super::*;
    use crate::cli::status::Status;

    fn load(security: &Security, url: &str) -> Result<Trust, Failure> {
        security.load([(Use::Dial, &url.parse().unwrap())])
    }

    #[test]
    fn what_needs_credentials_asks_for_them_and_nothing_else_does() {
        let security = Security::default();
        assert!(load(&security, "tcp://127.0.0.1:1").is_ok());
        for url in ["quic://h:1", "stcp://h:1", "wss://h:1", "https://h:1?tls=tls", "tcp://h:1?secure=true"] {
            let failure = load(&security, url).unwrap_err();
            assert_eq!(failure.status, Status::Usage);
            let text = failure.to_string();
            assert!(
                text.contains(url) && (text.contains("--credentials") || text.contains("feature")),
                "{text}"
            );
        }
        let failure = load(&security, "stcp://h:1?tls=clear").unwrap_err();
        assert_eq!(failure.status, Status::Usage);
    }

    #[test]
    fn a_random_name_is_new() {
        let trust = load(&Security::default(), "tcp://127.0.0.1:1").unwrap();
        assert!(trust.random_name().as_str().starts_with("_cli_"));
        assert_ne!(trust.random_name(), trust.random_name());
    }

    #[cfg(any(feature = "tls", feature = "tls-aws-lc-rs"))]
    #[test]
    fn credentials_that_cannot_be_used_are_a_matter_of_configuration() {
        let security = Security { credentials: Some("no/such".into()), ..Security::default() };
        let failure = load(&security, "stcp://127.0.0.1:1").unwrap_err();
        assert_eq!(failure.status, Status::Config);
        assert!(failure.to_string().contains("no/such/rootCA.pem"), "{failure}");
        let security = Security { tls: Some(TlsMode::Mtls), ..Security::default() };
        assert_eq!(load(&security, "tcp://127.0.0.1:1").unwrap_err().status, Status::Usage);
    }
}
