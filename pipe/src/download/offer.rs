//! To whom something is offered, how often and how long.

use std::time::Duration;

use cellnet_core::Fqcn;

/// The terms of a transaction. A reference is bound to the cells that its offer names: others are refused.
///
/// A message that another cell passes on (`cn__pass_through`) is pulled by whoever it ends up with, so its offer names
/// that cell, or the subtree in which it will be.
///
/// ```
/// # use std::time::Duration;
/// # use cellnet_pipe::download::Offer;
/// let to_the_server = Offer::to("server".parse()?).or_below("server".parse()?).ttl(Duration::from_secs(600));
/// let to_two_sites = Offer::to_each(["site-1".parse()?, "site-2".parse()?]);
/// # Ok::<_, cellnet_core::FqcnError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    pub(super) cells: Vec<Fqcn>,
    pub(super) subtrees: Vec<Fqcn>,
    pub(super) anyone: bool,
    pub(super) receivers: usize,
    pub(super) times: u32,
    pub(super) ttl: Option<Duration>,
}

impl Offer {
    /// To one cell, which may pull it once.
    pub fn to(cell: Fqcn) -> Self {
        Self::to_each([cell])
    }

    /// To several cells, each of which may pull it once; the transaction is finished when all have.
    pub fn to_each(cells: impl IntoIterator<Item = Fqcn>) -> Self {
        let mut different: Vec<Fqcn> = Vec::new();
        for cell in cells {
            if !different.contains(&cell) {
                different.push(cell);
            }
        }
        let cells = different;
        Self { receivers: cells.len(), cells, subtrees: Vec::new(), anyone: false, times: 1, ttl: None }
    }

    /// To one cell among `root` and those below it.
    pub fn below(root: Fqcn) -> Self {
        Self { receivers: 1, ..Self::to_each([]) }.or_below(root)
    }

    /// To one cell, whichever comes first. This is how the reference offers everything.
    pub fn to_anyone() -> Self {
        Self { anyone: true, receivers: 1, ..Self::to_each([]) }
    }

    /// Also allows another cell, without expecting one more receiver.
    #[must_use]
    pub fn or(mut self, cell: Fqcn) -> Self {
        self.cells.push(cell);
        self
    }

    /// Also allows `root` and the cells below it, without expecting more receivers.
    #[must_use]
    pub fn or_below(mut self, root: Fqcn) -> Self {
        self.subtrees.push(root);
        self
    }

    /// How many cells will pull; the transaction is finished when so many have, and one more is refused. With 0, which
    /// stands for an unknown number, it ends by its life-time only.
    #[must_use]
    pub fn receivers(mut self, receivers: usize) -> Self {
        self.receivers = receivers;
        self
    }

    /// How often each cell may pull, at least once. The transaction counts as delivered after the first time; what it
    /// holds stays for the others, until its life-time ends. Repeated requests are not counted as long as all that a cell
    /// draws is below four times what it may.
    ///
    /// A message that is sent again because its acknowledgement got lost is pulled again if its receiver is a cell of the
    /// reference.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times.max(1);
        self
    }

    /// How long the transaction waits for progress; [`DownloadConfig::ttl`](super::DownloadConfig::ttl) without.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Whether a cell may pull at all.
    pub(super) fn allows(&self, cell: &Fqcn) -> bool {
        self.anyone
            || self.cells.contains(cell)
            || self.subtrees.iter().any(|root| root == cell || root.is_ancestor_of(cell))
    }

    pub(super) fn is_for_nobody(&self) -> bool {
        !self.anyone && self.cells.is_empty() && self.subtrees.is_empty()
    }
}
