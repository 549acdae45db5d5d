//! What the receiver of a stream makes of each chunk.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use bytestring::ByteString;
use tokio::time::Instant;

use super::{
    ChunkHeader, ChunkKind, StreamConfig,
    params::clipped,
    ready::{Ready, owned_if_small},
};

/// The receiving end of one stream: puts chunks in order, each once, within a bounded memory.
///
/// Sources of the rules: `fuel/f3/streaming/byte_receiver.py`, `blob_streamer.py`. Deliberately better than those:
///
/// * An empty chunk in the middle and a wrong length are errors that the sender can be told; there the stream just
///   ends or fails in silence.
/// * Chunks out of order are bounded by the window and by [`MAX_AHEAD`], not by 16, which the reference itself exceeds.
/// * What an application has not used is bounded; there it is not.
/// * A stream whose chunk 0 never comes has a deadline like any other, and the deadline stands still while it is the
///   application that others wait for.
#[derive(Debug)]
pub struct RecvState {
    config: StreamConfig,
    limit: u64,
    /// The number of the chunk that continues the data.
    expected: u64,
    ahead: BTreeMap<u64, Bytes>,
    ahead_bytes: u64,
    ready: Ready,
    largest: u64,
    total: Option<u64>,
    last: Option<u64>,
    received: u64,
    handed_out: u64,
    consumed: u64,
    acked: u64,
    acked_at: Instant,
    /// The last chunk that was new, or the moment from which nothing but the sender was waited for.
    moved: Instant,
    failed: bool,
}

/// What a chunk was good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It continues the data: there is something to read, or the stream is complete.
    InOrder,
    /// It waits for an earlier one.
    Ahead,
    /// It was here before, or the stream has failed already.
    Ignored,
}

/// What was used is acknowledged after so long even if it is little, so that a slow application, or a slow hop behind a
/// relay, does not look like one that has stopped.
const ACK_AFTER: Duration = Duration::from_secs(1);

/// How many chunks a chunk may be ahead of the next expected one. A process of the reference may reorder some 100.
pub const MAX_AHEAD: u64 = 4096;

