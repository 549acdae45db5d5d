//! Small networks of cells over `mem://`, for tests under paused time.

use std::borrow::Cow;

use bytes::Bytes;

use crate::{
    cell::{Cell, CellBuilder, CellConfig, HandlerError, Request},
    fqcn::Fqcn,
    message::Message,
    route::{Neighbours, Resolver},
    transport::mem::MemNet,
};

/// A network of cells whose links are wires of a [`MemNet`]; every cell is the host of its own name.
#[derive(Debug, Clone, Default)]
pub struct Sim {
    /// The wires.
    pub net: MemNet,
    /// How cells behave.
    pub config: CellConfig,
}

impl Sim {
    /// A network without cells.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with another configuration for the cells to come.
    pub fn configured(mut self, change: impl FnOnce(&mut CellConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// A cell that is not started yet; it knows the wires and the tree.
    pub fn builder(&self, name: &str) -> CellBuilder {
        Cell::builder(fqcn(name)).transport(self.net.host(name)).resolver(Tree).config(self.config.clone())
    }

    /// A cell that listens at `mem://NAME` and dials each of `up`, whose links are there on return.
    ///
    /// # Panics
    ///
    /// If the name is none, or taken.
    pub async fn cell(&self, name: &str, up: &[&str]) -> Cell {
        let mut builder = self.builder(name).listen(url(name));
        for up in up {
            builder = builder.dial(url(up));
        }
        let cell = builder.start().await.expect("the test gives valid names");
        cell.connected().await;
        cell
    }
}

/// Routes as a tree does: to the neighbour that is the longest prefix of the target, else up, else to `server`.
#[derive(Debug, Clone, Copy)]
pub struct Tree;

impl Resolver for Tree {
    fn next_hop<'a>(
        &self,
        me: &'a Fqcn,
        target: &'a Fqcn,
        neighbours: &dyn Neighbours,
    ) -> Option<Cow<'a, str>> {
        let above = me.prefixes().skip(1).chain(["server"]);
        let mut ways = target.prefixes().chain(above);
        ways.find(|way| *way != me.as_str() && neighbours.contains(way)).map(Cow::Borrowed)
    }
}

/// A name that the test knows to be valid.
///
/// # Panics
///
/// If it is not.
pub fn fqcn(name: &str) -> Fqcn {
    name.parse().expect("the test gives valid names")
}

fn url(name: &str) -> crate::CellUrl {
    format!("mem://{name}").parse().expect("cell names make URLs")
}

/// A handler that answers with the payload it got.
pub async fn echo(request: Request) -> Result<Message, HandlerError> {
    Ok(Message { payload: request.message.payload, ..Message::default() })
}

/// A message with so many bytes, different in every KiB.
pub fn blob(bytes: usize) -> Message {
    Message::new((0..bytes).map(|at| (at / 1024 + at * 31) as u8).collect::<Bytes>())
}
