//! One WebSocket message for each frame.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{WebSocketStream, tungstenite};
use tungstenite::Message;

use crate::way::{Load, Sink, Source};

/// The client's side, which masks what it sends.
pub(super) async fn connect<S>(io: S) -> Result<WebSocketStream<S>, tungstenite::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    Ok(tokio_tungstenite::client_async("ws://127.0.0.1/", io).await?.0)
}

/// The server's side.
pub(super) async fn accept<S>(io: S) -> Result<WebSocketStream<S>, tungstenite::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    tokio_tungstenite::accept_async(io).await
}

/// Feeds a batch and flushes it.
pub(super) struct MessageSource<S> {
    io: WebSocketStream<S>,
    /// Head and body in one piece.
    frame: Bytes,
}

impl<S> MessageSource<S> {
    pub(super) fn new(io: WebSocketStream<S>) -> Self {
        Self { io, frame: Bytes::new() }
    }
}

#[async_trait]
impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Source for MessageSource<S> {
    async fn send(&mut self, load: &Load, frames: usize) {
        if self.frame.len() != load.frame_len() {
            self.frame = [&load.head[..], &load.body].concat().into();
        }
        let mut left = frames;
        while left > 0 {
            let now = left.min(load.batch);
            for _ in 0..now {
                self.io.feed(Message::Binary(self.frame.clone())).await.expect("the far end reads");
            }
            self.io.flush().await.expect("the far end reads");
            left -= now;
        }
    }
}

/// Takes message after message.
pub(super) struct MessageSink<S> {
    io: WebSocketStream<S>,
}

impl<S> MessageSink<S> {
    pub(super) fn new(io: WebSocketStream<S>) -> Self {
        Self { io }
    }
}

#[async_trait]
impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Sink for MessageSink<S> {
    async fn take(&mut self, load: &Load, frames: usize) {
        for _ in 0..frames {
            let message = self.io.next().await.expect("the near end writes").expect("messages");
            assert_eq!(message.len(), load.frame_len());
        }
    }
}
