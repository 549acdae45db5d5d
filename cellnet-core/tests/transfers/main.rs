//! Files and directories between cells over `mem://`, with the clock paused.

mod beside;
mod fanout;
mod faults;
mod hostile;
mod live;
mod place;
mod resume;
mod support;
mod together;
mod trees;
