//! The object encoding of payloads.
