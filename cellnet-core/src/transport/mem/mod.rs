//! `mem://`: connections inside one process, with faults on demand.
