//! The streams of a cell.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::{
    cell::{CellConfig, Inner, RequestError},
    link::Link,
    wire::Headers,
};

/// The streams of a cell, in both directions.
#[derive(Debug)]
pub(crate) struct Streams {}

impl Streams {
    pub(crate) fn new(_config: &CellConfig) -> Self {
        Self {}
    }

    /// Takes a message on the channel of streams. Gives it back if nothing can take it now and nobody waits for an
    /// answer. Never waits.
    pub(crate) fn deliver(
        &self,
        _inner: &Arc<Inner>,
        _link: &Arc<Link>,
        _room: &Arc<Notify>,
        _headers: Headers,
        _body: Bytes,
    ) -> Result<(), (Headers, Bytes)> {
        Ok(())
    }

    /// Fails the streams that went by a link which is lost.
    pub(crate) fn link_down(&self, _inner: &Arc<Inner>, _link: &Link, _error: &RequestError) {}
}
