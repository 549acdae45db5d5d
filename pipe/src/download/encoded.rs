//! A message with references.

use cellnet_core::message::{Message, Payload};

use super::Transaction;

/// A message that was encoded once. Clones share the bytes and the transaction, so what is sent again has the same
/// references.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Encoded {
    /// The encoded message.
    pub payload: Payload,
    /// The references in it that this cell owns; `None` if there are none.
    pub transaction: Option<Transaction>,
}

impl Encoded {
    /// A message with this payload.
    pub fn message(&self) -> Message {
        Message::new(self.payload.clone())
    }
}
