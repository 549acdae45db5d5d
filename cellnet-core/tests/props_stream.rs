//! A sender and a receiver of a stream over a channel that reorders, duplicates and loses.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use cellnet_core::{
    stream::{
        Arrival, ChunkHeader, Input, MAX_AHEAD, Next, RecvError, RecvState, SendError, SendState,
        StreamConfig,
    },
    wire::{Headers, Value},
};
use proptest::{collection::vec, prelude::*};
use tokio::time::Instant;

proptest! {
    #[test]
    fn all_arrives_once_in_order_and_within_the_window(shape in shape(), steps in vec(any::<(u8, u8)>(), 0..400)) {
        let mut net = Net::new(&shape);
        for (what, which) in steps {
            net.step(what, which, false);
        }
        net.settle();
        prop_assert!(net.recv.is_complete());
        prop_assert_eq!(&net.arrived, &net.data);
        prop_assert_eq!(net.send.sent(), net.data.len() as u64);
        prop_assert_eq!((net.recv.held(), net.recv.pieces()), (0, 0));
    }

    #[test]
    fn lost_acks_cost_a_typed_error_at_most(shape in shape(), steps in vec(any::<(u8, u8)>(), 0..400)) {
        let mut net = Net::new(&shape);
        for (what, which) in steps {
            net.step(what, which, true);
        }
        while net.round(true) {}
        match net.recv.is_complete() {
            true => prop_assert_eq!(&net.arrived, &net.data),
            false => {
                let later = net.now + shape.config.ack_patience;
                let stalled = matches!(net.send.expire(later), Err(SendError::Stalled { .. }));
                prop_assert!(stalled);
                let later = net.now + shape.config.idle_patience;
                let idle = matches!(net.recv.expire(later), Err(RecvError::Idle { .. }));
                prop_assert!(idle);
                prop_assert!(net.data.starts_with(&net.arrived));
            }
        }
    }

    #[test]
    fn nonsense_never_holds_more_than_the_bound(
        config in tiny(),
        messages in vec((0..5_u8, sequence(), 0..300_u64, 0..64_usize, any::<bool>()), 0..300),
    ) {
        let now = Instant::now();
        let mut state = RecvState::blob(&config, now);
        let bound = config.recv_window + config.max_chunk as u64;
        let mut read = 0;
        for (what, sequence, size, len, reads) in messages {
            let header = match what {
                0 => ChunkHeader::ack(1, size),
                1 => ChunkHeader { size, ..ChunkHeader::data(1, sequence, size, true) },
                _ => ChunkHeader { size: size * 40, ..ChunkHeader::data(1, sequence, size, false) },
            };
            let arrival = state.on_chunk(&header, Bytes::from(vec![0; len]), now);
            prop_assert!(state.held() <= bound && state.buffered() <= state.held());
            prop_assert!(state.pieces() as u64 <= MAX_AHEAD + 2 + bound / 2048);
            prop_assert_eq!(arrival.is_err() || state.is_failed(), state.is_failed());
            if state.is_failed() {
                prop_assert_eq!((state.buffered(), state.pieces(), state.deadline()), (0, 0, None));
                prop_assert!(!state.is_complete());
            }
            if reads && let Some(piece) = state.read() {
                read += piece.len() as u64;
                if let Some(ack) = state.consumed(u64::MAX, now) {
                    prop_assert_eq!(ack, read);
                }
            }
        }
        prop_assert!(read <= config.max_blob);
    }

    #[test]
    fn headers_of_any_kind_are_read_or_refused(entries in vec((key(), value()), 0..14)) {
        let headers: Headers = entries.into_iter().collect();
        if let Ok(header) = ChunkHeader::parse(&headers) {
            let mut written = Headers::new();
            header.write(&mut written);
            let again = ChunkHeader::parse(&written).unwrap();
            prop_assert_eq!((again.id, again.kind, again.sequence), (header.id, header.kind, header.sequence));
            prop_assert_eq!((again.offset, again.size), (header.offset, header.size));
        }
    }

    #[test]
    fn acks_of_any_kind_never_open_the_window_too_far(
        config in tiny(),
        acks in vec(0..2000_u64, 0..200),
        total in 0..2000_u64,
    ) {
        let now = Instant::now();
        let mut state = SendState::new(&config, Some(total));
        for ack in acks {
            let before = state.acked();
            match state.on_ack(ack, now) {
                Ok(moved) => prop_assert_eq!(moved, ack > before),
                Err(_) => prop_assert!(ack > state.sent()),
            }
            prop_assert!(state.acked() >= before && state.acked() <= state.sent());
            let failed = state.failure().is_some();
            let next = state.next((total - state.sent()) as usize, Input::End, now);
            prop_assert_eq!(next.is_err(), failed);
            prop_assert!(state.sent() - state.acked() <= config.send_window + config.chunk_size as u64);
        }
    }
}

/// One run: how much is sent, by which rules.
#[derive(Debug, Clone)]
struct Shape {
    config: StreamConfig,
    len: usize,
    known: bool,
    /// What the source says while there is more.
    input: Input,
}

fn shape() -> impl Strategy<Value = Shape> {
    let input = prop_oneof![Just(Input::More), Just(Input::Flush)];
    (tiny(), 0..2000_usize, any::<bool>(), input).prop_map(|(config, len, known, input)| Shape {
        config,
        len,
        known,
        input,
    })
}

/// Windows from nothing to some chunks; the receiver allows what the sender may send.
fn tiny() -> impl Strategy<Value = StreamConfig> {
    (1..80_usize, 0..400_u64, 0..100_u64, 0..500_u64).prop_map(|(chunk_size, window, more, ack_interval)| {
        StreamConfig {
            chunk_size,
            send_window: window,
            recv_window: window + more,
            max_chunk: chunk_size,
            // A receiver that waits for more than the sender's window would wait for ever.
            ack_interval: ack_interval.min(window),
            max_blob: 4000,
            ..StreamConfig::default()
        }
    })
}

