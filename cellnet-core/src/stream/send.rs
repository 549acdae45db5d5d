//! What the sender of a stream does next.

use std::time::Duration;

use bytestring::ByteString;
use tokio::time::Instant;

use super::{StreamConfig, params::clipped};

/// The sending end of one stream: cuts it into chunks, keeps to the window, knows when the peer has stopped.
///
/// It sees lengths only; the caller holds the data and sends what [`next`](Self::next) says.
/// Source of the rules: `fuel/f3/streaming/byte_streamer.py`.
#[derive(Debug)]
pub struct SendState {
    chunk_size: usize,
    window: u64,
    patience: Duration,
    total: Option<u64>,
    sent: u64,
    acked: u64,
    sequence: u64,
    /// Since when the window is full, or the last ACK that moved after that.
    waiting_since: Option<Instant>,
    finished: bool,
    failure: Option<SendError>,
}

/// What the source of the data is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// More comes soon: only full chunks go out. If the length is unknown one byte at least stays behind, so that the
    /// last data can go out as the last chunk.
    More,
    /// More comes, nobody knows when: what is there goes out.
    Flush,
    /// Nothing more comes.
    End,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Send this chunk; it counts as sent.
    Chunk(SendChunk),
    /// Nothing until there is more data, or its end.
    Data,
    /// The window is full: nothing until an ACK, or the [`deadline`](SendState::deadline).
    Ack,
    /// All is sent.
    Done,
}

/// One chunk: `len` bytes from `offset` of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendChunk {
    /// Its number, from 0.
    pub sequence: u64,
    /// Bytes before it.
    pub offset: u64,
    /// Bytes in it. Zero only in a last chunk.
    pub len: usize,
    /// Whether it ends the stream.
    pub last: bool,
}

/// Why a stream could not be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The receiver acknowledged what it cannot have.
    #[error("receiver acknowledged {offset} bytes of {sent} sent")]
    AckBeyondSent {
        /// Bytes in the ACK.
        offset: u64,
        /// Bytes sent by then.
        sent: u64,
    },
    /// The window is full and no ACK moved forward.
    #[error("receiver acknowledged {acked} of {sent} bytes and nothing more for {patience:?}")]
    Stalled {
        /// Bytes acknowledged.
        acked: u64,
        /// Bytes sent.
        sent: u64,
        /// How long the sender waited.
        patience: Duration,
    },
    /// The receiver, or a relay on the way, reports an error.
    #[error("receiver reports: {0}")]
    Peer(ByteString),
    /// The source has more than it said.
    #[error("source has {found} bytes and announced {total}")]
    SourceTooLong {
        /// Bytes announced.
        total: u64,
        /// Bytes there are, at least.
        found: u64,
    },
    /// The source has less than it said.
    #[error("source ended after {found} of {total} bytes")]
    SourceTooShort {
        /// Bytes announced.
        total: u64,
        /// Bytes there were.
        found: u64,
    },
}

impl SendState {
    /// A stream of `total` bytes, if that is known. Uses chunk size, send window and ACK patience of the configuration.
    pub fn new(config: &StreamConfig, total: Option<u64>) -> Self {
        Self {
            chunk_size: config.chunk_size.max(1),
            window: config.send_window,
            patience: config.ack_patience,
            total,
            sent: 0,
            acked: 0,
            sequence: 0,
            waiting_since: None,
            finished: false,
            failure: None,
        }
    }

