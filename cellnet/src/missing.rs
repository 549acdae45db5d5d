//! Stands in for drivers that are not compiled in, to say so.

use async_trait::async_trait;
use cellnet_core::{
    CellUrl, Scheme,
    transport::{Bind, Connection, Listener, Target, Transport, TransportError},
};

/// Every scheme, the feature that serves it, and whether it is compiled in.
pub(crate) const SCHEMES: [(&str, &str, bool); 7] = [
    ("tcp", "tcp", TCP),
    ("stcp", if TCP { "tls" } else { "tcp' and 'tls" }, TCP && TLS),
    ("quic", "quic", cfg!(feature = "quic")),
    ("ws", "ws", WS),
    ("http", "ws", WS),
    ("wss", if WS { "tls" } else { "ws' and 'tls" }, WS && TLS),
    ("https", if WS { "tls" } else { "ws' and 'tls" }, WS && TLS),
];

const TCP: bool = cfg!(feature = "tcp");
const WS: bool = cfg!(feature = "ws");
const TLS: bool = cfg!(any(feature = "tls", feature = "tls-aws-lc-rs"));

/// One for every scheme that has no driver.
pub(crate) fn all() -> impl Iterator<Item = Missing> {
    SCHEMES.iter().filter(|(_, _, there)| !there).map(|(scheme, feature, _)| Missing {
        schemes: [scheme.parse().expect("letters make a scheme")],
        feature,
    })
}

/// Refuses every URL of a scheme and names the feature that would serve it.
#[derive(Debug)]
pub(crate) struct Missing {
    schemes: [Scheme; 1],
    feature: &'static str,
}

impl Missing {
    fn refuse(&self, url: &CellUrl) -> TransportError {
        let why =
            format!("its transport is not compiled in; build cellnet with the feature '{}'", self.feature);
        TransportError::Url { url: url.to_string(), why }
    }
}

#[async_trait]
impl Transport for Missing {
    fn schemes(&self) -> &[Scheme] {
        &self.schemes
    }

    async fn connect(&self, target: &Target) -> Result<Connection, TransportError> {
        Err(self.refuse(&target.url))
    }

    async fn listen(&self, bind: &Bind) -> Result<Box<dyn Listener>, TransportError> {
        Err(self.refuse(&bind.url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_url_without_driver_names_the_feature() {
        for (scheme, feature, _) in SCHEMES.iter().filter(|(_, _, there)| !there) {
            let url = format!("{scheme}://127.0.0.1:0").parse().unwrap();
            let cell = crate::builder("server".parse().unwrap()).listen(url);
            let crate::StartError::Listen { source, .. } = cell.start().await.unwrap_err() else { panic!() };
            assert!(source.to_string().contains(&format!("feature '{feature}'")), "{source}");
        }
    }

    #[tokio::test]
    async fn every_scheme_is_served_once() {
        let cell = crate::builder("server".parse().unwrap()).start().await.expect("no scheme is taken twice");
        cell.shutdown(crate::SHUTDOWN).await;
        assert_eq!(crate::schemes().count() + all().count(), SCHEMES.len());
    }
}
