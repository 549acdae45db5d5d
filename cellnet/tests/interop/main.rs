//! cellnet next to the reference: real processes of both kinds in one network, over loopback.

mod process;
mod python;
