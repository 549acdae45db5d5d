//! Blobs and byte streams.
