//! CellPipe and the routing policy of the fabric.
