//! How often memory is asked for while small messages go back and forth.
//!
//! Both cells are in this thread, so what is counted is both of theirs: the caller's future and its reply, headers on each
//! side, frames. `mem://` adds no more than a piece of memory for each write, and a write has many messages. With the clock
//! paused a count is the same each time. The bounds are the next whole numbers above what was counted when they were set;
//! they are there to be lowered.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use cellnet_core::{
    cell::{Cell, HandlerError, Request},
    message::Message,
    testkit::sim::Sim,
};
use futures_util::future::join_all;
use tokio::runtime::{Builder, Runtime};

/// Two linked cells; the second one answers and counts.
struct Pair {
    runtime: Runtime,
    client: Cell,
    server: Cell,
    told: Arc<AtomicU64>,
}

impl Pair {
    fn new(compact: bool) -> Self {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let told = Arc::new(AtomicU64::new(0));
        let (client, server) = runtime.block_on(async {
            let sim = Sim::new().configured(|config| config.link.compact_heads = compact);
            let server = sim.cell("server", &[]).await;
            server.handle_quick("task", "echo", |request: Request| {
                Ok::<_, HandlerError>(Message::new(request.message.payload))
            });
            let count = told.clone();
            server.handle_quick("task", "tell", move |_| {
                count.fetch_add(1, Relaxed);
                Ok::<_, HandlerError>(Message::empty())
            });
            (sim.cell("site", &["server"]).await, server)
        });
        Self { runtime, client, server, told }
    }

    /// Asks so many times, with 16 under way.
    fn ask(&self, times: u64) {
        let message = Message::new(vec![7; 64]);
        self.runtime.block_on(async {
            for _ in 0..times / 16 {
                let asks = (0..16).map(|_| {
                    self.client.request(self.server.name(), "task", "echo", message.clone()).into_future()
                });
                for reply in join_all(asks).await {
                    assert!(reply.unwrap().is_ok());
                }
            }
        });
    }

    /// Tells so many times and waits until all have arrived.
    fn tell(&self, times: u64) {
        let message = Message::new(vec![7; 64]);
        let all = self.told.load(Relaxed) + times;
        self.runtime.block_on(async {
            for _ in 0..times {
                let ask = self.client.request(self.server.name(), "task", "tell", message.clone());
                ask.tell().await.unwrap();
            }
            while self.told.load(Relaxed) < all {
                tokio::task::yield_now().await;
            }
        });
    }
}

/// Allocations for one of many messages.
fn per_message(mut work: impl FnMut(u64)) -> f64 {
    const MESSAGES: u64 = 3200;
    // Tables and buffers find their size.
    work(MESSAGES);
    let counted = allocation_counter::measure(|| work(MESSAGES));
    counted.count_total as f64 / MESSAGES as f64
}

#[test]
fn a_small_message_needs_few_allocations() {
    for (compact, ask_at_most, tell_at_most) in [(true, 10.0, 3.0), (false, 10.0, 5.0)] {
        let pair = Pair::new(compact);
        let ask = per_message(|times| pair.ask(times));
        assert!(ask <= ask_at_most, "{ask} allocations for a request with its reply, short heads: {compact}");
        let tell = per_message(|times| pair.tell(times));
        assert!(tell <= tell_at_most, "{tell} allocations for a message, short heads: {compact}");
    }
}
