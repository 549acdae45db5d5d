//! Cells of ours for tests, and waiting with a deadline.

use std::time::Duration;

use cellnet_core::{
    CellUrl, Fqcn,
    cell::{Cell, CellBuilder, CellEvent, SHUTDOWN},
    message::{Message, Payload},
};

use crate::process::Process;

/// Describes a cell that speaks every transport and routes as the reference does.
pub(crate) fn builder(name: &str) -> CellBuilder {
    cellnet::builder(fqcn(name))
}

/// A cell that listens and dials nobody.
pub(crate) async fn listening(name: &str) -> Cell {
    builder(name).listen(any_port()).start().await.expect("a port of loopback")
}

/// A cell that has a link to whoever listens there.
pub(crate) async fn dialling(name: &str, url: &str) -> Cell {
    connected(builder(name).dial(parse(url))).await
}

/// A cell that listens and has a link to whoever listens at `url`.
pub(crate) async fn relaying(name: &str, url: &str) -> Cell {
    connected(builder(name).listen(any_port()).dial(parse(url))).await
}

/// Starts the cell and waits for its links.
pub(crate) async fn connected(builder: CellBuilder) -> Cell {
    let cell = builder.start().await.expect("a cell that can start");
    in_time("a link", cell.connected()).await;
    cell
}

/// Where a cell of ours listens, as others dial it.
pub(crate) fn url_of(cell: &Cell) -> String {
    let url = cell.listening()[0].to_string();
    url.split('?').next().unwrap_or_default().to_owned()
}

/// Starts a script of the reference's side that prints where it listens, and gives that too.
pub(crate) async fn python_listening(script: &str, args: &[&str]) -> (Process, String) {
    let mut process = Process::python(script, args);
    let url = process.ready().await["url"].as_str().expect("a URL").to_owned();
    (process, url)
}

/// Waits until `peer` is a neighbour.
pub(crate) async fn linked(cell: &Cell, peer: &str) {
    let mut events = cell.events();
    let wanted = fqcn(peer);
    in_time(&format!("the neighbour {peer} of {}", cell.name()), async {
        while !cell.neighbours().contains(&wanted) {
            events.next().await.expect("the cell lives");
        }
    })
    .await;
}

/// Waits until `peer` is no neighbour any more, and says why.
pub(crate) async fn lost(events: &mut cellnet_core::cell::Events, peer: &str) -> String {
    let wanted = fqcn(peer);
    in_time("the end of a link", async {
        loop {
            match events.next().await.expect("the cell lives") {
                CellEvent::Disconnected { peer, reason } if peer == wanted => return reason.to_string(),
                _ => {}
            }
        }
    })
    .await
}

/// Asks and expects an answer, whatever it says.
pub(crate) async fn ask(
    cell: &Cell,
    peer: &str,
    channel: &str,
    topic: &str,
    payload: impl Into<Payload>,
) -> Message {
    let asked = cell.request(&fqcn(peer), channel, topic, Message::new(payload)).timeout(PATIENCE);
    asked.await.unwrap_or_else(|e| panic!("'{topic}' on '{channel}' from {} to {peer}: {e:?}", cell.name()))
}

/// Nothing that came to these cells was refused for its origin.
pub(crate) fn no_foreign_origins<'a>(cells: impl IntoIterator<Item = &'a Cell>) {
    for cell in cells {
        assert_eq!(cell.counters().foreign_origins.get(), 0, "at {}", cell.name());
    }
}

/// The outcome that a reply reports.
pub(crate) fn code(reply: &Message) -> String {
    reply.code().map_or_else(|| "no code".into(), |code| code.to_string())
}

/// Ends the cell; the deadline must not be needed.
pub(crate) async fn end(cell: &Cell) {
    in_time("the end of a cell", cell.shutdown(SHUTDOWN)).await;
}

/// Waits for something that must happen.
pub(crate) async fn in_time<T>(what: &str, wait: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(PATIENCE, wait).await;
    waited.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {what}"))
}

/// A name.
pub(crate) fn fqcn(name: &str) -> Fqcn {
    name.parse().expect("a valid name")
}

/// A URL.
pub(crate) fn parse(url: &str) -> CellUrl {
    url.parse().expect("a valid URL")
}

pub(crate) fn any_port() -> CellUrl {
    parse("tcp://127.0.0.1:0")
}

/// How long anything may take that must happen. Only a failing test waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
