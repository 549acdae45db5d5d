//! Whole blobs: requests, replies and what is told on channels that stream.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;

use super::ChunkHeader;
use crate::{
    cell::{Ask, Inner, RequestError},
    fqcn::Fqcn,
    link::Link,
    message::Message,
    wire::Headers,
};

/// A message that travels as a stream.
#[derive(Debug)]
pub(crate) struct Blob {
    pub(crate) target: Fqcn,
    pub(crate) channel: ByteString,
    pub(crate) topic: ByteString,
    /// `sm__ri`; none if nobody waits for a reply.
    pub(crate) request_id: Option<ByteString>,
    pub(crate) message: Message,
}

/// Bytes of a transfer that have moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Bytes sent.
    pub sent: u64,
    /// Bytes to send.
    pub to_send: u64,
    /// Bytes received.
    pub received: u64,
    /// Bytes to receive; 0 while unknown.
    pub to_receive: u64,
}

/// Why a stream failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("stream failed")]
pub struct StreamError;

/// An incoming byte stream.
#[derive(Debug)]
pub struct IncomingStream {}

pub(crate) async fn send_blob(_inner: &Arc<Inner>, _blob: Blob) -> Result<Arc<Link>, RequestError> {
    Err(RequestError::ShuttingDown)
}

pub(crate) async fn ask(_ask: Ask) -> Result<Message, RequestError> {
    Err(RequestError::ShuttingDown)
}

pub(crate) async fn tell(_ask: Ask) -> Result<(), RequestError> {
    Err(RequestError::ShuttingDown)
}

/// The headers of an answer blob to a request that is refused on its way.
pub(crate) fn refusal(
    _inner: &Arc<Inner>,
    _origin: &Fqcn,
    _request: &Headers,
    _chunk: &ChunkHeader,
    _id: ByteString,
    failure: Message,
) -> Headers {
    failure.headers
}

/// The headers of an ERROR about a stream, by `topic` towards its sender or its receiver.
pub(crate) fn error_headers(
    _inner: &Arc<Inner>,
    _target: &Fqcn,
    _topic: &'static str,
    _chunk: &ChunkHeader,
    _text: &str,
) -> Headers {
    Headers::new()
}

#[allow(unused)]
fn unused(_: Bytes) {}