    /// What to do, given that `ready` bytes follow those sent so far.
    ///
    /// All chunks are full but the last, unless the source asks to flush. The last data is the last chunk if its end was
    /// known in time, else an empty last chunk follows, which the reference takes as well. Zero bytes are one empty
    /// last chunk. A failed stream fails again with the same error.
    pub fn next(&mut self, ready: usize, input: Input, now: Instant) -> Result<Next, SendError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        if self.finished {
            return Ok(Next::Done);
        }
        self.check_source(ready, input)?;
        let Some((len, last)) = self.cut(ready, input) else {
            self.waiting_since = None;
            return Ok(Next::Data);
        };
        if len > 0 && self.in_flight() > self.window {
            self.waiting_since.get_or_insert(now);
            return Ok(Next::Ack);
        }
        self.waiting_since = None;
        let chunk = SendChunk { sequence: self.sequence, offset: self.sent, len, last };
        self.sequence += 1;
        self.sent += len as u64;
        self.finished = last;
        Ok(Next::Chunk(chunk))
    }

    /// The receiver has used `offset` bytes. Says whether that is more than before; an older ACK changes nothing.
    pub fn on_ack(&mut self, offset: u64, now: Instant) -> Result<bool, SendError> {
        if offset > self.sent {
            return Err(self.fail(SendError::AckBeyondSent { offset, sent: self.sent }));
        }
        if offset <= self.acked {
            return Ok(false);
        }
        self.acked = offset;
        if let Some(since) = &mut self.waiting_since {
            *since = now;
        }
        Ok(true)
    }

    /// The receiver reports an error. It counts even after the last chunk, unlike in the reference.
    pub fn on_error(&mut self, text: &str) -> SendError {
        self.fail(SendError::Peer(clipped(text)))
    }

    /// When [`expire`](Self::expire) will fail the stream. None while the stream does not wait for an ACK.
    pub fn deadline(&self) -> Option<Instant> {
        self.waiting_since?.checked_add(self.patience)
    }

    /// Fails the stream if its deadline has passed.
    pub fn expire(&mut self, now: Instant) -> Result<(), SendError> {
        match self.deadline() {
            Some(deadline) if deadline <= now => {
                let (acked, sent, patience) = (self.acked, self.sent, self.patience);
                Err(self.fail(SendError::Stalled { acked, sent, patience }))
            }
            _ => Ok(()),
        }
    }

    /// Bytes that may go out before an ACK is needed; one chunk may exceed it.
    pub fn room(&self) -> u64 {
        self.window.saturating_sub(self.in_flight())
    }

    /// Bytes acknowledged.
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// Bytes sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Bytes of the whole stream, if known.
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// Whether all is sent. There is no ACK for the end of a stream.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Why the stream failed, if it did.
    pub fn failure(&self) -> Option<&SendError> {
        self.failure.as_ref()
    }

    fn in_flight(&self) -> u64 {
        self.sent - self.acked
    }

    fn check_source(&mut self, ready: usize, input: Input) -> Result<(), SendError> {
        let Some(total) = self.total else { return Ok(()) };
        let found = self.sent.saturating_add(ready as u64);
        match found {
            _ if found > total => Err(self.fail(SendError::SourceTooLong { total, found })),
            _ if found < total && input == Input::End => {
                Err(self.fail(SendError::SourceTooShort { total, found }))
            }
            _ => Ok(()),
        }
    }

    /// Length of the next chunk and whether it is the last, if one can be made.
    fn cut(&self, ready: usize, input: Input) -> Option<(usize, bool)> {
        let len = ready.min(self.chunk_size);
        let last = match self.total {
            Some(total) => self.sent + len as u64 == total,
            None => input == Input::End && len == ready,
        };
        let worth_it = match input {
            Input::More if self.total.is_some() => len == self.chunk_size,
            Input::More => ready > self.chunk_size,
            Input::Flush | Input::End => len > 0,
        };
        (last || worth_it).then_some((len, last))
    }

    fn fail(&mut self, error: SendError) -> SendError {
        self.waiting_since = None;
        self.failure.get_or_insert(error).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: StreamConfig = StreamConfig {
        chunk_size: 10,
        send_window: 20,
        recv_window: 20,
        max_chunk: 20,
        ack_interval: 5,
        ack_patience: Duration::from_secs(60),
        idle_patience: Duration::from_secs(300),
        max_blob: 1000,
    };

    fn chunk(sequence: u64, offset: u64, len: usize, last: bool) -> Result<Next, SendError> {
        Ok(Next::Chunk(SendChunk { sequence, offset, len, last }))
    }

    #[test]
    fn a_known_length_ends_with_its_last_data() {
        let now = Instant::now();
        for (total, expected) in
            [(0, vec![0]), (9, vec![9]), (10, vec![10]), (11, vec![10, 1]), (20, vec![10, 10])]
        {
            let mut state = SendState::new(&CONFIG, Some(total));
            let mut lens = vec![];
            while let Next::Chunk(chunk) =
                state.next((total - state.sent()) as usize, Input::More, now).unwrap()
            {
                lens.push(chunk.len);
                assert_eq!(chunk.last, state.is_finished());
            }
            assert_eq!(lens, expected, "{total} bytes");
            assert!(state.is_finished());
        }
    }

    #[test]
    fn an_unknown_length_keeps_its_last_data_for_the_last_chunk() {
        let now = Instant::now();
        let mut state = SendState::new(&CONFIG, None);
        assert_eq!(state.next(10, Input::More, now), Ok(Next::Data));
        assert_eq!(state.next(11, Input::More, now), chunk(0, 0, 10, false));
        assert_eq!(state.next(1, Input::More, now), Ok(Next::Data));
        assert_eq!(state.next(1, Input::End, now), chunk(1, 10, 1, true));
        assert_eq!(state.next(0, Input::End, now), Ok(Next::Done));
    }

    #[test]
    fn a_flushed_stream_ends_with_an_empty_chunk() {
        let now = Instant::now();
        let mut state = SendState::new(&CONFIG, None);
        assert_eq!(state.next(0, Input::Flush, now), Ok(Next::Data));
        assert_eq!(state.next(3, Input::Flush, now), chunk(0, 0, 3, false));
        assert_eq!(state.next(0, Input::End, now), chunk(1, 3, 0, true));
    }

    #[test]
    fn a_source_that_lied_about_its_length_fails() {
        let now = Instant::now();
        let long = SendState::new(&CONFIG, Some(5)).next(6, Input::More, now);
        assert_eq!(long, Err(SendError::SourceTooLong { total: 5, found: 6 }));
        let mut short = SendState::new(&CONFIG, Some(5));
        let error = SendError::SourceTooShort { total: 5, found: 4 };
        assert_eq!(short.next(4, Input::End, now), Err(error.clone()));
        assert_eq!(short.next(5, Input::End, now), Err(error));
    }

    #[test]
    fn the_clock_runs_only_while_waiting_and_restarts_with_every_ack_that_moves() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut state = SendState::new(&CONFIG, Some(1000));
        for _ in 0..3 {
            assert!(matches!(state.next(100, Input::More, at(500)), Ok(Next::Chunk(_))));
        }
        assert_eq!(state.deadline(), None);
        assert_eq!(state.next(100, Input::More, at(1000)), Ok(Next::Ack));
        assert_eq!(state.next(100, Input::More, at(1001)), Ok(Next::Ack));
        assert_eq!(state.deadline(), Some(at(1060)));
        assert_eq!(state.on_ack(0, at(1030)), Ok(false));
        assert_eq!(state.deadline(), Some(at(1060)));
        assert_eq!(state.on_ack(5, at(1050)), Ok(true));
        assert_eq!(state.expire(at(1109)), Ok(()));
        let stalled = SendError::Stalled { acked: 5, sent: 30, patience: Duration::from_secs(60) };
        assert_eq!(state.expire(at(1110)), Err(stalled.clone()));
        assert_eq!(state.next(100, Input::More, at(1110)), Err(stalled));
        assert_eq!(state.deadline(), None);
    }

    #[test]
    fn an_ack_reopens_the_window() {
        let now = Instant::now();
        let mut state = SendState::new(&CONFIG, Some(1000));
        while state.next(100, Input::More, now) != Ok(Next::Ack) {}
        assert_eq!((state.sent(), state.room()), (30, 0));
        assert_eq!(state.on_ack(10, now), Ok(true));
        assert_eq!(state.next(100, Input::More, now), chunk(3, 30, 10, false));
        assert_eq!(state.on_ack(9, now), Ok(false));
        assert_eq!(state.acked(), 10);
        assert_eq!(state.on_ack(41, now), Err(SendError::AckBeyondSent { offset: 41, sent: 40 }));
    }

    #[test]
    fn the_first_failure_stays_even_after_the_last_chunk() {
        let now = Instant::now();
        let mut state = SendState::new(&CONFIG, Some(0));
        assert_eq!(state.next(0, Input::End, now), chunk(0, 0, 0, true));
        assert_eq!(state.on_error("boom").to_string(), "receiver reports: boom");
        assert_eq!(state.on_error("again"), SendError::Peer("boom".into()));
        assert_eq!(state.failure(), Some(&SendError::Peer("boom".into())));
    }
}
