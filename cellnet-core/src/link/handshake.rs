//! HELLO and READY: how a connection becomes a link.

use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;

use super::{
    LinkConfig, LinkError, Links,
    frames::{NIL, bare_frame},
};
use crate::{
    fqcn::Fqcn,
    identity::Claim,
    tls::TlsMode,
    transport::{Batch, Connection, ConnectionInfo, Frame, Lane},
    wire::{
        COMPACT_HEADS, FrameKind,
        hello::{Cellnet, Hello},
    },
};

/// Who we are towards neighbours.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) me: Fqcn,
    /// Random per process start. What those below are told is another, or they could take this cell's links above for
    /// theirs.
    hello: [u8; 16],
    ready: [u8; 16],
}

impl Identity {
    pub(crate) fn new(me: Fqcn) -> Self {
        let random = || uuid::Uuid::new_v4().into_bytes();
        Self { me, hello: random(), ready: random() }
    }

    fn payload(&self, instance: [u8; 16], config: &LinkConfig) -> Bytes {
        let offers = config.compact_heads.then(|| COMPACT_HEADS.into());
        let cellnet = Some(Cellnet { features: offers.into_iter().collect(), ..Cellnet::new(instance) });
        Hello { name: self.me.as_text().clone(), cellnet, timestamp: crate::message::unix_time() }.encode()
    }

    /// The peer's name, if it may have it.
    fn peer(&self, name: &ByteString) -> Result<Fqcn, LinkError> {
        let peer = Fqcn::parse(name.clone()).map_err(|error| LinkError::Protocol(error.to_string()))?;
        if peer == self.me {
            return Err(LinkError::Protocol(format!("it has this cell's own name '{peer}'")));
        }
        Ok(peer)
    }
}

/// What a handshake found out.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) peer: Fqcn,
    pub(super) hello: Hello,
    /// Whether this cell dialled.
    pub(super) dialled: bool,
    /// Whether the peer waits for READY. One that opens with READY itself does not.
    pub(super) wants_ready: bool,
    /// Frames that came along.
    pub(super) early: Batch,
}

impl Opened {
    /// Whether the peer hears what this cell offers: in our HELLO, or in the READY it waits for.
    pub(super) fn hears_offers(&self) -> bool {
        self.dialled || self.wants_ready
    }
}

/// Opens a connection that we dialled: HELLO, READY, and with a stranger PING until PONG, because the reference drops
/// data that comes before its READY took effect.
pub(super) async fn active(links: &Links, connection: &mut Connection) -> Result<Opened, LinkError> {
    let Links { identity, config, .. } = links;
    within(config.dial_deadline, async {
        let lane = &mut connection.control;
        send(lane, bare_frame(FrameKind::Hello, 1, 1, identity.payload(identity.hello, config))).await?;
        let mut early = Batch::new();
        let hello = expect(lane, &mut early, &[FrameKind::Ready]).await?.1;
        let peer = identity.peer(&hello.name)?;
        check(links, &peer, &connection.info, true)?;
        accept_large_frames(connection, config);
        if hello.cellnet.is_none() {
            ping_until_heard(&mut connection.control, &mut early).await?;
        }
        Ok(Opened { peer, hello, dialled: true, wants_ready: false, early })
    })
    .await
}

/// First half of the handshake on a connection that came to us. The second is [`send_ready`], after the name was
/// claimed.
pub(super) async fn passive(links: &Links, connection: &mut Connection) -> Result<Opened, LinkError> {
    let mut early = Batch::new();
    let (kind, hello) =
        expect(&mut connection.control, &mut early, &[FrameKind::Hello, FrameKind::Ready]).await?;
    let peer = links.identity.peer(&hello.name)?;
    check(links, &peer, &connection.info, false)?;
    accept_large_frames(connection, &links.config);
    Ok(Opened { peer, hello, dialled: false, wants_ready: kind == FrameKind::Hello, early })
}

/// Tells the peer that it may send.
pub(super) async fn send_ready(links: &Links, connection: &mut Connection) -> Result<(), LinkError> {
    let Links { identity, config, .. } = links;
    let ready = identity.payload(identity.ready, config);
    send(&mut connection.control, bare_frame(FrameKind::Ready, 1, 1, ready)).await
}

