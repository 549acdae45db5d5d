//! Clocks that run on bytes: when a peer is silent, when a write is stalled.

use std::{future::Future, time::Duration};

use tokio::time::Instant;

use super::LinkError;
use crate::{stats::Meter, transport::TransportError};

/// What to do about a quiet peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pulse {
    /// Nothing.
    Fine,
    /// Ask for a sign of life.
    Ask,
    /// Give it up.
    Gone,
}

/// Watches one connection for silence. Runs on bytes, so that a frame which takes long is a sign of life.
#[derive(Debug)]
pub(super) struct Liveness {
    heartbeat: Duration,
    silence: Duration,
    seen: u64,
    heard: Instant,
    asked: Option<Instant>,
    next: Instant,
}

impl Liveness {
    pub(super) fn new(heartbeat: Duration, silence: Duration, meter: &Meter, now: Instant) -> Self {
        Self {
            heartbeat,
            silence,
            seen: meter.rx(),
            heard: now,
            asked: None,
            next: now + heartbeat.min(silence),
        }
    }

    /// Something came, or the clock stood still until now because we did not read.
    pub(super) fn heard(&mut self, meter: &Meter, now: Instant) {
        self.seen = meter.rx();
        self.heard = now;
        self.asked = None;
    }

    /// When to [`check`](Self::check) next.
    pub(super) fn next_check(&self) -> Instant {
        self.next
    }

    /// Looks at the meter.
    pub(super) fn check(&mut self, meter: &Meter, now: Instant) -> Pulse {
        if meter.rx() != self.seen {
            // Part of a frame: it came somewhere since the last look, so look again soon.
            self.heard(meter, now);
            self.next = now + (self.silence / PARTIAL_CHECKS).min(self.heartbeat);
            return Pulse::Fine;
        }
        let quiet = now - self.heard;
        if quiet >= self.silence {
            return Pulse::Gone;
        }
        let ask = quiet >= self.heartbeat && self.asked.is_none_or(|asked| now - asked >= self.heartbeat);
        if ask {
            self.asked = Some(now);
        }
        let again = self.asked.unwrap_or(self.heard) + self.heartbeat;
        self.next = again.min(self.heard + self.silence).max(now + MIN_CHECK);
        if ask { Pulse::Ask } else { Pulse::Fine }
    }
}

/// While a long frame arrives, its bytes are looked for this often per allowed silence.
const PARTIAL_CHECKS: u32 = 30;
/// However the intervals are configured, checks do not spin.
const MIN_CHECK: Duration = Duration::from_millis(5);

/// A write that waits is looked at this often per allowed stall.
const STALL_CHECKS: u32 = 10;

/// Waits for a write as long as bytes move.
pub(super) async fn unless_stalled(
    meter: &Meter,
    stall: Duration,
    write: impl Future<Output = Result<(), TransportError>>,
) -> Result<(), LinkError> {
    let mut write = std::pin::pin!(write);
    let (mut written, mut moved) = (meter.tx(), Instant::now());
    loop {
        let look = (moved + stall).min(Instant::now() + stall / STALL_CHECKS);
        if let Ok(done) = tokio::time::timeout_at(look, &mut write).await {
            return Ok(done?);
        }
        if meter.tx() != written {
            (written, moved) = (meter.tx(), Instant::now());
        } else if moved.elapsed() >= stall {
            return Err(LinkError::Stalled(stall));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEARTBEAT: Duration = Duration::from_secs(10);
    const SILENCE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_is_asked_twice_and_gone_at_the_deadline() {
        let (meter, start) = (Meter::default(), Instant::now());
        let mut liveness = Liveness::new(HEARTBEAT, SILENCE, &meter, start);
        let mut story = Vec::new();
        loop {
            tokio::time::sleep_until(liveness.next_check()).await;
            let pulse = liveness.check(&meter, Instant::now());
            story.push((start.elapsed().as_secs(), pulse));
            if pulse == Pulse::Gone {
                break;
            }
        }
        assert_eq!(story, [(10, Pulse::Ask), (20, Pulse::Ask), (30, Pulse::Gone)]);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_of_a_long_frame_are_a_sign_of_life() {
        let (meter, start) = (Meter::default(), Instant::now());
        let mut liveness = Liveness::new(HEARTBEAT, SILENCE, &meter, start);
        while start.elapsed() < Duration::from_secs(300) {
            meter.add_rx(1);
            tokio::time::sleep_until(liveness.next_check()).await;
            assert_eq!(liveness.check(&meter, Instant::now()), Pulse::Fine);
        }
        let quiet = Instant::now();
        while liveness.check(&meter, Instant::now()) != Pulse::Gone {
            tokio::time::sleep_until(liveness.next_check()).await;
        }
        assert_eq!(quiet.elapsed(), SILENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_write_is_not_a_stalled_one() {
        let meter = Meter::default();
        let stall = Duration::from_secs(30);
        let slow = async {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(29)).await;
                meter.add_tx(1);
            }
            Ok(())
        };
        assert!(unless_stalled(&meter, stall, slow).await.is_ok());
        let stuck = unless_stalled(&meter, stall, std::future::pending()).await;
        assert!(matches!(stuck, Err(LinkError::Stalled(_))));
    }
}
