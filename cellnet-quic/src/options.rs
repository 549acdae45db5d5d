//! What can be chosen about QUIC, and what is chosen if nobody does.

use std::{sync::Arc, time::Duration};

use cellnet_core::{
    CellUrl, Scheme,
    transport::{TransportError, address::unusable},
};
use quinn::{EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};

/// QUIC over IPv4 and IPv6, always under TLS.
///
/// What the `with_` functions set holds for every connection of this driver. A URL can say otherwise for its own:
///
/// | Parameter | As | Example |
/// |---|---|---|
/// | `lanes` | [`with_lanes`](Self::with_lanes) | `quic://h:1?lanes=4` |
/// | `window` | [`with_window`](Self::with_window), with `k` or `m` for KiB or MiB | `quic://h:1?window=16m` |
/// | `mtu` | [`with_mtu`](Self::with_mtu) | `quic://h:1?mtu=8952` |
/// | `buffer` | [`with_receive_buffer`](Self::with_receive_buffer), like `window` | `quic://h:1?buffer=2m` |
/// | `gso` | [`with_gso`](Self::with_gso), `on` or `off` | `quic://h:1?gso=off` |
///
/// A peer that does not answer is given up within the `silence` of
/// [`Target`](cellnet_core::transport::Target::silence) or [`Bind`](cellnet_core::transport::Bind::silence): a quarter of
/// it idle, keep-alive packets go out; three quarters after the last packet that needed an answer, the connection ends.
#[derive(Debug, Clone)]
pub struct Quic {
    schemes: [Scheme; 1],
    pub(crate) lanes: u8,
    pub(crate) window: u32,
    pub(crate) initial_mtu: u16,
    pub(crate) mtu: u16,
    pub(crate) gso: bool,
    pub(crate) receive_buffer: usize,
    pub(crate) connect_timeout: Duration,
    pub(crate) handshake_timeout: Duration,
    pub(crate) close_timeout: Duration,
    pub(crate) unvalidated: usize,
    pub(crate) backlog: usize,
}

/// More bulk lanes than this are never opened nor agreed to.
pub(crate) const MAX_LANES: u8 = 16;

/// What a connection may have under way towards us before HELLO.
pub(crate) const FIRST_WINDOW: u32 = cellnet_core::transport::MAX_FRAME_BEFORE_HELLO as u32;

impl Quic {
    /// QUIC with the defaults that the functions below name.
    pub fn new() -> Self {
        Self {
            schemes: ["quic".parse().expect("letters make a scheme")],
            lanes: 2,
            window: 4 << 20,
            initial_mtu: 1200,
            mtu: 1452,
            gso: true,
            receive_buffer: 208 << 10,
            connect_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(10),
            unvalidated: 64,
            backlog: 1024,
        }
    }

    /// Bulk lanes of connections: 2, at most 16; the smaller number of the two sides counts. With 0 everything goes over
    /// the control lane. One lane already fills a path; the second keeps one large transfer from holding up another.
    pub fn with_lanes(mut self, lanes: u8) -> Self {
        self.lanes = lanes.min(MAX_LANES);
        self
    }

    /// Bytes that a peer may have under way towards us on each lane, sent and not yet read by us, and as many that we
    /// keep for sending again: 4 MiB, at least 64 KiB, at most 1 GiB. One lane carries at most this much per round trip,
    /// so over 100 ms 4 MiB make 40 MB/s. A connection may hold it once for every lane. Both sides should say the same.
    pub fn with_window(mut self, bytes: u32) -> Self {
        self.window = bytes.clamp(FIRST_WINDOW, 1 << 30);
        self
    }

    /// The size of the first datagrams: 1200 bytes, which every path of the internet carries, at most 65527. On a
    /// path that carries less than this nothing arrives at all.
    pub fn with_initial_mtu(mut self, bytes: u16) -> Self {
        self.initial_mtu = bytes.clamp(1200, MAX_DATAGRAM);
        self
    }

