//! Links that come and go.

use std::sync::Arc;

use tokio::sync::broadcast;

use crate::fqcn::Fqcn;

/// Something happened to the neighbourhood of a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CellEvent {
    /// A neighbour can be reached.
    Connected {
        /// Its name.
        peer: Fqcn,
        /// Its address.
        remote: Arc<str>,
        /// Whether it speaks cellnet's own additions.
        cellnet: bool,
    },
    /// A neighbour is gone, whether or not it said bye.
    Disconnected {
        /// Its name.
        peer: Fqcn,
        /// Why.
        reason: Arc<str>,
    },
}

/// Receives [`CellEvent`]s. At most 256 wait; whoever is slower misses the oldest.
#[derive(Debug)]
pub struct Events(broadcast::Receiver<CellEvent>);

impl Events {
    /// The next event; `None` once the cell is gone. Cancel safe.
    pub async fn next(&mut self) -> Option<CellEvent> {
        loop {
            match self.0.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "a receiver of cell events is too slow");
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

/// Tells whoever listens.
#[derive(Debug)]
pub(crate) struct EventSender(broadcast::Sender<CellEvent>);

impl EventSender {
    pub(crate) fn new() -> Self {
        Self(broadcast::Sender::new(CAPACITY))
    }

    pub(crate) fn send(&self, event: CellEvent) {
        // Nobody has to listen.
        let _ = self.0.send(event);
    }

    pub(crate) fn subscribe(&self) -> Events {
        Events(self.0.subscribe())
    }
}

const CAPACITY: usize = 256;
