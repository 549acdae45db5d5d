//! Sizes, deadlines and intervals of a cell.

use std::time::Duration;

use crate::link::LinkConfig;

/// How a cell behaves. The defaults are those of the documentation of each field.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CellConfig {
    /// Links to neighbours.
    pub link: LinkConfig,
    /// Streams.
    pub stream: crate::stream::StreamConfig,
    /// Handlers that run at the same time. 1,024; those for one neighbour use as many at most as are free for others.
    pub handlers: usize,
    /// Messages of one neighbour that wait for a handler. 4,096.
    pub waiting_messages: usize,
    /// Bytes of messages of one neighbour that wait for a handler. 8 MiB.
    pub waiting_bytes: usize,
    /// Bytes of messages of all neighbours that wait for a handler. 128 MiB.
    pub all_waiting_bytes: usize,
    /// Requests of this cell that wait for a reply. 65,536.
    pub requests: usize,
    /// How long a request waits if it does not say. 10 s without progress.
    pub timeout: Duration,
    /// Largest payload of a message that does not stream, in bytes. 2,144,337,904, the reference's limit.
    pub max_message: usize,
    /// Memory for the bodies of frames above 32 KiB, from their first byte until their last use; frames above 1 MiB
    /// may use half of it. 1 GiB.
    pub frame_budget: usize,
    /// Memory for messages on their way out that are not small. 256 MiB.
    pub queue_budget: usize,
    /// Memory for windows of incoming streams, reserved when a stream begins; one neighbour may have half of it. 512 MiB,
    /// so that a relay can bring 16 streams at once.
    pub stream_budget: usize,
    /// Memory for blobs that are collected for a handler or as a reply, reserved as they grow. 4 GiB.
    pub blob_budget: usize,
    /// Memory for blocks of transfers in transit, which this cell keeps for other cells behind it that pull the same. 16 MiB;
    /// 0 keeps nothing, and every block comes from its source. See "Relay cache" in docs/transfers.md.
    pub block_cache: usize,
    /// How long a request for a block may wait here while others that pull the same catch up, if what they need would have
    /// to make room for it. 2 s; 0 lets everybody run ahead. Children that are slower than a window (4 MiB) in this time are
    /// not waited for.
    pub block_hold: Duration,
    /// How long neighbours have to answer a bye. 500 ms.
    pub bye: Duration,
    /// What happens to messages whose link does not speak for their origin. They are dropped.
    pub origins: OriginCheck,
}

/// What happens to messages whose link does not speak for their origin. All are counted in
/// [`Counters::foreign_origins`](crate::stats::Counters::foreign_origins) and logged.
///
/// A neighbour below speaks for itself and for names below its own. One above, or one that this cell dialled, speaks for
/// everybody but this cell and names below its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OriginCheck {
    /// They are dropped.
    #[default]
    Enforce,
    /// They pass, as in the reference. For networks whose names do not follow their links.
    Warn,
}

impl Default for CellConfig {
    fn default() -> Self {
        Self {
            link: LinkConfig::default(),
            stream: crate::stream::StreamConfig::default(),
            handlers: 1024,
            waiting_messages: 4096,
            waiting_bytes: 8 << 20,
            all_waiting_bytes: 128 << 20,
            requests: 65_536,
            timeout: Duration::from_secs(10),
            max_message: 2_144_337_904,
            frame_budget: 1 << 30,
            queue_budget: 256 << 20,
            stream_budget: 512 << 20,
            blob_budget: 4 << 30,
            block_cache: 16 << 20,
            block_hold: Duration::from_secs(2),
            bye: Duration::from_millis(500),
            origins: OriginCheck::Enforce,
        }
    }
}
