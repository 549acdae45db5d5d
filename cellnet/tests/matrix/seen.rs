//! What a cell was asked.

use cellnet::{ANY, Cell, Fqcn, HandlerError, Message, Request};
use tokio::sync::mpsc;

use crate::network::hops;

/// Everything that came to one cell on one channel, in the order in which it was handled.
#[derive(Debug)]
pub(crate) struct Seen(mpsc::Receiver<Request>);

/// More than any test sends.
const MANY: usize = 1024;

impl Seen {
    /// Sees what comes and answers with the same payload.
    pub(crate) fn echoing(cell: &Cell, channel: &str) -> Self {
        Self::answering(cell, channel, |request| Message::new(request.message.payload.clone()))
    }

    pub(crate) fn answering(
        cell: &Cell,
        channel: &str,
        answer: impl Fn(&Request) -> Message + Send + Sync + 'static,
    ) -> Self {
        let (told, seen) = mpsc::channel(MANY);
        cell.handle(channel, ANY, move |request: Request| {
            let answer = answer(&request);
            let told = told.try_send(request);
            async move {
                told.map_err(|error| HandlerError::failed(error.to_string()))?;
                Ok::<_, HandlerError>(answer)
            }
        });
        Self(seen)
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> Request {
        self.0.recv().await.expect("the cell runs")
    }

    /// Nothing more has come.
    pub(crate) fn is_all(&mut self) {
        if let Ok(request) = self.0.try_recv() {
            let from = &request.origin;
            panic!(
                "'{}' of '{from}' came, too, or again, by {:?}",
                request.topic,
                hops(&request.message.headers)
            );
        }
    }
}

/// The request is of this cell and came by this way.
pub(crate) fn check_way(request: &Request, origin: &Fqcn, way: &[String]) {
    assert_eq!(request.origin, *origin);
    assert_eq!(hops(&request.message.headers), way);
}
