//! The transport `quic://` of cellnet.

use async_trait::async_trait;
use cellnet_core::{
    Scheme,
    transport::{Bind, Connection, Listener, Target, Transport, TransportError},
};

/// QUIC.
#[derive(Debug, Clone)]
pub struct Quic {
    schemes: [Scheme; 1],
}

impl Quic {
    /// QUIC with the default windows.
    pub fn new() -> Self {
        Self { schemes: ["quic".parse().expect("letters make a scheme")] }
    }
}

impl Default for Quic {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Transport for Quic {
    fn schemes(&self) -> &[Scheme] {
        &self.schemes
    }

    async fn connect(&self, target: &Target) -> Result<Connection, TransportError> {
        Err(TransportError::Url { url: target.url.to_string(), why: "not built yet".into() })
    }

    async fn listen(&self, bind: &Bind) -> Result<Box<dyn Listener>, TransportError> {
        Err(TransportError::Url { url: bind.url.to_string(), why: "not built yet".into() })
    }
}
