//! One neighbour: handshake, queues, writer, reader.
//!
//! A link is what two cells share while one connection lasts. Each lane of the connection has a reader task and a
//! writer task; whoever finds the connection broken ends it for the others.

mod accept;
mod config;
mod dial;
mod drafts;
mod frames;
mod handshake;
mod lanes;
mod liveness;
mod outbox;
mod park;
mod pen;
mod race;
mod reader;
mod run;
mod table;
mod transit;
mod turns;
mod writer;

use std::{
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

pub use config::LinkConfig;
pub use dial::DialError;

use self::handshake::Opened;
pub(crate) use self::{
    accept::{Handshakes, accept_loop},
    dial::{DialState, dial_loop},
    drafts::{Drafts, Fresh, Letter, freshen},
    handshake::Identity,
    lanes::Class,
    outbox::{Outbox, Outgoing, PushError, Refused},
    park::{Park, Parked},
    table::Table,
    transit::{Hop, Transit},
};
use crate::{
    fqcn::Fqcn,
    stats::{Counters, LogLimit},
    transport::{Connection, ConnectionInfo, Frame, TransportError, Transports},
    wire::{COMPACT_HEADS, DecodeError, HeadDecoder, HeadEncoder, Headers, hello::Cellnet},
};

/// What a link needs from the cell above it. Nothing here waits.
pub(crate) trait Inbox: Send + Sync + 'static {
    /// Takes a message. What cannot go on at once is put into `park`.
    fn deliver(&self, link: &Arc<Link>, park: &mut Park, headers: Headers, frame: Frame);
    /// How many replies the cell waits for, by all links and of its own.
    fn awaited(&self) -> usize;
    /// Hears of a message whose headers cannot be read.
    fn malformed(&self, link: &Link, error: &DecodeError);
    /// Offers a parked message again; gives it back if there is still no room.
    fn retry(&self, link: &Arc<Link>, room: &Arc<Notify>, parked: Parked) -> Result<(), Parked>;
    /// Gives up on a parked message: its next hop made no progress for the patience.
    fn expire(&self, link: &Arc<Link>, parked: Parked);
    /// When a hop last took something, if it is still there.
    fn hop_progress(&self, hop: &Fqcn) -> Option<Instant>;
    /// A link can be used.
    fn link_up(&self, link: &Arc<Link>);
    /// A link ended; `unsent` never left its outbox.
    fn link_down(&self, link: &Arc<Link>, unsent: Vec<Outgoing>);
}

/// What the links of one cell share.
pub(crate) struct Links {
    pub(crate) identity: Identity,
    /// Who may have which name.
    pub(crate) policy: Box<dyn crate::identity::IdentityPolicy>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<crate::tls::Tls>,
    pub(crate) config: LinkConfig,
    pub(crate) transports: Transports,
    pub(crate) table: Table,
    pub(crate) budgets: Budgets,
    /// Ends listeners, handshakes and dialling.
    pub(crate) stop: CancellationToken,
    /// Ends every link.
    pub(crate) kill: CancellationToken,
    pub(crate) tasks: tokio_util::task::TaskTracker,
    pub(crate) handshakes: Handshakes,
    pub(crate) counters: Arc<Counters>,
    /// For what peers can cause as often as they like.
    pub(crate) noise: LogLimit,
    /// For connections that are refused, which strangers can cause.
    pub(crate) refusals: LogLimit,
    /// For messages whose link does not speak for their origin.
    pub(crate) forgeries: LogLimit,
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links").field("me", &self.identity.me).finish_non_exhaustive()
    }
}

impl Links {
    fn has_credentials(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }
}

/// Everything a task of a link works with.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) links: Arc<Links>,
    pub(crate) inbox: Arc<dyn Inbox>,
}

/// Memory that the links of one cell share.
#[derive(Debug, Clone)]
pub(crate) struct Budgets {
    /// Frames that have arrived in part.
    pub(crate) frames: Arc<crate::stats::Budget>,
    /// Frames on their way out: bulk in outboxes, and what is parked.
    pub(crate) queues: Arc<crate::stats::Budget>,
}

/// A connection to a neighbour after its handshake.
pub(crate) struct Link {
    /// Unique within the process.
    pub(crate) id: u64,
    pub(crate) peer: Fqcn,
    /// What the peer told of itself; `None` for a stranger.
    pub(crate) cellnet: Option<Cellnet>,
    /// Whether the peer was told what this cell offers.
    offered: bool,
    pub(crate) info: ConnectionInfo,
    /// Whether this cell dialled the peer.
    pub(crate) dialled: bool,
    pub(crate) outbox: Outbox,
    pub(crate) drafts: Drafts,
    pub(crate) transit: Transit,
    pub(crate) opened: Instant,
    /// Cancelled when the link is to end.
    pub(crate) end: CancellationToken,
    reason: Mutex<Option<Arc<LinkError>>>,
    /// Told whenever something arrives while somebody probes.
    heard: Notify,
    /// When the peer said bye.
    left: OnceLock<Instant>,
}

