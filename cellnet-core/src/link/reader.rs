//! Reads one lane.

use std::{future::pending, pin::pin, sync::Arc};

use tokio::time::{Instant, sleep_until};

use super::{
    Host, Link, LinkError, Park,
    liveness::{Liveness, Pulse},
    turns::Turns,
};
use crate::{
    stats::Budget,
    transport::{Batch, Frame, FrameReceiver, TransportError},
    wire::{FrameKind, HeadDecoder, HeadError, PREFIX_LEN, Prefix},
};

/// Reads one lane until it or the link ends. Sole owner of the receiving half. `batch` holds frames that came with
/// the handshake. What still waits for a next hop stays in `park`.
pub(super) async fn read_lane(
    host: &Host,
    link: &Arc<Link>,
    mut rx: Box<dyn FrameReceiver>,
    mut batch: Batch,
    watch: bool,
    park: &mut Park,
) -> Result<(), LinkError> {
    let config = &host.links.config;
    let meter = &link.info.meter;
    let memory = &host.links.budgets.frames;
    let (mut starved, mut hunger): (Option<Starved>, Option<Instant>) = (None, None);
    let mut heads = link.head_decoder(config);
    let mut liveness = Liveness::new(config.heartbeat, link.silence(config), meter, Instant::now());
    // Whether something came since the lane has last given back what it needed.
    let mut stirred = false;
    // Both wait for the whole life of the link, so they take their places once and not for every message.
    let mut ended = pin!(link.end.cancelled());
    let mut check = pin!(sleep_until(liveness.next_check()));
    let mut turns = Turns::default();
    loop {
        while !park.is_full()
            && let Some(frame) = batch.pop_front()
        {
            take(host, link, park, &mut heads, frame)?;
            if turns.step() {
                // What came of them can be on its way while the next ones are looked at.
                tokio::task::yield_now().await;
            }
        }
        let reading = batch.is_empty() && starved.is_none();
        let releases = memory.releases();
        let room = park.room().clone();
        tokio::select! {
            biased;
            () = &mut ended => return Ok(()),
            () = room.notified(), if !park.is_empty() => park.retry(&*host.inbox, link),
            () = deadline(park), if !park.is_empty() => park.expire(&*host.inbox, link),
            () = &mut check, if (watch || stirred) && reading => {
                if watch {
                    match liveness.check(meter, Instant::now()) {
                        Pulse::Fine => {}
                        Pulse::Ask if link.info.needs_heartbeat => link.outbox.ping(),
                        Pulse::Ask => {}
                        // A driver with a keep-alive of its own finds out by itself.
                        Pulse::Gone if !link.info.needs_heartbeat => liveness.heard(meter, Instant::now()),
                        Pulse::Gone => return Err(LinkError::Silent(link.silence(config))),
                    }
                    check.as_mut().reset(liveness.next_check());
                    // Of many links most have had their busy time.
                    link.outbox.relax();
                }
                // A driver that waits anew gives back what it has read into.
                batch.shrink_to_fit();
                stirred = false;
            }
            fed = feed(memory, starved), if starved.is_some() => {
                fed?;
                starved = None;
            }
            received = rx.recv(&mut batch), if reading => match received {
                // The half-read frame waits in the driver for other frames to finish.
                Err(TransportError::OverBudget(frame)) => {
                    // One deadline for the whole frame, however often others give a little back.
                    let deadline = hunger.get_or_insert_with(|| Instant::now() + config.patience).to_owned();
                    starved = Some(Starved { releases, deadline, frame });
                }
                received => {
                    received?;
                    turns.begin(batch.len(), || host.inbox.awaited());
                    hunger = None;
                    liveness.heard(meter, Instant::now());
                    link.heard.notify_waiters();
                    if !watch && !stirred {
                        check.as_mut().reset(Instant::now() + config.heartbeat);
                    }
                    stirred = true;
                }
            },
        }
        if link.overstays(config.stall) {
            return Err(LinkError::Bye);
        }
        if !reading {
            liveness.heard(meter, Instant::now());
        }
    }
}

