//! Pipes on a network in memory.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use cellnet_core::{
    CellUrl, Fqcn,
    cell::{ANY, Cell, Passing, Stage},
    transport::mem::MemNet,
};
use cellnet_pipe::{CellPipe, CellPipeBuilder, Mode, Pipe, PipeMessage, Place, TreePolicy};
use tokio::time::timeout;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn url(text: &str) -> CellUrl {
    text.parse().unwrap()
}

pub(crate) fn name(text: &str) -> Fqcn {
    text.parse().unwrap()
}

pub(crate) async fn start_cell(net: &MemNet, who: &str, listen: Option<&str>, dial: Option<&str>) -> Cell {
    let mut cell = Cell::builder(name(who)).resolver(TreePolicy).transport(net.clone());
    if let Some(listen) = listen {
        cell = cell.listen(url(listen));
    }
    if let Some(dial) = dial {
        cell = cell.dial(url(dial));
    }
    let cell = cell.start().await.unwrap();
    cell.connected().await;
    cell
}

pub(crate) async fn start_root(net: &MemNet) -> Cell {
    start_cell(net, "server", Some("mem://hub"), None).await
}

pub(crate) fn side(net: &MemNet, mode: Mode) -> CellPipeBuilder {
    side_at(net, mode, Place::root(url("mem://hub")))
}

pub(crate) fn side_at(net: &MemNet, mode: Mode, place: Place) -> CellPipeBuilder {
    let net = net.clone();
    CellPipe::builder(mode, "site-1", "job-7", place).cell(move |cell| cell.transport(net.clone()))
}

pub(crate) async fn opened(builder: CellPipeBuilder, name: &str) -> Arc<CellPipe> {
    let pipe = builder.build().unwrap();
    pipe.open(name).await.unwrap();
    pipe.cell().unwrap().connected().await;
    Arc::new(pipe)
}

/// Both sides, open and connected to the root.
pub(crate) async fn pair(net: &MemNet) -> (Arc<CellPipe>, Arc<CellPipe>) {
    (opened(side(net, Mode::Active), "task").await, opened(side(net, Mode::Passive), "task").await)
}

pub(crate) fn message(id: &str) -> PipeMessage {
    PipeMessage::new_request("train".parse().unwrap(), "abc").with_id(id)
}

pub(crate) async fn received(pipe: &CellPipe) -> PipeMessage {
    timeout(60 * SECOND, pipe.receive(None)).await.expect("a message in time").unwrap().unwrap()
}

/// The headers of everything that passes a cell.
pub(crate) fn record(cell: &Cell) -> Arc<Mutex<Vec<cellnet_core::wire::Headers>>> {
    let seen: Arc<Mutex<Vec<_>>> = Arc::default();
    let to = seen.clone();
    cell.add_filter(Stage::Incoming, ANY, ANY, move |passing: &mut Passing<'_>| {
        to.lock().unwrap().push(passing.headers.clone());
        Ok(())
    });
    seen
}
