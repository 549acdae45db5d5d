//! Stands in for drivers that are not compiled in, to say so.

use async_trait::async_trait;
use cellnet_core::{
    Scheme,
    transport::{Bind, Connection, Listener, Target, Transport, TransportError},
};

/// Refuses every URL of a scheme and names the feature that would serve it.
#[derive(Debug)]
pub(crate) struct Missing {
    schemes: [Scheme; 1],
    feature: &'static str,
}

impl Missing {
    pub(crate) fn new(scheme: &'static str, feature: &'static str) -> Self {
        Self { schemes: [scheme.parse().expect("letters make a scheme")], feature }
    }

    fn refuse(&self, url: &cellnet_core::CellUrl) -> TransportError {
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
    #[tokio::test]
    async fn a_url_without_driver_names_the_feature() {
        let cell = crate::builder("server".parse().unwrap()).listen("tcp://127.0.0.1:0".parse().unwrap());
        let crate::StartError::Listen { source, .. } = cell.start().await.unwrap_err() else { panic!() };
        assert!(source.to_string().contains("feature 'tcp'"), "{source}");
    }
}
