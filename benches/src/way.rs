//! One way for frames between two ends, each on a runtime of its own, as two processes would be.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use cellnet_core::wire::{PREFIX_LEN, Prefix};
use tokio::runtime::{Builder, Runtime};

/// What is carried: the same frame again and again.
#[derive(Debug, Clone)]
pub struct Load {
    /// For people.
    pub name: &'static str,
    /// The prefix of a frame without headers.
    pub head: Bytes,
    /// The payload.
    pub body: Bytes,
    /// Frames that are written together.
    pub batch: usize,
    /// Frames that make one measured step: some 10 ms.
    pub step: usize,
}

impl Load {
    /// 64 bytes of payload, in batches as the writer of a link makes them.
    pub fn small() -> Self {
        Self::new("64B", 64, 64, 1 << 16)
    }

    /// 1 MiB of payload, which is the largest chunk of a stream.
    pub fn large() -> Self {
        Self::new("1MiB", 1 << 20, 1, 16)
    }

    fn new(name: &'static str, size: usize, batch: usize, step: usize) -> Self {
        let length = u32::try_from(PREFIX_LEN + size).expect("frames of benches are small");
        let mut head = BytesMut::with_capacity(PREFIX_LEN);
        Prefix { length, kind: 1, app_id: Prefix::APP_CELL, ..Prefix::default() }.encode(&mut head);
        Self { name, head: head.freeze(), body: vec![7; size].into(), batch, step }
    }

    /// Bytes of a frame.
    pub fn frame_len(&self) -> usize {
        self.head.len() + self.body.len()
    }
}

/// The end that writes.
#[async_trait]
pub trait Source: Send + 'static {
    /// Writes so many frames. Ends when the library has taken the last one and was told to send it.
    async fn send(&mut self, load: &Load, frames: usize);
}

/// The end that reads.
#[async_trait]
pub trait Sink: Send + 'static {
    /// Reads so many frames, each into memory in one piece.
    async fn take(&mut self, load: &Load, frames: usize);
}

/// The runtimes of the two ends, one thread each.
#[derive(Debug)]
pub struct Ends {
    /// Dials and writes.
    pub near: Runtime,
    /// Listens and reads.
    pub far: Runtime,
}

impl Ends {
    /// Starts the runtimes.
    pub fn new() -> Self {
        let one = || Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Self { near: one().expect("a runtime starts"), far: one().expect("a runtime starts") }
    }

    /// Carries `frames` frames; gives the time from the first write to the last frame's arrival.
    pub fn carry(&self, way: &mut Way, load: &Load, frames: usize) -> Duration {
        let (mut source, mut sink) = way.ends.take().expect("they are put back below");
        let (sent, taken) = (load.clone(), load.clone());
        let began = Instant::now();
        let taking = self.far.spawn(async move {
            sink.take(&taken, frames).await;
            (sink, Instant::now())
        });
        let sending = self.near.spawn(async move {
            source.send(&sent, frames).await;
            source
        });
        let (sink, ended) = self.far.block_on(taking).expect("the far end takes every frame");
        let source = self.near.block_on(sending).expect("the near end sends every frame");
        way.ends = Some((source, sink));
        ended - began
    }
}

impl Default for Ends {
    fn default() -> Self {
        Self::new()
    }
}

/// A connection that carries frames one way.
#[expect(missing_debug_implementations, reason = "its ends are foreign connections")]
pub struct Way {
    ends: Option<(Box<dyn Source>, Box<dyn Sink>)>,
}

impl Way {
    /// Joins two ends of one connection.
    pub fn new(source: impl Source, sink: impl Sink) -> Self {
        Self { ends: Some((Box::new(source), Box::new(sink))) }
    }
}