fn sequence() -> impl Strategy<Value = u64> {
    prop_oneof![20 => 0..12_u64, 2 => 0..6000_u64, 1 => any::<u64>()]
}

fn key() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "sm__id", "sm__dt", "sm__sq", "sm__os", "sm__sz", "sm__ch", "sm__tp", "sm__ri", "sm__pe", "sm__op",
        "sm__em", "other",
    ])
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        10 => (-2..8_i64).prop_map(Value::Int),
        2 => any::<u64>().prop_map(|number| i64::try_from(number).map_or(Value::Uint(number), Value::Int)),
        1 => Just(Value::Nil),
        1 => any::<bool>().prop_map(Value::Bool),
        1 => any::<f64>().prop_map(Value::F64),
        1 => ".{0,8}".prop_map(|text| Value::Str(text.into())),
    ]
}

/// Two ends and what is on the way between them.
#[derive(Debug)]
struct Net {
    input: Input,
    in_flight_bound: u64,
    data: Vec<u8>,
    send: SendState,
    recv: RecvState,
    chunks: Vec<(ChunkHeader, Bytes)>,
    acks: VecDeque<u64>,
    /// Read and not yet used.
    unused: u64,
    /// Bytes that the source has produced; the sender sees no others.
    produced: usize,
    arrived: Vec<u8>,
    now: Instant,
}

impl Net {
    fn new(shape: &Shape) -> Self {
        let now = Instant::now();
        let config = &shape.config;
        Self {
            input: shape.input,
            in_flight_bound: config.send_window + config.chunk_size as u64,
            data: (0..shape.len).map(|at| (at * 31 % 251) as u8).collect(),
            send: SendState::new(config, shape.known.then_some(shape.len as u64)),
            recv: RecvState::blob(config, now),
            chunks: vec![],
            acks: VecDeque::new(),
            unused: 0,
            produced: 0,
            arrived: vec![],
            now,
        }
    }

    fn step(&mut self, what: u8, which: u8, acks_get_lost: bool) {
        self.now += Duration::from_millis(1);
        match what % 8 {
            0 => self.produced = (self.produced + usize::from(which)).min(self.data.len()),
            1 | 2 => drop(self.send_one()),
            3 | 4 if !self.chunks.is_empty() => self.deliver(usize::from(which) % self.chunks.len()),
            5 if !self.chunks.is_empty() => {
                let copy = self.chunks[usize::from(which) % self.chunks.len()].clone();
                self.chunks.push(copy);
            }
            6 => drop(self.read() || self.consume(u64::from(which))),
            7 => drop(self.pass_ack(acks_get_lost && which.is_multiple_of(2))),
            _ => {}
        }
    }

    /// Everything moves as far as it can, chunks latest first. Panics if that ends before the stream does.
    fn settle(&mut self) {
        while self.round(false) {}
        assert!(self.send.is_finished(), "both ends wait: {self:?}");
        assert_eq!(self.send.failure(), None);
    }

    /// Says whether anything moved.
    fn round(&mut self, acks_get_lost: bool) -> bool {
        let mut moved = self.produced < self.data.len();
        self.produced = self.data.len();
        while self.send_one() {
            moved = true;
        }
        while !self.chunks.is_empty() {
            self.deliver(self.chunks.len() - 1);
            moved = true;
        }
        while self.read() || self.consume(u64::MAX) {
            moved = true;
        }
        while self.pass_ack(acks_get_lost) {
            moved = true;
        }
        moved
    }

    fn send_one(&mut self) -> bool {
        let sent = self.send.sent() as usize;
        let input = if self.produced == self.data.len() { Input::End } else { self.input };
        let next = self.send.next(self.produced - sent, input, self.now).unwrap();
        assert_eq!(self.send.deadline().is_some(), next == Next::Ack);
        let Next::Chunk(chunk) = next else { return false };
        assert_eq!(chunk.offset, sent as u64);
        assert!(chunk.len > 0 || chunk.last);
        assert!(self.send.sent() - self.send.acked() <= self.in_flight_bound);
        let body = Bytes::copy_from_slice(&self.data[sent..sent + chunk.len]);
        let size = self.send.total().unwrap_or(0);
        let header = ChunkHeader { size, ..ChunkHeader::data(1, chunk.sequence, chunk.offset, chunk.last) };
        self.chunks.push((header, body));
        true
    }

    fn deliver(&mut self, at: usize) {
        let (header, body) = self.chunks.swap_remove(at);
        let before = self.recv.received();
        let arrival = self.recv.on_chunk(&header, body, self.now).unwrap();
        assert!(arrival == Arrival::InOrder || self.recv.received() == before);
        assert!(self.recv.held() <= self.in_flight_bound);
    }

    fn read(&mut self) -> bool {
        let Some(piece) = self.recv.read() else { return false };
        self.unused += piece.len() as u64;
        self.arrived.extend_from_slice(&piece);
        true
    }

    fn consume(&mut self, bytes: u64) -> bool {
        let bytes = bytes.min(self.unused);
        self.unused -= bytes;
        self.acks.extend(self.recv.consumed(bytes, self.now));
        bytes > 0
    }

    fn pass_ack(&mut self, lost: bool) -> bool {
        let Some(offset) = self.acks.pop_front() else { return false };
        if !lost {
            assert_eq!(self.send.on_ack(offset, self.now), Ok(true));
        }
        true
    }
}
