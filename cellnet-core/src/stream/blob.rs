//! Whole blobs: requests, replies and what is told on channels that stream.

use std::sync::Arc;

use bytestring::ByteString;

use super::{StreamConfig, headers::Envelope, outlet::Outlet, progress::Watch};
use crate::{
    cell::{Inner, RequestError},
    fqcn::Fqcn,
    link::Link,
    message::Message,
    wire::keys::cn,
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

/// Sends a blob by name. Gives the link it took once that link's outbox took all of it. A dropped future tells the
/// receiver that nothing more comes.
pub(crate) async fn send_blob(inner: &Arc<Inner>, blob: Blob) -> Result<Arc<Link>, RequestError> {
    let link = inner.next_hop(&blob.target).ok_or_else(|| RequestError::Unreachable(blob.target.clone()))?;
    let id = inner.streams.next_id();
    send_by(inner, &link, id, blob, None).await?;
    Ok(link)
}

/// [`send_blob`] by a link that is known, under an id that is known.
pub(super) async fn send_by(
    inner: &Arc<Inner>,
    link: &Arc<Link>,
    id: u64,
    mut blob: Blob,
    watch: Option<Arc<Watch>>,
) -> Result<(), RequestError> {
    let config = config_towards(inner, link);
    let body = blob.message.payload.to_bytes();
    let own = std::mem::take(&mut blob.message.headers);
    let optional = own.flag(cn::OPTIONAL);
    let envelope = Envelope {
        id,
        target: &blob.target,
        channel: blob.channel,
        topic: blob.topic,
        request_id: blob.request_id,
        encoding: Some(blob.message.payload.encoding()),
        size: body.len() as u64,
        optional,
    };
    let headers = envelope.seal(inner, Some(link), own);
    drop(blob.message);
    if body.len() <= config.chunk_size {
        let size = body.len() as u64;
        inner.send_by(link, headers, body).await?;
        if let Some(watch) = watch {
            watch.sent(size);
        }
        return Ok(());
    }
    let total = Some(body.len() as u64);
    let mut outlet = Outlet::new(inner, link, (id, &blob.target), headers, (&config, total), watch);
    outlet.send_all(body).await.map_err(super::StreamError::into_request)
}

/// How to stream by a link. Whether the cell at the far end is one of the reference nobody knows, so the window suits
/// those.
pub(super) fn config_towards(inner: &Inner, link: &Link) -> StreamConfig {
    let config = inner.config.stream.towards_stranger();
    match link.info.legacy_max_frame.filter(|_| link.cellnet.is_none()) {
        Some(frame) => config.with_max_frame(frame),
        None => config,
    }
}