    /// The size up to which larger datagrams are tried: 1452 bytes, what Ethernet carries over IPv6. At least 1200, at
    /// most 65527; 1200 tries nothing. Memory for receiving grows with it: 2 KiB for each byte, per listener and per
    /// dialled connection.
    pub fn with_mtu(mut self, bytes: u16) -> Self {
        self.mtu = bytes.clamp(1200, MAX_DATAGRAM);
        self
    }

    /// Whether the kernel may cut large writes into datagrams (GSO): yes, where it can. Some network cards get it
    /// wrong; the sign is a connection that opens and then carries nothing large.
    pub fn with_gso(mut self, gso: bool) -> Self {
        self.gso = gso;
        self
    }

    /// The kernel's buffer for datagrams that have arrived, of each socket: 208 KiB. Linux doubles what is asked for, to pay
    /// for what it keeps beside each datagram, and grants no more than `net.core.rmem_max`.
    ///
    /// Nothing overtakes what waits there, so a large one makes small messages wait behind bulk. A small one loses
    /// datagrams of bursts that come faster than this process runs, and they are sent again. On one machine, 2 MiB moved
    /// no more bytes and made small messages wait three times as long; 104 KiB moved half as many.
    pub fn with_receive_buffer(mut self, bytes: usize) -> Self {
        self.receive_buffer = bytes;
        self
    }

    /// How long looking up the name, trying all addresses and opening the lanes may take together: 10 s. Each address
    /// gets an equal share of what is left.
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a peer that connected may take to finish the handshake and to open its lanes: 10 s. A cell gives it no
    /// more than its own deadline, `LinkConfig::set_up_deadline`.
    pub fn with_handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    /// How long the end of a lane waits for the peer to confirm what was written: 10 s.
    pub fn with_close_timeout(mut self, timeout: Duration) -> Self {
        self.close_timeout = timeout;
        self
    }

    /// Handshakes in progress from addresses that have not yet proved to be theirs, beyond which new ones must prove it
    /// first (a retry packet, one more round trip): 64.
    pub fn with_unvalidated_handshakes(mut self, number: usize) -> Self {
        self.unvalidated = number;
        self
    }

    /// Connections that wait to be accepted, beyond which new ones are refused: 1024, at least 1.
    pub fn with_backlog(mut self, number: usize) -> Self {
        self.backlog = number.max(1);
        self
    }

    pub(crate) fn known_schemes(&self) -> &[Scheme] {
        &self.schemes
    }

    /// With what a URL says.
    pub(crate) fn for_url(&self, url: &CellUrl) -> Result<Self, TransportError> {
        let mut own = self.clone();
        for key in ["lanes", "window", "mtu", "buffer", "gso"] {
            let Some(text) = url.param(key) else { continue };
            let wrong = |want: &str| unusable(url, &format!("'{key}={text}' is not {want}"));
            own = match key {
                "lanes" => {
                    let lanes = text.parse().ok().filter(|lanes| *lanes <= MAX_LANES);
                    own.with_lanes(lanes.ok_or_else(|| wrong("a number of lanes from 0 to 16"))?)
                }
                "window" => own.with_window(bytes(text).ok_or_else(|| wrong(SIZES))?),
                "buffer" => {
                    let buffer = bytes(text).and_then(|bytes| usize::try_from(bytes).ok());
                    own.with_receive_buffer(buffer.ok_or_else(|| wrong(SIZES))?)
                }
                "mtu" => {
                    let mtu = text.parse().ok().filter(|mtu| (1200..=MAX_DATAGRAM).contains(mtu));
                    own.with_mtu(mtu.ok_or_else(|| wrong("a size of datagrams from 1200 to 65527"))?)
                }
                _ => own.with_gso(match text {
                    "on" => true,
                    "off" => false,
                    _ => return Err(wrong("on or off")),
                }),
            };
        }
        Ok(own)
    }

