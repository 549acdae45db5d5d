//! Several ways to one cell: the first that leads to it.
//!
//! Connections are made side by side, each with a head start over the next. HELLO is said on one of them at a time,
//! because the newer of two links of one process replaces the older: what the peer took for the winner would be what
//! this side drops.

use std::{collections::VecDeque, time::Duration};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{Instrument, Span};

use super::{
    DialError, LinkError, Links,
    handshake::{self, Opened},
};
use crate::{
    transport::{Batch, Connection, Target, TransportError},
    url::CellUrl,
};

/// A connection whose handshake is complete.
pub(super) struct Won {
    pub(super) url: CellUrl,
    pub(super) connection: Connection,
    pub(super) opened: Opened,
    /// Names the URL.
    pub(super) span: Span,
}

/// Tries the URLs in order, the next when the one before had its head start or failed. The others are dropped once one
/// is there. A dropped future leaves nothing behind.
pub(super) async fn race(links: &Links, urls: &[CellUrl]) -> Result<Won, DialError> {
    let mut failures = Vec::new();
    let mut connecting = FuturesUnordered::new();
    let mut connected = VecDeque::new();
    let mut turn: Option<Turn<'_>> = None;
    let (mut next, mut next_at) = (0, Instant::now());
    loop {
        if next < urls.len() && next_at <= Instant::now() {
            connecting.push(connect(links, next, &urls[next]));
            next_at = Instant::now() + links.config.head_start;
            next += 1;
        }
        if turn.is_none() {
            turn = connected.pop_front().map(|candidate| Turn::new(links, candidate));
        }
        let Some(until) =
            turn.as_ref().map(|turn| turn.until).or((!connecting.is_empty()).then_some(next_at))
        else {
            // Whoever failed let the next begin at once, so nobody is left.
            return Err(DialError::of_round(urls, failures));
        };
        let failure = tokio::select! {
            biased;
            (at, ended) = Turn::end(&mut turn), if turn.is_some() => {
                turn = None;
                match ended {
                    Ok(won) => return Ok(won),
                    Err(error) => Some((at, error)),
                }
            }
            Some((at, ended)) = connecting.next(), if !connecting.is_empty() => match ended {
                Ok(candidate) => {
                    connected.push_back(candidate);
                    None
                }
                Err(error) => Some((at, error)),
            },
            () = sleep_until(until), if turn.is_some() && !connected.is_empty() => {
                turn.take().map(|turn| (turn.at, LinkError::HandshakeTimeout(TURN)))
            }
            () = sleep_until(next_at), if next < urls.len() => None,
        };
        if let Some(failure) = failure {
            failures.push(failure);
            next_at = Instant::now();
        }
    }
}

/// How long a handshake may take while another connection waits for its turn. Peers that work take some round trips;
/// one that waits for longer than its own deadline for HELLO is closed.
const TURN: Duration = Duration::from_secs(2);

/// A connection that has to say HELLO yet.
struct Candidate {
    at: usize,
    url: CellUrl,
    connection: Connection,
    span: Span,
}

async fn connect(links: &Links, at: usize, url: &CellUrl) -> (usize, Result<Candidate, LinkError>) {
    let span = tracing::debug_span!("dial", %url);
    let mut target = Target::new(url.clone(), links.budgets.frames.clone());
    target.silence = links.config.silence;
    #[cfg(feature = "tls")]
    target.tls.clone_from(&links.tls);
    let deadline = links.config.dial_deadline;
    let connected = timeout(deadline, links.transports.connect(&target)).instrument(span.clone()).await;
    let connected = connected.unwrap_or_else(|_| Err(TransportError::Timeout(url.to_string(), deadline)));
    let candidate = connected.map(|connection| Candidate { at, url: url.clone(), connection, span });
    (at, candidate.map_err(LinkError::from))
}

/// The handshake of the one connection that may say HELLO.
struct Turn<'a> {
    at: usize,
    /// From here on somebody else may have a turn instead.
    until: Instant,
    handshake: BoxFuture<'a, Result<Won, LinkError>>,
}

impl<'a> Turn<'a> {
    fn new(links: &'a Links, candidate: Candidate) -> Self {
        let Candidate { at, url, mut connection, span } = candidate;
        let own = span.clone();
        let handshake = async move {
            match handshake::active(links, &mut connection).await {
                Ok(opened) => Ok(Won { url, connection, opened, span: own }),
                Err(error) => Err(last_words(&mut connection, error).await),
            }
        };
        Self { at, until: Instant::now() + TURN, handshake: Box::pin(handshake.instrument(span)) }
    }

    /// Waits for the end of the handshake, for ever if there is none.
    async fn end(turn: &mut Option<Self>) -> (usize, Result<Won, LinkError>) {
        match turn {
            Some(turn) => (turn.at, (&mut turn.handshake).await),
            None => std::future::pending().await,
        }
    }
}

/// A peer that refuses a certificate of TLS 1.3 says so and closes. Who was writing at that moment has an error that
/// says nothing, and the reason waits to be read.
async fn last_words(connection: &mut Connection, error: LinkError) -> LinkError {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    let LinkError::Transport(TransportError::Io { source, .. }) = &error else { return error };
    if !matches!(source.kind(), BrokenPipe | ConnectionAborted | ConnectionReset) {
        return error;
    }
    let mut batch = Batch::new();
    match timeout(TURN, connection.control.rx.recv(&mut batch)).await {
        Ok(Err(reason)) if reason.is_unauthorised() => reason.into(),
        _ => error,
    }
}