/// Gives the parked messages of a link that ended their last chance.
pub(super) async fn empty_park(host: &Host, link: &Arc<Link>, mut park: Park) {
    while !park.is_empty() {
        let room = park.room().clone();
        tokio::select! {
            biased;
            () = host.links.stop.cancelled() => return,
            () = room.notified() => park.retry(&*host.inbox, link),
            () = deadline(&park) => park.expire(&*host.inbox, link),
        }
    }
}

/// A reader that found no memory for the frame it is in.
#[derive(Debug, Clone, Copy)]
struct Starved {
    /// Of the budget, before it was asked.
    releases: u64,
    deadline: Instant,
    frame: usize,
}

/// Waits for memory. Frames that make no progress do not hold it for ever: their peers fall silent.
async fn feed(memory: &Budget, starved: Option<Starved>) -> Result<(), LinkError> {
    let Some(Starved { releases, deadline, frame }) = starved else { return pending().await };
    match tokio::time::timeout_at(deadline, memory.released_since(releases)).await {
        Ok(()) => Ok(()),
        Err(_) => Err(TransportError::OverBudget(frame).into()),
    }
}

async fn deadline(park: &Park) {
    match park.deadline() {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}

fn take(
    host: &Host,
    link: &Arc<Link>,
    park: &mut Park,
    heads: &mut HeadDecoder,
    frame: Frame,
) -> Result<(), LinkError> {
    let prefix = frame.prefix().map_err(|error| LinkError::Protocol(error.to_string()))?;
    match prefix.frame_kind() {
        Some(FrameKind::Data) if prefix.app_id == Prefix::APP_CELL => {
            host.links.counters.received.add(1);
            let head = frame.head().slice(PREFIX_LEN.min(frame.head().len())..);
            let body = (prefix.length as usize).saturating_sub(frame.head().len());
            match heads.decode(&head, body) {
                Ok(headers) => host.inbox.deliver(link, park, headers, frame),
                Err(HeadError::Message(error)) => host.inbox.malformed(link, &error),
                Err(error @ HeadError::Table(_)) => return Err(LinkError::Protocol(error.to_string())),
            }
        }
        Some(FrameKind::Ping) => link.outbox.pong(),
        Some(FrameKind::Pong) => {}
        // The reference closes the connection too: it takes a second HELLO for a newer connection of the same name.
        Some(kind @ (FrameKind::Hello | FrameKind::Ready)) => {
            return Err(LinkError::Protocol(format!("a second {kind:?} on one connection")));
        }
        Some(FrameKind::Data) | None => {
            host.links.counters.dropped.add(1);
            tracing::debug!(peer = %link.peer, kind = prefix.kind, app = prefix.app_id, "frame of no known use dropped");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        future::IntoFuture,
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
        time::Duration,
    };

    use async_trait::async_trait;
    use bytes::Bytes;
    use tokio::{task::JoinSet, time::sleep};
    use uuid::Uuid;

    use super::*;
    use crate::{
        link::frames::{NIL, bare_frame},
        testkit::sim::{Sim, blob, echo},
        transport::{Lane, Target, Transport, framed::FIRST_BUFFER, mem::MemNet},
        wire::hello::Hello,
    };

    fn sim() -> Sim {
        Sim { net: MemNet::new().with_bulk_lanes(2), ..Sim::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_gives_back_what_its_busy_time_needed() {
        let sim = sim();
        let (server, site) = (sim.cell("server", &[]).await, sim.cell("site", &["server"]).await);
        server.handle("task", "*", echo);
        let ask = |bytes| site.request(server.name(), "task", "t", blob(bytes)).into_future();
        let sizes = (0..100).flat_map(|_| [1000, 100_000]);
        let replies = sizes.map(ask).collect::<JoinSet<_>>().join_all().await;
        assert!(replies.iter().all(Result::is_ok));
        let link = server.inner().links.table.get("site").unwrap();
        let busy = link.outbox.capacity();
        sleep(Duration::from_secs(25)).await;
        let idle = link.outbox.capacity();
        assert!(!link.end.is_cancelled() && busy >= 100 && idle < 10, "{busy}, {idle} after a PING");
    }

    #[tokio::test(start_paused = true)]
    async fn a_bulk_lane_with_half_a_frame_gives_back_what_it_has_read_a_rush_into() {
        let sim = sim();
        let server = sim.cell("server", &[]).await;
        let target = Target::new("mem://server".parse().unwrap(), Budget::new(1 << 20));
        let mut peer = sim.net.host("peer").connect(&target).await.unwrap();
        let hello = Hello { name: "peer".into(), cellnet: None, timestamp: 0.0 }.encode();
        write(&mut peer.control, [bare_frame(FrameKind::Hello, 1, 1, hello)].into()).await;
        peer.control.rx.recv(&mut Batch::new()).await.unwrap();
        let frame = bare_frame(FrameKind::Pong, 17, 1, Bytes::from_static(&[0; 1000]));
        let half = Frame::new(frame.head().clone(), Bytes::new());
        write(&mut peer.bulk[0], std::iter::repeat_n(frame, 60).chain([half]).collect()).await;
        sleep(Duration::from_secs(1)).await;
        let spares = server.inner().links.budgets.frames.read_buffers();
        // For the lanes that find nothing to read.
        spares.put_back(Vec::with_capacity(FIRST_BUFFER));
        let busy = spares.kept();
        sleep(Duration::from_secs(10)).await;
        assert_eq!(spares.kept(), busy + 1);
    }

    /// A driver whose reads bring so many frames each, the last first, and that never makes the reader wait.
    #[derive(Debug)]
    struct Bursts(Vec<usize>);

    #[async_trait]
    impl FrameReceiver for Bursts {
        async fn recv(&mut self, batch: &mut Batch) -> Result<(), TransportError> {
            let frames = self.0.pop().ok_or(TransportError::Closed)?;
            batch.extend((0..frames).map(|_| bare_frame(FrameKind::Pong, 17, 1, NIL)));
            Ok(())
        }

        fn set_max_frame(&mut self, _: usize) {}
    }

    #[tokio::test(start_paused = true)]
    async fn others_have_their_turn_whatever_reads_bring() {
        let sim = sim();
        let (server, site) = (sim.cell("server", &[]).await, sim.cell("site", &["server"]).await);
        site.connected().await;
        let inner = server.inner();
        let link = inner.links.table.get("site").unwrap();
        let host = Host { links: inner.links.clone(), inbox: Arc::new(inner.clone()) };
        let _awaited: Vec<_> =
            (0..8).map(|id| inner.pending.begin(Uuid::from_u128(id), None, link.id).unwrap()).collect();
        for (bursts, turns) in [
            (vec![1; 100], 3),
            (vec![10], 1),
            (vec![8], 2),
            (vec![64], 2),
            (vec![9; 10], 10),
            (vec![0; 3], 0),
        ] {
            let seen = Arc::new(AtomicUsize::new(0));
            let count = seen.clone();
            let other = tokio::spawn(async move {
                loop {
                    tokio::task::yield_now().await;
                    count.fetch_add(1, Relaxed);
                }
            });
            tokio::task::yield_now().await;
            let mut park = Park::new(&host.links.config, &host.links.budgets.queues);
            let (rx, before) = (Box::new(Bursts(bursts.clone())), seen.load(Relaxed));
            read_lane(&host, &link, rx, Batch::new(), false, &mut park).await.unwrap_err();
            other.abort();
            assert_eq!(seen.load(Relaxed) - before, turns, "{bursts:?}");
        }
    }

    async fn write(lane: &mut Lane, mut batch: Batch) {
        lane.tx.feed(&mut batch);
        assert!(batch.is_empty());
        lane.tx.flush().await.unwrap();
    }
}