/// Why a link ended, or never came to be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The peer's connection ended in order.
    #[error("peer closed the connection")]
    Closed,
    /// The peer stops.
    #[error("peer said bye")]
    Bye,
    /// This cell stops.
    #[error("this cell is shutting down")]
    ShuttingDown,
    /// The driver gave up.
    #[error("transport failed")]
    Transport(#[source] TransportError),
    /// No bytes for too long.
    #[error("peer sent nothing for {0:?}")]
    Silent(Duration),
    /// The peer stopped taking bytes.
    #[error("peer took no bytes for {0:?}")]
    Stalled(Duration),
    /// The handshake took too long.
    #[error("no handshake within {0:?}")]
    HandshakeTimeout(Duration),
    /// The peer broke the protocol.
    #[error("peer broke the protocol: {0}")]
    Protocol(String),
    /// A newer connection of the same peer took the place.
    #[error("replaced by a newer connection of the same name")]
    Replaced,
    /// The transport's own handshake took too long.
    #[error("no TLS or upgrade within {0:?}")]
    SetUpTimeout(Duration),
    /// The peer's certificate does not allow the name it claims.
    #[error("{0}")]
    Identity(String),
    /// Another process holds the name and lives.
    #[error("the name '{0}' is taken by another live process")]
    NameTaken(String),
    /// No more neighbours are taken.
    #[error("this cell has {0} neighbours already")]
    TooManyLinks(usize),
    /// Too many handshakes at once; the oldest goes.
    #[error("pushed out by newer handshakes, {0} at most may be unfinished")]
    Crowded(usize),
}

impl LinkError {
    /// Whether one side does not trust the other: a certificate was refused, or a name that it does not allow.
    pub fn is_unauthorised(&self) -> bool {
        match self {
            Self::Identity(_) => true,
            Self::Transport(error) => error.is_unauthorised(),
            _ => false,
        }
    }
}

impl From<TransportError> for LinkError {
    fn from(error: TransportError) -> Self {
        match error {
            TransportError::Closed => Self::Closed,
            error => Self::Transport(error),
        }
    }
}

/// The whole chain of causes in one line, for logs and for people.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl Link {
    fn new(links: &Links, opened: &Opened, connection: &Connection) -> Arc<Self> {
        static IDS: AtomicU64 = AtomicU64::new(1);
        Arc::new(Self {
            id: IDS.fetch_add(1, Relaxed),
            peer: opened.peer.clone(),
            cellnet: opened.hello.cellnet.clone(),
            offered: opened.hears_offers(),
            info: connection.info.clone(),
            dialled: opened.dialled,
            outbox: Outbox::new(&links.config, connection, links.budgets.queues.clone()),
            drafts: Drafts::default(),
            transit: Transit::default(),
            opened: Instant::now(),
            end: links.kill.child_token(),
            reason: Mutex::new(None),
            heard: Notify::new(),
            left: OnceLock::new(),
        })
    }

    /// Whether messages of `origin` may come by this link. Who is below `me` speaks for itself and those below it, and so
    /// does everybody who is not above: who is above, or was dialled, speaks for everybody but `me` and those below.
    pub(crate) fn speaks_for(&self, origin: &Fqcn, me: &Fqcn) -> bool {
        let below = me.is_server() || me.is_ancestor_of(&self.peer);
        let above = !below && (self.dialled || self.peer.is_server() || self.peer.is_ancestor_of(me));
        let (top, inside) = if above { (me, false) } else { (&self.peer, true) };
        (origin == top || top.is_ancestor_of(origin)) == inside
    }

    /// Whether heads may travel in their short form. What is offered is what one reads, and what both have offered each
    /// other is done.
    fn compact_heads(&self, config: &LinkConfig) -> bool {
        let offers = |cellnet: &Cellnet| cellnet.features.iter().any(|feature| *feature == COMPACT_HEADS);
        config.compact_heads && self.offered && self.cellnet.as_ref().is_some_and(offers)
    }

    fn head_encoder(&self, config: &LinkConfig) -> HeadEncoder {
        if self.compact_heads(config) { HeadEncoder::compact() } else { HeadEncoder::default() }
    }

    fn head_decoder(&self, config: &LinkConfig) -> HeadDecoder {
        if self.compact_heads(config) { HeadDecoder::compact() } else { HeadDecoder::default() }
    }

    /// Ends the link. The first reason stays.
    pub(crate) fn close(&self, reason: LinkError) {
        let mut first = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        if first.is_none() {
            *first = Some(Arc::new(reason));
        }
        drop(first);
        self.end.cancel();
        self.outbox.close();
    }

    /// Notes that the peer said bye, so that the end of the connection is no surprise.
    pub(crate) fn said_bye(&self) {
        let mut first = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| Arc::new(LinkError::Bye));
        self.left.get_or_init(Instant::now);
    }

    fn said_bye_before(&self) -> bool {
        self.left.get().is_some()
    }

    /// Whether the peer said bye so long ago that it should have closed the connection.
    fn overstays(&self, stall: Duration) -> bool {
        self.left.get().is_some_and(|left| left.elapsed() >= stall)
    }

    /// Why it ended; `Closed` while nobody said.
    pub(crate) fn reason(&self) -> Arc<LinkError> {
        let reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        reason.clone().unwrap_or_else(|| Arc::new(LinkError::Closed))
    }

    /// How long the peer may be silent.
    fn silence(&self, config: &LinkConfig) -> Duration {
        if self.cellnet.is_some() { config.silence } else { config.stranger_silence }
    }

    /// Whether the peer shows life within `patience`, asked by PING: it sends, or takes the bytes that are in front of
    /// the PING.
    async fn answers_within(&self, patience: Duration) -> bool {
        let meter = &self.info.meter;
        let before = (meter.rx(), meter.tx());
        let heard = self.heard.notified();
        self.outbox.ping();
        tokio::select! {
            () = heard => true,
            () = self.end.cancelled() => false,
            () = tokio::time::sleep(patience) => meter.rx() != before.0 || meter.tx() > before.1 + PING_BYTES,
        }
    }
}

/// The PING that asks, which the system takes whether or not the peer lives.
const PING_BYTES: u64 = 17;

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("peer", &self.peer)
            .field("remote", &self.info.remote)
            .finish_non_exhaustive()
    }
}
