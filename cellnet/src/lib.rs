//! cellnet
