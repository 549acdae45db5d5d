//! Intervals, deadlines and sizes of links.

use std::time::Duration;

/// How links behave. The defaults are those of the documentation of each field.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkConfig {
    /// A silent link is asked for a sign of life this often. 10 s.
    pub heartbeat: Duration,
    /// A cellnet peer that sent no bytes for this long is gone. 30 s.
    pub silence: Duration,
    /// The same for other peers. 180 s: the reference answers PING from the pool that runs its callbacks, and was seen
    /// to take 14 s.
    pub stranger_silence: Duration,
    /// A peer that takes no bytes for this long is gone. 30 s.
    pub stall: Duration,
    /// How long a message waits for room on its way before it fails. Counts from the last progress of the next hop.
    /// 10 s.
    pub patience: Duration,
    /// How long a peer that connected may take for what the transport needs before HELLO: TLS, an upgrade. 5 s.
    pub set_up_deadline: Duration,
    /// How long a peer that connected may take for its HELLO. 5 s.
    pub accept_deadline: Duration,
    /// How long a peer that we dialled may take to connect, and then for its READY. 30 s each.
    pub dial_deadline: Duration,
    /// How long the holder of a name has to answer when somebody else claims it. 2 s.
    pub probe: Duration,
    /// When a cell can be reached by several URLs: how long the next waits after the one before. 250 ms, as Happy
    /// Eyeballs (RFC 8305) advises.
    pub head_start: Duration,
    /// First pause before dialling again; it doubles with every failure and is jittered. 1 s.
    pub redial_min: Duration,
    /// Longest pause before dialling again. 10 s.
    pub redial_max: Duration,
    /// A link that lived this long was healthy: the pause starts from the first again. 10 s.
    pub healthy: Duration,
    /// Longest frame accepted after HELLO, in bytes; at most [`MAX_FRAME`](crate::wire::MAX_FRAME). 256 MiB.
    pub max_frame: usize,
    /// Bytes of large frames and chunks that may wait for one neighbour. 4 MiB. One larger frame may wait alone.
    pub outbox_bytes: usize,
    /// Messages of each kind that may wait for one neighbour. 8,192.
    pub outbox_messages: usize,
    /// Bytes of small messages that may wait for one neighbour. 4 MiB.
    pub control_bytes: usize,
    /// Bytes that a link's reader may set aside for full next hops. 20 MiB.
    pub park_bytes: usize,
    /// Whether heads travel in a short form to neighbours that offer it too, some 40 to 50 bytes instead of some 500. Yes.
    /// Other neighbours, the Python reference among them, get plain ones in any case.
    pub compact_heads: bool,
    /// Neighbours that may have connected to a cell; more are closed. 65,536.
    pub max_links: usize,
    /// Connections whose handshake is not finished, per cell; the oldest goes first. 4,096.
    pub max_handshakes: usize,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(10),
            silence: Duration::from_secs(30),
            stranger_silence: Duration::from_secs(180),
            stall: Duration::from_secs(30),
            patience: Duration::from_secs(10),
            set_up_deadline: Duration::from_secs(5),
            accept_deadline: Duration::from_secs(5),
            dial_deadline: Duration::from_secs(30),
            probe: Duration::from_secs(2),
            head_start: Duration::from_millis(250),
            redial_min: Duration::from_secs(1),
            redial_max: Duration::from_secs(10),
            healthy: Duration::from_secs(10),
            max_frame: 256 << 20,
            outbox_bytes: 4 << 20,
            outbox_messages: 8192,
            control_bytes: 4 << 20,
            park_bytes: 20 << 20,
            compact_heads: true,
            max_links: 65_536,
            max_handshakes: 4096,
        }
    }
}
