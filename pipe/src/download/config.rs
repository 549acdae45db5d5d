//! Sizes, deadlines and counts of downloads.

use std::time::Duration;

/// How a cell offers and pulls. The defaults are those of the documentation of each field.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DownloadConfig {
    /// Transactions that are open at the same time. 4,096.
    pub transactions: usize,
    /// Bytes of arrays that open transactions hold. 64 GiB. Files are not held.
    pub offered_bytes: u64,
    /// Cells that pull from one transaction which does not say how many will. 4,096.
    pub receivers: usize,
    /// How long a transaction waits for progress if its offer does not say. 300 s (`np_min_download_timeout`).
    pub ttl: Duration,
    /// Arrays share an answer while they are smaller than this together. 2 MiB (`np_download_chunk_size`). A larger array
    /// travels alone and whole.
    pub chunk_size: usize,
    /// Bytes of a file in one answer. 5 MiB.
    pub file_chunk_size: usize,
    /// Memory for answers that are being made and sent. 256 MiB; a larger one is made when there is no other.
    pub answer_bytes: usize,
    /// How long a request waits for that memory before it is answered `timeout`, so that its sender asks again, at the end of
    /// the queue and a few times only. 540 s; a puller of the reference waits 600 s.
    pub answer_patience: Duration,
    /// References of finished transactions that are remembered, to answer those whose last answer got lost. 16,384.
    pub finished: usize,
    /// How long they are remembered. 1,800 s.
    pub finished_ttl: Duration,
    /// Arrays that are smaller than this together stay in their message. 64 KiB; the reference sends every array by
    /// reference. It is all of them or none, as a process of the reference that passes both on mixes them up.
    pub inline_below: usize,
    /// Pulling.
    pub pull: PullConfig,
    /// Channels whose messages [`decode`](super::Downloads::decode) leaves alone as if they had `cn__pass_through`.
    /// None.
    pub pass_through_channels: Vec<String>,
}

/// How a cell pulls.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PullConfig {
    /// How long one request waits without a byte that moves. 600 s (`np_streaming_per_request_timeout`).
    pub request_timeout: Duration,
    /// How often a request that timed out is repeated, after 2, 4, 8 … s. 3.
    pub retries: usize,
    /// How long a pull goes on without progress, retries and pauses included. Every answer and every byte of one is
    /// progress. 1,800 s.
    pub progress: Duration,
    /// Bytes that the references of one payload may bring, as they travel. 16 GiB.
    pub max_bytes: u64,
    /// Bytes that all payloads may have brought that are not complete yet. Owners under one root of names may have brought as
    /// many as are still free for others. 32 GiB.
    pub max_all_bytes: u64,
    /// Arrays that the references of one payload may bring. 65,536.
    pub max_items: usize,
    /// Bytes of a file. 1 TiB.
    pub max_file: u64,
    /// References of one payload that are pulled at the same time. 4.
    pub parallel: usize,
    /// References that the cell pulls at the same time; more wait, until [`progress`](Self::progress) is over. Owners under
    /// one root of names may have as many as are still free for others. 64.
    pub at_once: usize,
}

impl Default for DownloadConfig {
    fn default() -> Self {
        Self {
            transactions: 4096,
            offered_bytes: 64 << 30,
            receivers: 4096,
            ttl: Duration::from_secs(300),
            chunk_size: 2 << 20,
            file_chunk_size: 5 << 20,
            answer_bytes: 256 << 20,
            answer_patience: Duration::from_secs(540),
            finished: 16_384,
            finished_ttl: Duration::from_secs(1800),
            inline_below: 64 << 10,
            pull: PullConfig::default(),
            pass_through_channels: Vec::new(),
        }
    }
}

impl Default for PullConfig {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(600),
            retries: 3,
            progress: Duration::from_secs(1800),
            max_bytes: 16 << 30,
            max_all_bytes: 32 << 30,
            max_items: 65_536,
            max_file: 1 << 40,
            parallel: 4,
            at_once: 64,
        }
    }
}