/// Runs a part of a handshake with a deadline.
pub(super) async fn within<T>(
    deadline: Duration,
    part: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    tokio::time::timeout(deadline, part).await.unwrap_or(Err(LinkError::HandshakeTimeout(deadline)))
}

/// Whether the peer may have its name: by its certificate, if the mode has it show one. Who connects without one may have
/// any name, except that a cell with credentials takes nobody unproven for a cell above, whose word counts for others.
fn check(links: &Links, name: &Fqcn, info: &ConnectionInfo, dialled: bool) -> Result<(), LinkError> {
    let me = &links.identity.me;
    let shown = match info.tls {
        TlsMode::Clear => false,
        TlsMode::Tls => dialled,
        TlsMode::Mtls => true,
    };
    if !shown {
        let above = name.is_server() || name.is_ancestor_of(me);
        if above && !dialled && links.has_credentials() {
            let text = format!("'{name}' is above this cell, and it showed no certificate");
            return Err(LinkError::Identity(text));
        }
        return Ok(());
    }
    let cn = info.peer_cn.as_deref().unwrap_or_default();
    let mut claim = Claim::new(name, cn, me, &links.table);
    claim.dialled = dialled;
    links.policy.check(&claim).map_err(LinkError::Identity)
}

/// Frames of other kinds that a peer may send before the one that is due; the reference ignores them too.
const MAX_STRAY_FRAMES: usize = 64;

/// A PING may have been dropped if it came before the peer had registered us.
const PING_AGAIN: Duration = Duration::from_millis(200);

fn accept_large_frames(connection: &mut Connection, config: &LinkConfig) {
    let lanes = std::iter::once(&mut connection.control).chain(&mut connection.bulk);
    lanes.for_each(|lane| lane.rx.set_max_frame(config.max_frame));
}

async fn send(lane: &mut Lane, frame: Frame) -> Result<(), LinkError> {
    let mut batch = Batch::from([frame]);
    while !batch.is_empty() {
        lane.tx.feed(&mut batch);
        lane.tx.flush().await?;
    }
    Ok(())
}

/// Waits for one of `wanted` and reads its payload. What follows it stays in `batch`.
async fn expect(
    lane: &mut Lane,
    batch: &mut Batch,
    wanted: &[FrameKind],
) -> Result<(FrameKind, Hello), LinkError> {
    for _ in 0..MAX_STRAY_FRAMES {
        let frame = next(lane, batch).await?;
        if frame.is_truncated() {
            let length = frame.prefix().map(|prefix| prefix.length).unwrap_or_default();
            return Err(LinkError::Protocol(format!("a frame of {length} bytes before HELLO")));
        }
        let kind = frame.prefix().ok().and_then(|prefix| prefix.frame_kind());
        if let Some(kind) = kind.filter(|kind| wanted.contains(kind)) {
            let hello =
                Hello::decode(frame.body()).map_err(|error| LinkError::Protocol(error.to_string()))?;
            return Ok((kind, hello));
        }
    }
    Err(LinkError::Protocol(format!("{MAX_STRAY_FRAMES} frames without HELLO")))
}

async fn ping_until_heard(lane: &mut Lane, early: &mut Batch) -> Result<(), LinkError> {
    // Data proves as well as PONG that the peer knows us.
    while early.is_empty() {
        send(lane, bare_frame(FrameKind::Ping, PING_STREAM, 2, NIL)).await?;
        if let Ok(received) = tokio::time::timeout(PING_AGAIN, lane.rx.recv(early)).await {
            received?;
        }
    }
    Ok(())
}

/// Stream ids below 17 are the handshake's.
const PING_STREAM: u16 = 17;

async fn next(lane: &mut Lane, batch: &mut Batch) -> Result<Frame, LinkError> {
    loop {
        if let Some(frame) = batch.pop_front() {
            return Ok(frame);
        }
        lane.rx.recv(batch).await?;
    }
}
