//! cellnet next to the reference: real processes of both kinds in one network, over loopback.

mod behaviour;
mod blobs;
mod cells;
mod downloads;
mod edge;
mod faults;
mod files;
mod flare;
mod identities;
mod kits;
mod leg;
mod mixed;
mod objects;
mod payload;
mod pipes;
mod process;
mod python;
mod relays;
mod side;
mod support;
mod trainer;
mod transports;
mod trust;
