//! The suite that every driver runs.
//!
//! Each claim is one test. A driver's test file says how to make a [`Rig`] and leaves the rest to
//! [`suite!`](crate::testkit::conformance::suite):
//!
//! ```no_run
//! use cellnet_core::{testkit::conformance::{self, Rig}, transport::mem::MemNet};
//!
//! fn rig() -> Rig {
//!     Rig::new(MemNet::new(), "mem://here", "mem://nobody")
//! }
//! conformance::suite!(rig());
//! // With arguments for `#[tokio::test]`: conformance::suite!(rig(), start_paused = true);
//! ```
//!
//! A claim that waits for more than a minute has failed. With a paused clock that is known at once.

mod claims;
mod damage;
mod faults;

use std::{fmt, future::Future, io, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use tokio::io::AsyncWrite;

use crate::{
    stats::Budget,
    transport::{Batch, Bind, Connection, FrameReceiver, FrameSender, Listener, Target, Transport},
    url::CellUrl,
    wire::{Frame, PREFIX_LEN, Prefix},
};

pub use crate::conformance_suite as suite;
pub use claims::*;
pub use damage::*;
pub use faults::*;

/// A driver and where to try it.
#[derive(Clone)]
pub struct Rig {
    transport: Arc<dyn Transport>,
    bind: CellUrl,
    nobody: CellUrl,
    bind_v6: Option<CellUrl>,
    raw: Option<RawConnect>,
    silent: Option<RawConnect>,
    #[cfg(feature = "tls")]
    tls: Option<crate::tls::Tls>,
}

/// Opens a connection that carries whatever is written to it, for bytes that no driver would send.
pub type RawConnect = Arc<dyn Fn(CellUrl) -> BoxFuture<'static, io::Result<RawWriter>> + Send + Sync>;

/// What [`RawConnect`] opens. Dropping it closes the connection.
pub type RawWriter = Box<dyn AsyncWrite + Unpin + Send>;

impl Rig {
    /// A driver, a URL to listen on, and one where nobody listens. Panics on what is no URL.
    pub fn new(transport: impl Transport, bind: &str, nobody: &str) -> Self {
        Self {
            transport: Arc::new(transport),
            bind: bind.parse().expect("a URL to listen on"),
            nobody: nobody.parse().expect("a URL where nobody listens"),
            bind_v6: None,
            raw: None,
            silent: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Lets both sides use these credentials.
    #[cfg(feature = "tls")]
    pub fn with_tls(mut self, tls: crate::tls::Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Adds a URL of the other address family. Panics on what is no URL.
    pub fn with_v6(mut self, bind: &str) -> Self {
        self.bind_v6 = Some(bind.parse().expect("a URL to listen on"));
        self
    }

    /// Adds raw connections. Without them the claims about damaged frames are not tried.
    pub fn with_raw<F>(mut self, connect: impl Fn(CellUrl) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<RawWriter>> + Send + 'static,
    {
        self.raw = Some(Arc::new(move |url| Box::pin(connect(url))));
        self
    }

    /// Adds connections of peers that never say a word, where [`with_raw`](Self::with_raw) opens talkative ones: those of
    /// TLS and of upgrades.
    pub fn with_silent<F>(mut self, connect: impl Fn(CellUrl) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<RawWriter>> + Send + 'static,
    {
        self.silent = Some(Arc::new(move |url| Box::pin(connect(url))));
        self
    }

    async fn listen(&self) -> Box<dyn Listener> {
        self.listen_on(&self.bind).await
    }

    async fn listen_on(&self, url: &CellUrl) -> Box<dyn Listener> {
        #[cfg_attr(not(feature = "tls"), expect(unused_mut))]
        let mut bind = Bind::new(url.clone(), Budget::new(BUDGET));
        #[cfg(feature = "tls")]
        bind.tls.clone_from(&self.tls);
        self.transport.listen(&bind).await.expect("the address can be bound")
    }

    fn target(&self, url: &CellUrl) -> Target {
        #[cfg_attr(not(feature = "tls"), expect(unused_mut))]
        let mut target = Target::new(url.clone(), Budget::new(BUDGET));
        #[cfg(feature = "tls")]
        target.tls.clone_from(&self.tls);
        target
    }

    /// Both ends of a new connection, past HELLO.
    async fn pair(&self, listener: &mut Box<dyn Listener>) -> (Connection, Connection) {
        let target = self.target(listener.local_url());
        // Together: a driver may need the peer's answer to connect.
        let accept = async { listener.accept().await.expect("a connection comes").await };
        let (mut here, mut there) =
            tokio::try_join!(self.transport.connect(&target), accept).expect("both ends open");
        here.control.rx.set_max_frame(MAX_FRAME);
        there.control.rx.set_max_frame(MAX_FRAME);
        (here, there)
    }

    /// A raw connection and its accepted end before HELLO, if the driver can have one.
    async fn raw_pair(&self) -> Option<(RawWriter, Connection)> {
        let mut listener = self.listen().await;
        let writer = self.raw.as_ref()?(listener.local_url().clone());
        // Together: TLS or an upgrade needs both.
        let accept = async { listener.accept().await.expect("a connection comes").await };
        let (writer, accepted) = tokio::join!(writer, accept);
        Some((writer.expect("a raw connection"), accepted.expect("it opens")))
    }
}

impl fmt::Debug for Rig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rig")
            .field("transport", &self.transport)
            .field("bind", &self.bind)
            .finish_non_exhaustive()
    }
}

/// Runs a claim, but not for ever.
pub async fn check(claim: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(60), claim).await.expect("the claim is decided within a minute");
}

/// One `#[tokio::test]` per claim of [`conformance`](crate::testkit::conformance). The first argument makes a
/// [`Rig`](crate::testkit::conformance::Rig); what follows goes to `#[tokio::test(…)]`.
#[macro_export]
macro_rules! conformance_suite {
    ($rig:expr $(, $($arguments:tt)+)?) => {
        $crate::conformance_suite! { @each $rig, ($($($arguments)+)?),
            frames_arrive_whole_and_in_order
            batches_of_all_sizes_cross_both_ways_at_once
            orderly_close_delivers_what_was_written
            connect_to_nobody_is_a_typed_error
            a_bound_url_can_be_used_as_it_is_shown
            accept_does_not_wait_for_the_peer_to_speak
            the_meter_counts_both_ways
            many_connections_work_at_once
            both_address_families_work
            cancelled_recv_loses_nothing
            cancelled_flush_loses_nothing
            cancelled_close_goes_on
            connect_can_be_dropped_at_every_await
            accepting_can_be_dropped_at_every_await
            a_peer_that_does_not_read_stops_only_its_own_lane
            a_full_bulk_lane_does_not_stop_the_others
            an_abrupt_end_is_noticed
            oversize_frames_arrive_truncated_and_the_lane_lives
            a_frame_is_found_wherever_reads_split_it
            an_end_inside_a_frame_is_an_error
            before_hello_a_claim_of_2_gib_is_surfaced_at_once
            an_impossible_length_ends_the_lane
        }
    };
    (@each $rig:expr, $arguments:tt, $($claim:ident)+) => {
        $($crate::conformance_suite! { @one $rig, $arguments, $claim })+
    };
    (@one $rig:expr, ($($arguments:tt)*), $claim:ident) => {
        #[tokio::test($($arguments)*)]
        async fn $claim() {
            use $crate::testkit::conformance;
            conformance::check(conformance::$claim($rig)).await;
        }
    };
}

/// A valid frame that knows its number: both parts are filled with bytes that depend on it.
fn frame(number: usize, header_len: usize, body_len: usize) -> Frame {
    let mut head = BytesMut::new();
    let length = (PREFIX_LEN + header_len + body_len) as u32;
    let sequence = number as u16;
    Prefix { length, header_len: header_len as u16, kind: 1, sequence, ..Prefix::default() }
        .encode(&mut head);
    let pattern = |seed: usize| move |i: usize| (i.wrapping_mul(31) ^ seed) as u8;
    head.extend((0..header_len).map(pattern(number)));
    Frame::new(head.freeze(), (0..body_len).map(pattern(number + 1)).collect::<Vec<_>>().into())
}

/// Small ones, large ones, and those on the edges of what is copied, shared or gathered.
fn mixed_frames() -> Vec<Frame> {
    let sizes = [0, 1, 15, 100, 4095, 4096, 20_000, 32_751, 32_752, 65_520, 65_521, 300_000, 1 << 20];
    (0..200).map(|i| frame(i, i % 90, if i % 5 == 0 { sizes[(i / 5) % sizes.len()] } else { i })).collect()
}

async fn send_all(tx: &mut Box<dyn FrameSender>, frames: &[Frame]) {
    let mut batch: Batch = frames.iter().cloned().collect();
    while !batch.is_empty() {
        tx.feed(&mut batch);
        tx.flush().await.expect("the lane takes frames");
    }
}

/// Receives until `count` frames are here.
async fn recv_count(rx: &mut Box<dyn FrameReceiver>, count: usize) -> Vec<Frame> {
    let mut batch = Batch::new();
    while batch.len() < count {
        let before = batch.len();
        rx.recv(&mut batch).await.expect("frames come");
        assert!(batch.len() > before, "recv returned without a frame");
    }
    batch.into()
}

/// `assert_eq` without megabytes in the message.
fn assert_same(got: &[Frame], sent: &[Frame]) {
    assert_eq!(got.len(), sent.len(), "as many frames");
    for (i, (got, sent)) in got.iter().zip(sent).enumerate() {
        assert!(got == sent, "frame {i} of {} bytes came as {} bytes or changed", sent.len(), got.len());
    }
}

fn encoded(frames: &[Frame]) -> Bytes {
    frames.iter().flat_map(|frame| [frame.head().clone(), frame.body().clone()]).flatten().collect()
}

const MAX_FRAME: usize = 16 << 20;
const BUDGET: usize = 64 << 20;
