//! Whether the job still wants something from this process.

use tokio::sync::watch;

use super::End;

/// Set once, by whoever learns it first: a pipe, a signal, the program.
#[derive(Debug)]
pub(super) struct Life(watch::Sender<Option<End>>);

impl Life {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// The end has come. Only the first counts, whatever is learnt later.
    pub(super) fn finish(&self, end: End) {
        self.0.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                tracing::info!(%end, "a trainer has nothing more to do");
                *known = Some(end);
            }
            first
        });
    }

    /// The end, if it has come.
    pub(super) fn end(&self) -> Option<End> {
        self.0.borrow().clone()
    }

    /// Waits for the end. Cancel safe.
    pub(super) async fn ended(&self) -> End {
        let mut changes = self.0.subscribe();
        let end = changes.wait_for(Option::is_some).await.expect("the sender is ours");
        end.clone().expect("waited for it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_end_counts_and_everybody_hears_of_it() {
        let life = Life::new();
        assert_eq!(life.end(), None);
        let (end, ()) = tokio::join!(life.ended(), async { life.finish(End::Done) });
        assert_eq!(end, End::Done);
        life.finish(End::Stopped);
        assert_eq!(life.ended().await, End::Done);
    }
}