/// Why a stream could not be received.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// A message with data that is neither a chunk nor the last one.
    #[error("message of kind {0:?} among the data")]
    NotData(ChunkKind),
    /// Further ahead than [`MAX_AHEAD`].
    #[error("chunk {sequence} came while {expected} was next, too far ahead")]
    TooFarAhead {
        /// The chunk.
        sequence: u64,
        /// The one that was next.
        expected: u64,
    },
    /// More than the window, which a sender that waits for ACKs does not send.
    #[error("sender exceeds the window: {held} bytes are not used yet, {window} allowed")]
    WindowExceeded {
        /// Bytes that would be held.
        held: u64,
        /// [`StreamConfig::recv_window`].
        window: u64,
    },
    /// A chunk above [`StreamConfig::max_chunk`].
    #[error("chunk of {len} bytes, at most {max} accepted")]
    ChunkTooLarge {
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// No data and yet not the last chunk.
    #[error("chunk {0} is empty and not the last")]
    EmptyChunk(u64),
    /// A chunk behind the last one.
    #[error("chunk {sequence} is behind the last one, {last}")]
    AfterLast {
        /// The chunk.
        sequence: u64,
        /// The last one.
        last: u64,
    },
    /// More data than announced.
    #[error("stream has {found} bytes and announced {total}")]
    TooLong {
        /// Bytes announced.
        total: u64,
        /// Bytes that came, at least.
        found: u64,
    },
    /// Less data than announced.
    #[error("stream ended after {found} of {total} bytes")]
    TooShort {
        /// Bytes announced.
        total: u64,
        /// Bytes that came.
        found: u64,
    },
    /// A blob above [`StreamConfig::max_blob`], announced or come.
    #[error("blob of {size} bytes or more, at most {limit} accepted")]
    BlobTooLarge {
        /// Bytes announced, or come so far.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// No new chunk came in time.
    #[error("no chunk for {patience:?}, {received} bytes came before")]
    Idle {
        /// How long nothing came.
        patience: Duration,
        /// Bytes that came in order.
        received: u64,
    },
    /// The sender, or a relay on the way, reports an error.
    #[error("sender reports: {0}")]
    Peer(ByteString),
}

impl RecvState {
    /// A byte stream of any length, whose application reads while it comes.
    pub fn stream(config: &StreamConfig, now: Instant) -> Self {
        Self {
            config: *config,
            limit: u64::MAX,
            expected: 0,
            ahead: BTreeMap::new(),
            ahead_bytes: 0,
            ready: Ready::default(),
            largest: 0,
            total: None,
            last: None,
            received: 0,
            handed_out: 0,
            consumed: 0,
            acked: 0,
            acked_at: now,
            moved: now,
            failed: false,
        }
    }

    /// A stream that is collected in memory: refused above [`StreamConfig::max_blob`].
    pub fn blob(config: &StreamConfig, now: Instant) -> Self {
        Self { limit: config.max_blob, ..Self::stream(config, now) }
    }

    /// Takes a chunk. Only `kind`, `sequence` and, of chunk 0, `size` matter.
    ///
    /// An error is final: what is held is let go, and further chunks are ignored.
    pub fn on_chunk(
        &mut self,
        header: &ChunkHeader,
        body: Bytes,
        now: Instant,
    ) -> Result<Arrival, RecvError> {
        if self.failed {
            return Ok(Arrival::Ignored);
        }
        let arrival = self.take(header, body).map_err(|error| self.fail(error))?;
        if arrival != Arrival::Ignored {
            self.moved = now;
        }
        Ok(arrival)
    }

    /// The sender reports an error. None if it is too late to matter: all has come, or the stream has failed already.
    pub fn on_error(&mut self, text: &str) -> Option<RecvError> {
        (!self.failed && !self.is_complete()).then(|| self.fail(RecvError::Peer(clipped(text))))
    }

    /// The next data in order, if it is there. Chunks that were small may come as one piece.
    pub fn read(&mut self) -> Option<Bytes> {
        let data = self.ready.pop()?;
        self.handed_out += data.len() as u64;
        Some(data)
    }

    /// The application has used `bytes` more of what [`read`](Self::read) gave.
    ///
    /// Gives the offset of an ACK that is to be sent now: after [`StreamConfig::ack_interval`], or a second after the last
    /// ACK however little was used. There is none once the last chunk is here: nobody waits for it.
    pub fn consumed(&mut self, bytes: u64, now: Instant) -> Option<u64> {
        let bytes = bytes.min(self.handed_out - self.consumed);
        self.consumed += bytes;
        if bytes > 0 && self.is_waiting() {
            self.moved = now;
        }
        let unknown = self.consumed - self.acked;
        let late = unknown > 0 && now.saturating_duration_since(self.acked_at) >= ACK_AFTER;
        let due = late || unknown >= self.config.ack_due();
        if !due || self.last.is_some() || self.failed {
            return None;
        }
        self.acked = self.consumed;
        self.acked_at = now;
        Some(self.acked)
    }

    /// When [`expire`](Self::expire) will fail the stream. None while it is the application that others wait for.
    pub fn deadline(&self) -> Option<Instant> {
        let clock_runs = self.is_waiting() && !self.is_complete() && !self.failed;
        clock_runs.then(|| self.moved.checked_add(self.config.idle_patience)).flatten()
    }

    /// Fails the stream if its deadline has passed.
    pub fn expire(&mut self, now: Instant) -> Result<(), RecvError> {
        match self.deadline() {
            Some(deadline) if deadline <= now => {
                let (patience, received) = (self.config.idle_patience, self.received);
                Err(self.fail(RecvError::Idle { patience, received }))
            }
            _ => Ok(()),
        }
    }

    /// Whether all chunks are here, read or not.
    pub fn is_complete(&self) -> bool {
        !self.failed && self.last.is_some_and(|last| last < self.expected)
    }

    /// Whether the stream ended in an error.
    pub fn is_failed(&self) -> bool {
        self.failed
    }

    /// Bytes that came in order.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Bytes of the whole stream, once chunk 0 has announced them.
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// Bytes that count against the window: those out of order, those not read and those read but not used.
    pub fn held(&self) -> u64 {
        self.received - self.consumed + self.ahead_bytes
    }

    /// Bytes kept in memory here: [`held`](Self::held) without those that were read.
    pub fn buffered(&self) -> u64 {
        self.received - self.handed_out + self.ahead_bytes
    }

    /// Pieces kept in memory here.
    pub fn pieces(&self) -> usize {
        self.ahead.len() + self.ready.pieces()
    }

    fn take(&mut self, header: &ChunkHeader, body: Bytes) -> Result<Arrival, RecvError> {
        if !header.kind.is_data() {
            return Err(RecvError::NotData(header.kind));
        }
        let (sequence, is_last) = (header.sequence, header.kind == ChunkKind::Final);
        if sequence < self.expected || self.ahead.contains_key(&sequence) {
            return Ok(Arrival::Ignored);
        }
        self.check_place(sequence, is_last)?;
        if body.is_empty() && !is_last {
            return Err(RecvError::EmptyChunk(sequence));
        }
        if sequence == 0 && header.size > 0 {
            self.total = Some(header.size);
        }
        self.check_size(body.len())?;
        if is_last {
            self.last = Some(sequence);
        }
        if sequence > self.expected {
            self.ahead_bytes += body.len() as u64;
            self.ahead.insert(sequence, owned_if_small(body));
            return Ok(Arrival::Ahead);
        }
        self.append(body);
        while let Some(body) = self.ahead.remove(&self.expected) {
            self.ahead_bytes -= body.len() as u64;
            self.append(body);
        }
        match self.total {
            Some(total) if self.is_complete() && self.received < total => {
                Err(RecvError::TooShort { total, found: self.received })
            }
            _ => Ok(Arrival::InOrder),
        }
    }

    fn check_place(&self, sequence: u64, is_last: bool) -> Result<(), RecvError> {
        if let Some(last) = self.last
            && sequence > last
        {
            return Err(RecvError::AfterLast { sequence, last });
        }
        if let Some((&further, _)) = self.ahead.last_key_value()
            && is_last
            && further > sequence
        {
            return Err(RecvError::AfterLast { sequence: further, last: sequence });
        }
        if sequence - self.expected > MAX_AHEAD {
            return Err(RecvError::TooFarAhead { sequence, expected: self.expected });
        }
        Ok(())
    }

    /// A sender stays within its window plus the chunk that it sent last, so that much is allowed in whatever order.
    fn check_size(&mut self, len: usize) -> Result<(), RecvError> {
        let (max, window) = (self.config.max_chunk, self.config.recv_window);
        if len > max {
            return Err(RecvError::ChunkTooLarge { len, max });
        }
        self.largest = self.largest.max(len as u64);
        let held = self.held() + len as u64;
        if held > window.saturating_add(self.largest) {
            return Err(RecvError::WindowExceeded { held, window });
        }
        let found = self.received + self.ahead_bytes + len as u64;
        if let Some(total) = self.total
            && found > total
        {
            return Err(RecvError::TooLong { total, found });
        }
        let size = found.max(self.total.unwrap_or(0));
        if size > self.limit {
            return Err(RecvError::BlobTooLarge { size, limit: self.limit });
        }
        Ok(())
    }

    fn append(&mut self, body: Bytes) {
        self.expected += 1;
        self.received += body.len() as u64;
        self.ready.push(body);
    }

    /// Whether all that came in order was used, so that only the sender can move the stream.
    fn is_waiting(&self) -> bool {
        self.consumed == self.received
    }

    fn fail(&mut self, error: RecvError) -> RecvError {
        self.failed = true;
        self.ahead = BTreeMap::new();
        self.ahead_bytes = 0;
        self.ready = Ready::default();
        (self.handed_out, self.consumed) = (self.received, self.received);
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: u64 = 100;

    fn config() -> StreamConfig {
        StreamConfig { recv_window: WINDOW, max_chunk: 50, max_blob: 1000, ..StreamConfig::default() }
    }

    fn take(state: &mut RecvState, sequence: u64, len: usize, last: bool) -> Result<Arrival, RecvError> {
        let header = ChunkHeader::data(1, sequence, 0, last);
        state.on_chunk(&header, Bytes::from(vec![b'x'; len]), Instant::now())
    }

    #[test]
    fn an_ack_is_due_after_a_quarter_of_the_window_and_never_after_the_last_chunk() {
        let now = Instant::now();
        let mut state = RecvState::stream(&config(), now);
        for sequence in 0..4 {
            assert_eq!(take(&mut state, sequence, 13, false), Ok(Arrival::InOrder));
        }
        while state.read().is_some() {}
        assert_eq!(state.consumed(24, now), None);
        assert_eq!(state.consumed(1, now), Some(25));
        assert_eq!(state.consumed(0, now), None);
        assert_eq!(take(&mut state, 4, 1, true), Ok(Arrival::InOrder));
        assert_eq!(state.consumed(u64::MAX, now), None);
        assert_eq!(state.held(), 1);
    }

    #[test]
    fn what_was_used_is_acknowledged_a_second_after_the_last_ack() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut state = RecvState::stream(&config(), start);
        for sequence in 0..4 {
            take(&mut state, sequence, 13, false).unwrap();
        }
        while state.read().is_some() {}
        assert_eq!(state.consumed(1, at(999)), None);
        assert_eq!(state.consumed(1, at(1000)), Some(2));
        assert_eq!(state.consumed(0, at(5000)), None, "nothing new to tell");
        assert_eq!(state.consumed(1, at(5000)), Some(3));
        assert_eq!(state.consumed(25, at(5500)), Some(28), "the interval counts as before");
        assert_eq!(state.consumed(1, at(6499)), None, "the clock starts with every ACK");
        assert_eq!(state.consumed(0, at(6500)), Some(29));
        assert_eq!(take(&mut state, 4, 1, true), Ok(Arrival::InOrder));
        assert_eq!(state.consumed(1, at(60_000)), None);
    }

    #[test]
    fn a_sender_that_ignores_the_window_is_stopped_in_order_or_not() {
        for gap in [0, 1] {
            let mut state = RecvState::stream(&config(), Instant::now());
            for sequence in gap..gap + 12 {
                take(&mut state, sequence, 9, false).unwrap();
            }
            let error = RecvError::WindowExceeded { held: 117, window: WINDOW };
            assert_eq!(take(&mut state, gap + 12, 9, false), Err(error));
            assert_eq!((state.buffered(), state.pieces()), (0, 0));
            assert_eq!(take(&mut state, gap + 13, 9, false), Ok(Arrival::Ignored));
        }
    }

    #[test]
    fn data_that_was_read_but_not_used_counts_against_the_window() {
        let mut state = RecvState::stream(&config(), Instant::now());
        for sequence in 0..3 {
            take(&mut state, sequence, 50, false).unwrap();
            assert!(state.read().is_some());
        }
        assert!(matches!(take(&mut state, 3, 50, false), Err(RecvError::WindowExceeded { held: 200, .. })));
    }

    #[test]
    fn chunks_ahead_are_bounded_in_number() {
        let mut state = RecvState::stream(&StreamConfig::default(), Instant::now());
        assert_eq!(take(&mut state, MAX_AHEAD, 1, false), Ok(Arrival::Ahead));
        let error = RecvError::TooFarAhead { sequence: MAX_AHEAD + 1, expected: 0 };
        assert_eq!(take(&mut state, MAX_AHEAD + 1, 1, false), Err(error));
        let mut state = RecvState::stream(&StreamConfig::default(), Instant::now());
        assert!(take(&mut state, u64::MAX, 1, true).is_err());
    }

    #[test]
    fn nothing_belongs_behind_the_last_chunk() {
        let mut state = RecvState::stream(&config(), Instant::now());
        take(&mut state, 3, 1, true).unwrap();
        assert_eq!(take(&mut state, 4, 1, false), Err(RecvError::AfterLast { sequence: 4, last: 3 }));
        let mut state = RecvState::stream(&config(), Instant::now());
        take(&mut state, 4, 1, false).unwrap();
        assert_eq!(take(&mut state, 3, 1, true), Err(RecvError::AfterLast { sequence: 4, last: 3 }));
    }

    #[test]
    fn a_blob_is_refused_by_what_it_claims_and_by_what_comes() {
        let now = Instant::now();
        let claim = ChunkHeader { size: 1 << 40, ..ChunkHeader::data(1, 0, 0, false) };
        let error = RecvError::BlobTooLarge { size: 1 << 40, limit: 1000 };
        let one = Bytes::from_static(b"x");
        assert_eq!(RecvState::blob(&config(), now).on_chunk(&claim, one.clone(), now), Err(error));
        assert!(RecvState::stream(&config(), now).on_chunk(&claim, one, now).is_ok());

        let mut state = RecvState::blob(&config(), now);
        for sequence in 0..20 {
            take(&mut state, sequence, 50, false).unwrap();
            state.read();
            state.consumed(50, now);
        }
        assert!(matches!(take(&mut state, 20, 1, true), Err(RecvError::BlobTooLarge { size: 1001, .. })));
    }

    #[test]
    fn the_clock_stands_still_while_the_application_has_data() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let chunk = |sequence| ChunkHeader::data(1, sequence, 0, false);
        let mut state = RecvState::stream(&config(), start);
        assert_eq!(state.deadline(), Some(at(300)));
        state.on_chunk(&chunk(1), Bytes::from_static(b"b"), at(10)).unwrap();
        assert_eq!(state.deadline(), Some(at(310)));
        state.on_chunk(&chunk(1), Bytes::from_static(b"b"), at(20)).unwrap();
        assert_eq!(state.deadline(), Some(at(310)), "a duplicate is no progress");
        state.on_chunk(&chunk(0), Bytes::from_static(b"a"), at(30)).unwrap();
        assert_eq!(state.deadline(), None);
        while state.read().is_some() {}
        assert_eq!(state.deadline(), None, "read is not used");
        state.consumed(2, at(1000));
        assert_eq!(state.deadline(), Some(at(1300)));
        assert_eq!(state.expire(at(1299)), Ok(()));
        let idle = RecvError::Idle { patience: Duration::from_secs(300), received: 2 };
        assert_eq!(state.expire(at(1300)), Err(idle));
        assert!(state.is_failed() && state.deadline().is_none());
    }

    #[test]
    fn an_error_of_the_sender_counts_until_all_has_come() {
        let mut state = RecvState::stream(&config(), Instant::now());
        take(&mut state, 0, 1, false).unwrap();
        assert_eq!(state.on_error("boom"), Some(RecvError::Peer("boom".into())));
        assert_eq!((state.on_error("again"), state.read()), (None, None));
        let mut state = RecvState::stream(&config(), Instant::now());
        take(&mut state, 0, 1, true).unwrap();
        assert_eq!(state.on_error("boom"), None);
        assert!(state.is_complete() && state.read().is_some());
    }
}
