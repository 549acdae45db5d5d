//! What commands say about WebSocket.

use cellnet::Drivers;

/// Flags for `ws`, `wss`, `http` and `https`.
#[cfg(feature = "ws")]
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "WebSocket")]
pub(crate) struct Web {
    /// Dial WebSocket URLs through this proxy: http://[USER:PASSWORD@]HOST[:PORT]. By default what HTTPS_PROXY,
    /// http_proxy and ALL_PROXY say; NO_PROXY names exceptions from either
    #[arg(long, env = "CELLNET_PROXY", value_name = "URL", value_parser = proxy, hide_env_values = true)]
    proxy: Option<cellnet::Proxy>,

    /// Let scripts of pages from here connect, for example https://app.example; may be given several times
    #[arg(long, env = "CELLNET_ALLOW_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    allow_origin: Vec<String>,
}

/// Nothing to say without WebSocket.
#[cfg(not(feature = "ws"))]
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Web {}

impl Web {
    /// The transports, with what was said.
    #[cfg(feature = "ws")]
    pub(crate) fn drivers(&self) -> Drivers {
        let no_proxy =
            || std::env::var("no_proxy").or_else(|_| std::env::var("NO_PROXY")).unwrap_or_default();
        let proxy = match &self.proxy {
            Some(proxy) => proxy.clone().except(&no_proxy()),
            None => cellnet::Proxy::from_env(),
        };
        let mut drivers = Drivers::default();
        drivers.ws = drivers.ws.with_proxy(proxy).with_allowed_origins(self.allow_origin.clone());
        drivers
    }

    #[cfg(not(feature = "ws"))]
    pub(crate) fn drivers(&self) -> Drivers {
        Drivers::default()
    }
}

/// Reads the URL of a proxy; what it says of a wrong one shows no password.
#[cfg(feature = "ws")]
fn proxy(text: &str) -> Result<cellnet::Proxy, String> {
    cellnet::Proxy::new(text).map_err(|error| super::status::chain(&error))
}
