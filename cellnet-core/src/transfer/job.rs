//! What the disk has to do for a sink at a time.

use std::collections::VecDeque;

use super::{
    TransferError,
    receiving::Written,
    staging::{Arrived, Staging, Wanted},
    wire::Entry,
};

/// Work for the disk.
#[derive(Default)]
pub(crate) struct Job {
    pub(crate) arrived: Vec<Arrived>,
    pub(crate) lengths: Vec<(u32, u64)>,
    pub(crate) entries: VecDeque<(u32, Entry)>,
    pub(crate) checking: Option<u32>,
    pub(crate) live: Vec<u32>,
}

/// What the disk did.
#[derive(Default)]
pub(crate) struct Did {
    pub(crate) written: usize,
    pub(crate) damaged: Vec<(u32, u64)>,
    pub(crate) wanted: Vec<Wanted>,
    /// Entries there was no room for.
    pub(crate) entries: VecDeque<(u32, Entry)>,
    pub(crate) checking: Option<u32>,
    pub(crate) safe: Vec<(u32, u64)>,
}

impl Job {
    /// Does all of it, as far as there is room for entries. Blocks.
    pub(crate) fn run(self, staging: &mut Staging) -> Result<Did, TransferError> {
        let mut did = Did { entries: self.entries, ..Did::default() };
        for (file, length) in self.lengths {
            staging.learn_size(file, length)?;
        }
        for arrived in &self.arrived {
            match staging.write(arrived)? {
                Written::Damaged => did.damaged.push((arrived.file, arrived.block)),
                Written::New(_) | Written::Known => did.written += 1,
            }
        }
        staging.flush()?;
        drop(self.arrived);
        did.checking = self.checking;
        loop {
            if let Some(at) = did.checking {
                match staging.check(at)? {
                    Some(wanted) => {
                        did.checking = None;
                        if staging.is_open(at) {
                            did.wanted.push(wanted);
                        }
                    }
                    // The rest has its turn when progress was shown.
                    None if staging.is_open(at) => break,
                    None => did.checking = None,
                }
            }
            let Some((at, entry)) = did.entries.pop_front() else { break };
            let dir = entry.dir;
            staging.begin(at, entry)?;
            did.checking = (!dir).then_some(at);
        }
        did.safe = self
            .live
            .iter()
            .filter(|at| staging.is_open(**at))
            .map(|at| (*at, staging.first_gap(*at)))
            .collect();
        Ok(did)
    }
}
