//! The TCP transport of cellnet.
