//! CellPipe and the routing policy of the fabric.

pub mod name;
pub mod place;
pub mod resolve;

pub use name::{Mode, ModeError, PipeNameError, pipe_fqcn};
pub use place::{
    ConnectionProperties, ConnectionSecurity, ConnectionSecurityError, Place, PlaceError, UnknownUrl,
};
pub use resolve::next_hop;
