//! Requests under odd conditions: the same target twice, callbacks that end their own request.

use std::{
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use cellnet_core::{
    cell::{HandlerError, Request, RequestError},
    message::Message,
    testkit::sim::{Sim, blob, echo, fqcn},
};
use futures_util::future::BoxFuture;
use tokio::sync::Notify;

#[tokio::test(start_paused = true)]
async fn a_target_that_is_named_twice_answers_twice() {
    let sim = Sim::new();
    let server = sim.cell("server", &[]).await;
    let site = sim.cell("site", &["server"]).await;
    server.handle("task", "*", echo);
    site.handle("task", "*", echo);
    let messages = [("server", "a"), ("site", "b"), ("server", "c"), ("site", "d")]
        .map(|(target, text)| (fqcn(target), Message::new(text)));
    let replies = site.multi_request(messages.into(), "task", "t", Duration::from_secs(5)).await;
    let texts: Vec<_> = replies
        .into_iter()
        .map(|(target, reply)| (target.to_string(), reply.unwrap().payload.to_bytes()))
        .collect();
    let expected = [("server", "a"), ("site", "b"), ("server", "c"), ("site", "d")]
        .map(|(target, text)| (target.to_owned(), text.into()));
    assert_eq!(texts, expected);
}

type Reply = BoxFuture<'static, Result<Message, RequestError>>;

/// The callback of the reply runs in the reader of the link.
#[tokio::test(start_paused = true)]
async fn a_progress_callback_may_drop_its_own_request() {
    for reply in [3 << 20, 30 << 20] {
        let sim = Sim::new();
        let server = sim.cell("server", &[]).await;
        let site = sim.cell("site", &["server"]).await;
        server.handle("echo", "big", move |_: Request| async move { Ok::<_, HandlerError>(blob(reply)) });
        server.handle("echo", "t", echo);
        let slot: Arc<Mutex<Option<Reply>>> = Arc::default();
        let dropped = Arc::new(Notify::new());
        let (inside, told) = (slot.clone(), dropped.clone());
        let ask = site.request(server.name(), "echo", "big", blob(3 << 20)).on_progress(move |progress| {
            if progress.received > 0 {
                let own = inside.lock().unwrap().take();
                drop(own);
                told.notify_one();
            }
        });
        *slot.lock().unwrap() = Some(ask.into_future());
        let outcome = tokio::spawn(std::future::poll_fn(move |cx| {
            let mut slot = slot.lock().unwrap();
            match slot.as_mut() {
                Some(ask) => ask.as_mut().poll(cx).map(Some),
                None => Poll::Ready(None),
            }
        }));
        dropped.notified().await;
        // The driver sleeps until somebody polls it, and the request that would wake it is gone.
        outcome.abort();
        let ended = outcome.await;
        assert!(!matches!(ended, Ok(Some(_))), "the request came to an end: {ended:?}");
        let again = site.request(server.name(), "echo", "t", blob(20 << 20)).await.unwrap();
        assert!(again.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn progress_never_goes_back() {
    let sim = Sim::new();
    let server = sim.cell("server", &[]).await;
    let site = sim.cell("site", &["server"]).await;
    server.handle("echo", "*", echo);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = seen.clone();
    let ask = site.request(server.name(), "echo", "t", blob(12 << 20));
    let reply =
        ask.on_progress(move |progress| told.lock().unwrap().push((progress.sent, progress.received)));
    assert_eq!(reply.await.unwrap().payload.len(), 12 << 20);
    let seen = seen.lock().unwrap();
    assert!(seen.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1), "{seen:?}");
    assert_eq!(seen.last(), Some(&(12 << 20, 12 << 20)));
}
