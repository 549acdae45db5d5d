//! The command line of cellnet.
fn main() {}
