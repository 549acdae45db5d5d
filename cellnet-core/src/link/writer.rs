//! Writes one lane.

use std::{future::poll_fn, sync::Arc};

use super::{
    Link, LinkError, Links,
    frames::Numbers,
    liveness::unless_stalled,
    outbox::{Outbox, Taken},
    pen::Pen,
};
use crate::transport::FrameSender;

/// Writes one lane until its outbox is closed and empty. The sending half is the pen's, which senders that find the
/// lane idle, or complete a batch, use too, each for one write that does not wait.
pub(super) async fn write_lane(
    links: Arc<Links>,
    link: Arc<Link>,
    lane: usize,
    tx: Box<dyn FrameSender>,
    numbers: Arc<Numbers>,
) -> Result<(), LinkError> {
    let stall = links.config.stall;
    let meter = tx.meter().unwrap_or_else(|| link.info.meter.clone());
    let pen = Pen::new(tx, link.head_encoder(&links.config), numbers, links.counters.clone());
    let held = Held { outbox: &link.outbox, pen: &pen };
    link.outbox.lend(lane, pen.clone());
    loop {
        let taken = pen.ink().dip(&link.outbox, lane);
        match taken {
            Taken::Work(_) => {
                unless_stalled(&meter, stall, poll_fn(|cx| pen.ink().poll_flush(cx))).await?;
                // Whoever else is about to send may do so first: many messages for one write.
                tokio::task::yield_now().await;
            }
            Taken::Nothing => link.outbox.ready(lane).await,
            Taken::End => break,
        }
    }
    let tx = held.pen.ink().tx.take();
    match tx {
        Some(mut tx) => unless_stalled(&meter, stall, tx.close()).await,
        None => Ok(()),
    }
}

/// Ends the use of a pen; if it was writing, others must learn what became of that.
struct Held<'a> {
    outbox: &'a Outbox,
    pen: &'a Pen,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut ink = self.pen.ink();
        ink.tx = None;
        self.outbox.give_back(&mut ink.taken);
    }
}
