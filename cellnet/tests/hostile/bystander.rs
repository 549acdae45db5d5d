//! A good cell that works while others do harm.

use std::time::Duration;

use cellnet::{Cell, CellEvent, Events, Fqcn, Message};
use tokio::{sync::watch, task::JoinHandle};

use crate::victim::Victim;

/// Asks without a pause; every answer must come and be right, by one and the same link.
#[derive(Debug)]
pub(crate) struct Bystander {
    cell: Cell,
    events: Events,
    answers: watch::Receiver<u64>,
    asking: JoinHandle<()>,
}

impl Bystander {
    pub(crate) async fn start(victim: &Victim, name: &str) -> Self {
        let cell = victim.client(name).await;
        let events = cell.events();
        let (count, answers) = watch::channel(0_u64);
        let asker = cell.clone();
        let asking = tokio::spawn(async move {
            loop {
                for channel in ["task", "echo"] {
                    let sent = Message::new(count.borrow().to_string());
                    let ask = asker.request(&Fqcn::server(), channel, "t", sent.clone());
                    let reply = ask.timeout(crate::FLOODED).await.expect("an answer, whatever others do");
                    assert!(reply.is_ok() && reply.payload == sent.payload, "{reply:?}");
                }
                count.send_modify(|count| *count += 1);
                tokio::time::sleep(BREATH).await;
            }
        });
        Self { cell, events, answers, asking }
    }

    /// It still gets answers, and has not lost its link in all the time.
    pub(crate) async fn stays_unharmed(mut self) {
        let before = *self.answers.borrow();
        let later = self.answers.wait_for(|count| *count > before + 1).await.map(|count| *count);
        if later.is_err() {
            self.asking.await.expect("the bystander was served");
            unreachable!("it asks until it fails");
        }
        self.asking.abort();
        let _ = self.asking.await;
        self.cell.shutdown(Duration::from_secs(5)).await;
        drop(self.cell);
        // The link may have come up after the events began, and ends now; it came never again.
        let (mut seen, mut links) = (Vec::new(), 1);
        while let Some(event) = self.events.next().await {
            let lost_before = seen.iter().any(|seen| matches!(seen, CellEvent::Disconnected { .. }));
            links += usize::from(lost_before && matches!(event, CellEvent::Connected { .. }));
            seen.push(event);
        }
        assert_eq!(links, 1, "the bystander lost its link: {seen:?}");
    }
}

/// Between two questions: a bystander leaves time for the attack.
const BREATH: Duration = Duration::from_millis(5);
