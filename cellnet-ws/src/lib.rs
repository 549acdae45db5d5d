//! The transports `ws://`, `wss://`, `http://` and `https://` of cellnet.

use async_trait::async_trait;
use cellnet_core::{
    Scheme,
    transport::{Bind, Connection, Listener, Target, Transport, TransportError},
};

/// WebSocket.
#[derive(Debug, Clone)]
pub struct Ws {
    schemes: Vec<Scheme>,
}

impl Ws {
    /// WebSocket with the default limits.
    pub fn new() -> Self {
        let schemes: &[&str] =
            if cfg!(feature = "tls") { &["ws", "http", "wss", "https"] } else { &["ws", "http"] };
        let scheme = |text: &&str| text.parse().expect("letters make a scheme");
        Self { schemes: schemes.iter().map(scheme).collect() }
    }
}

impl Default for Ws {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Transport for Ws {
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
