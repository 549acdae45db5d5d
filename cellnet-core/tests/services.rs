//! What services need of a cell: to know what became of their answers, to be there once, and not to keep it alive.

use std::time::Duration;

use cellnet_core::{
    cell::{Answer, Cell, HandlerError, RequestError, Stage, WeakCell},
    message::Message,
    testkit::sim::{Sim, fqcn},
};
use tokio::sync::mpsc;

/// Answers with `done` and says what became of that.
fn answering(cell: &Cell) -> mpsc::Receiver<Result<(), RequestError>> {
    let (told, heard) = mpsc::channel(8);
    let weak: WeakCell = cell.downgrade();
    cell.handle("*", "*", move |request| {
        let (weak, told) = (weak.clone(), told.clone());
        async move {
            let cell = weak.upgrade().ok_or_else(|| HandlerError::unavailable("gone"))?;
            let sent = cell.answer(&request, Message::new("done")).await;
            told.send(sent).await.unwrap();
            Ok(Answer::Deferred)
        }
    });
    heard
}

#[tokio::test(start_paused = true)]
async fn a_handler_hears_that_its_answer_got_away() {
    let sim = Sim::new();
    let server = sim.cell("server", &[]).await;
    let site = sim.cell("site", &["server"]).await;
    let mut heard = answering(&server);
    server.add_filter(Stage::OutgoingReply, "*", "*", |passing| {
        passing.headers.set("seen", true);
        Ok(())
    });
    for channel in ["task", "stream"] {
        let reply = site.request(server.name(), channel, "t", Message::empty()).await.unwrap();
        assert!(reply.is_ok() && reply.headers.flag("seen"), "{channel}: {reply:?}");
        assert_eq!(reply.payload.as_bytes(), b"done");
        assert!(heard.recv().await.unwrap().is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_hears_that_its_answer_was_lost() {
    let sim = Sim::new();
    let server = sim.cell("server", &[]).await;
    let site = sim.cell("site", &["server"]).await;
    let (arrived, mut arrivals) = mpsc::channel(1);
    let (told, mut heard) = mpsc::channel(1);
    let weak = server.downgrade();
    server.handle("stream", "*", move |request| {
        let (weak, arrived, told) = (weak.clone(), arrived.clone(), told.clone());
        async move {
            arrived.send(()).await.unwrap();
            request.cancelled().await;
            let cell = weak.upgrade().ok_or_else(|| HandlerError::unavailable("gone"))?;
            told.send(cell.answer(&request, Message::new("late")).await).await.unwrap();
            Ok(Answer::Deferred)
        }
    });
    let asked = tokio::spawn(site.request(&fqcn("server"), "stream", "t", Message::empty()).into_future());
    arrivals.recv().await.unwrap();
    site.cancel();
    let lost = heard.recv().await.unwrap();
    assert!(matches!(lost, Err(RequestError::Unreachable(_) | RequestError::LinkLost { .. })), "{lost:?}");
    assert!(asked.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_cell_keeps_one_value_of_each_type_until_it_is_gone() {
    let sim = Sim::new();
    let cell = sim.cell("server", &[]).await;
    let (first, made) = cell.extension(|| String::from("a"));
    let (second, made_again) = cell.clone().extension(|| String::from("b"));
    assert_eq!((&**first, &**second, made, made_again), ("a", "a", true, false));
    let (weak, stopping) = (cell.downgrade(), cell.stopping());
    assert!(weak.upgrade().is_some());
    drop(cell);
    stopping.await;
    assert!(weak.upgrade().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_is_seen_when_it_begins() {
    let sim = Sim::new();
    let cell = sim.cell("server", &[]).await;
    let stopping = cell.stopping();
    let ((), ()) = tokio::join!(cell.shutdown(Duration::from_secs(5)), stopping);
}