    /// What a socket needs to know.
    pub(crate) fn endpoint(&self) -> EndpointConfig {
        let mut endpoint = EndpointConfig::default();
        let largest = self.mtu.max(self.initial_mtu).max(1472);
        endpoint.max_udp_payload_size(largest).expect("sizes are clamped to what QUIC allows");
        endpoint
    }

    /// What a connection needs to know. `streams`: how many the peer may open.
    pub(crate) fn transport(&self, silence: Duration, streams: u8) -> Arc<TransportConfig> {
        let mut config = TransportConfig::default();
        // A lost peer costs a keep-alive interval and then the idle time-out; together they are the silence.
        let keep_alive = silence / 4;
        let idle = IdleTimeout::try_from(silence - keep_alive).unwrap_or(VarInt::MAX.into());
        let mtu = self.mtu.max(self.initial_mtu);
        let discovery = (mtu > self.initial_mtu).then(|| {
            let mut discovery = MtuDiscoveryConfig::default();
            discovery.upper_bound(mtu);
            discovery
        });
        config
            .max_concurrent_bidi_streams(streams.into())
            .max_concurrent_uni_streams(0_u8.into())
            .datagram_receive_buffer_size(None)
            .max_idle_timeout(Some(idle))
            .keep_alive_interval(Some(keep_alive))
            .stream_receive_window(self.window.into())
            .receive_window(FIRST_WINDOW.into())
            .send_window(self.all_lanes(self.lanes))
            .initial_mtu(self.initial_mtu)
            .mtu_discovery_config(discovery)
            .enable_segmentation_offload(self.gso);
        Arc::new(config)
    }

    /// The window of a connection with so many bulk lanes: one full lane leaves the others theirs.
    pub(crate) fn all_lanes(&self, bulk: u8) -> u64 {
        u64::from(self.window) * (u64::from(bulk) + 1)
    }
}

impl Default for Quic {
    fn default() -> Self {
        Self::new()
    }
}

fn bytes(text: &str) -> Option<u32> {
    let (digits, shift) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 10),
        None => text.strip_suffix(['m', 'M']).map_or((text, 0), |digits| (digits, 20)),
    };
    digits.parse::<u32>().ok()?.checked_mul(1 << shift)
}

/// What a number of bytes looks like in a URL.
const SIZES: &str = "a number of bytes, such as 65536, 512k or 16m";

/// What fits into one UDP datagram.
const MAX_DATAGRAM: u16 = 65_527;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_speaks_for_its_own_connections() {
        let url = "quic://h:1?lanes=4&window=512k&mtu=8952&buffer=1m&gso=off&tls=tls".parse().unwrap();
        let own = Quic::new().for_url(&url).unwrap();
        assert_eq!((own.lanes, own.window, own.mtu, own.gso), (4, 512 << 10, 8952, false));
        assert_eq!(own.receive_buffer, 1 << 20);
    }

    #[test]
    fn a_wrong_parameter_is_named() {
        for wrong in [
            "lanes=17",
            "lanes=x",
            "window=1g",
            "window=5000m",
            "mtu=100",
            "mtu=70000",
            "buffer=much",
            "gso=maybe",
        ] {
            let error = Quic::new().for_url(&format!("quic://h:1?{wrong}").parse().unwrap()).unwrap_err();
            assert!(error.to_string().contains(&format!("'{wrong}' is not")), "{error}");
        }
    }

    #[test]
    fn a_lost_peer_is_given_up_within_the_silence() {
        // As quinn shows it: the idle time-out is kept in milliseconds.
        let config = format!("{:?}", Quic::new().transport(Duration::from_secs(30), 0));
        assert!(config.contains("max_idle_timeout: Some(22500)"), "{config}");
        assert!(config.contains("keep_alive_interval: Some(7.5s)"), "{config}");
    }
}
