//! What a driver makes of bytes that no driver sends, and of bytes that come as they like.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWriteExt, ReadBuf},
    task::yield_now,
};

use super::*;
use crate::{
    transport::{ConnectionInfo, MAX_FRAME_BEFORE_HELLO, TransportError, framed},
    wire::{MAX_FRAME as LONGEST, PrefixError},
};

/// Two frames are found whole for every place at which the bytes can be split between two reads.
pub async fn a_frame_is_found_wherever_reads_split_it(rig: Rig) {
    let sent = [frame(1, 20, 30), frame(2, 0, 3)];
    let bytes = encoded(&sent);
    let Some((mut raw, mut there)) = rig.raw_pair().await else { return };
    for split in 1..bytes.len() {
        let mut batch = Batch::new();
        for part in [&bytes[..split], &bytes[split..]] {
            let counted = there.info.meter.rx() + part.len() as u64;
            raw.write_all(part).await.expect("the raw connection takes bytes");
            raw.flush().await.expect("the raw connection takes bytes");
            while there.info.meter.rx() < counted {
                tokio::select! {
                    biased;
                    received = there.control.rx.recv(&mut batch) => received.expect("frames come"),
                    () = yield_now() => {}
                }
            }
        }
        // A driver that counts more than the frames may have read only a part of them so far.
        while batch.len() < sent.len() {
            there.control.rx.recv(&mut batch).await.expect("frames come");
        }
        assert_same(batch.make_contiguous(), &sent);
    }
}

/// A connection that ends in the middle of a frame did not end in order.
pub async fn an_end_inside_a_frame_is_an_error(rig: Rig) {
    let whole = encoded(&[frame(1, 20, 100_000)]);
    for len in [1, 15, 16, 30, 50_000] {
        let Some((mut raw, mut there)) = rig.raw_pair().await else { return };
        there.control.rx.set_max_frame(MAX_FRAME);
        raw.write_all(&whole[..len]).await.expect("the raw connection takes bytes");
        drop(raw);
        let end = there.control.rx.recv(&mut Batch::new()).await;
        assert!(matches!(end, Err(TransportError::Io { .. })), "after {len} bytes: {end:?}");
    }
}

/// Before HELLO a frame above the limit is handed over as its prefix, without waiting for more and without memory.
pub async fn before_hello_a_claim_of_2_gib_is_surfaced_at_once(rig: Rig) {
    for length in [MAX_FRAME_BEFORE_HELLO + 1, LONGEST] {
        let Some((mut raw, mut there)) = rig.raw_pair().await else { return };
        raw.write_all(&prefix(length as u32)).await.expect("the raw connection takes bytes");
        let got = recv_count(&mut there.control.rx, 1).await;
        assert!(got[0].is_truncated() && got[0].head().len() == PREFIX_LEN && got[0].body().is_empty());
    }
}

/// A length that no frame has ends the lane with an error that says so.
pub async fn an_impossible_length_ends_the_lane(rig: Rig) {
    for length in [0, 15, LONGEST as u32 + 1, u32::MAX] {
        let Some((mut raw, mut there)) = rig.raw_pair().await else { return };
        there.control.rx.set_max_frame(LONGEST);
        raw.write_all(&prefix(length)).await.expect("the raw connection takes bytes");
        let end = there.control.rx.recv(&mut Batch::new()).await;
        let expected = if length < 16 {
            PrefixError::TooShort(length as usize)
        } else {
            PrefixError::TooLong(length as usize)
        };
        assert!(matches!(&end, Err(TransportError::Frame(found)) if *found == expected), "{end:?}");
    }
}

fn prefix(length: u32) -> Bytes {
    let mut bytes = BytesMut::new();
    Prefix { length, header_len: 100, kind: 4, ..Prefix::default() }.encode(&mut bytes);
    bytes.freeze()
}

/// For [`framed`]: whatever a stream takes and gives at a time, from one byte to everything, frames stay whole.
/// Needs no driver and is not part of the suite.
pub async fn partial_writes_of_every_size() {
    let sent = [frame(1, 20, 30), frame(2, 0, 0), frame(3, 7, 4096), frame(4, 3, 33_000), frame(5, 1, 2)];
    let total = encoded(&sent).len();
    for step in (1..200).chain((200..total).step_by(997)).chain([total]) {
        let (write, read) = tokio::io::duplex(total);
        let info = ConnectionInfo::new("here", "there");
        let mut lane = framed::lane(
            Throttled { inner: read, step, rest: false },
            Throttled { inner: write, step, rest: false },
            &info,
            Budget::new(BUDGET),
        );
        send_all(&mut lane.tx, &sent).await;
        assert_same(&recv_count(&mut lane.rx, sent.len()).await, &sent);
        assert_eq!((info.meter.tx(), info.meter.rx()), (total as u64, total as u64));
    }
}

/// Moves at most `step` bytes at a time and rests before each.
struct Throttled<T> {
    inner: T,
    step: usize,
    rest: bool,
}

impl<T> Throttled<T> {
    fn rests(&mut self, cx: &mut Context<'_>) -> bool {
        self.rest = !self.rest;
        if self.rest {
            cx.waker().wake_by_ref();
        }
        self.rest
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Throttled<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.rests(cx) {
            return Poll::Pending;
        }
        let mut part = vec![0; self.step.min(buf.remaining())];
        let mut part = ReadBuf::new(&mut part);
        let polled = Pin::new(&mut self.inner).poll_read(cx, &mut part);
        buf.put_slice(part.filled());
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Throttled<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.rests(cx) {
            return Poll::Pending;
        }
        let step = self.step.min(bytes.len());
        Pin::new(&mut self.inner).poll_write(cx, &bytes[..step])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // Across the slices, so that a write ends inside any of them.
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).take(self.step).collect();
        self.poll_write(cx, &bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.step.is_multiple_of(2)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
