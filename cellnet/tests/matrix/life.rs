//! Cells that go, and come back.

use std::time::Duration;

use cellnet::{Events, Message, SHUTDOWN};

use crate::{
    network::{Network, disconnected},
    seen::Seen,
};

const CHANNEL: &str = "task";
const PATIENCE: Duration = Duration::from_secs(30);

/// Whoever goes in order says so to all its neighbours, after what it had told before.
pub(crate) async fn bye(network: Network) {
    let mut seen = Seen::echoing(network.server(), CHANNEL);
    for number in 0..10 {
        let message = Message::new(vec![number; 10_000]);
        network.site().fire_and_forget(network.server().name(), CHANNEL, "t", message).await.unwrap();
    }
    for leaving in network.cells().iter().rev() {
        let mut around = network.around(leaving);
        around.retain(|cell| leaving.neighbours().contains(cell.name()));
        let mut watched: Vec<Events> = around.iter().map(|cell| cell.events()).collect();
        leaving.shutdown(SHUTDOWN).await;
        for (cell, events) in around.iter().zip(&mut watched) {
            let reason = disconnected(events, leaving.name()).await;
            assert_eq!(reason, "peer said bye", "of {} at {}", leaving.name(), cell.name());
        }
    }
    let mut numbers = Vec::new();
    for _ in 0..10 {
        numbers.push(seen.next().await.message.payload.as_bytes()[0]);
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..10).collect::<Vec<_>>());
    seen.is_all();
}

/// Who was killed and comes back where it was is found again by those who dial it, and everything works as before.
pub(crate) async fn reconnect(mut network: Network) {
    for (asker, target) in network.both_ways() {
        let _seen = Seen::echoing(&target, CHANNEL);
        let ask = asker.request(target.name(), CHANNEL, "t", Message::new("before")).timeout(PATIENCE);
        assert!(ask.await.unwrap().is_ok());
    }
    let gone = network.kill_first_hub().await;
    assert!(gone.neighbours().is_empty());
    let server = network.server().name().clone();
    // Nobody waits for one that is not there: the asker knows, or the cell in front of the gap says it.
    let lost =
        network.site().request(&server, CHANNEL, "t", Message::new("meanwhile")).timeout(PATIENCE).await;
    let code = match lost {
        Ok(reply) => reply.code().expect("a reply has a code"),
        Err(error) => error.code(),
    };
    assert!(["comm_error", "target_unreachable"].contains(&code.as_str()), "{code}");
    network.restart_first_hub().await;
    network.check_legs();
    for (asker, target) in network.both_ways() {
        let mut seen = Seen::echoing(&target, CHANNEL);
        let ask = asker.request(target.name(), CHANNEL, "t", Message::new("after")).timeout(PATIENCE);
        assert_eq!(ask.await.unwrap().payload.as_bytes(), b"after");
        assert_eq!(seen.next().await.origin, *asker.name());
        seen.is_all();
    }
    network.stop().await;
}
