//! Messages in transit: the next hop, a new head, the same body.

use std::sync::Arc;

use bytes::Bytes;

use super::{Inner, refuse::ReturnReason};
use crate::{
    fqcn::Fqcn,
    link::{Class, Link, Outgoing, Park, Parked, Refused},
    message::{Message, ReturnCode, unix_time},
    route,
    wire::{
        Headers,
        keys::{cn, sm},
    },
};

impl Inner {
    /// Passes a message on to the next hop, sets it aside if that is full, or tells its origin that it cannot.
    pub(super) fn forward(
        self: &Arc<Self>,
        from: &Arc<Link>,
        park: &mut Park,
        target: &Fqcn,
        headers: Headers,
        body: Bytes,
    ) {
        let (chunk, block) = (headers.is_on(sm::STREAM_CHANNEL), self.blocks.concern(&headers));
        let cannot = |headers: &Headers, text: String| {
            self.refuse(
                headers,
                Some(from),
                ReturnReason::CannotForward,
                Message::failure(ReturnCode::COMM_ERROR, text),
            );
        };
        if chunk && self.is_discarded(&headers) {
            self.links.counters.dropped.add(1);
            return;
        }
        if let Err(error) = route::guard(&headers, self.me()) {
            return cannot(&headers, format!("cannot forward to '{target}': {error}"));
        }
        // Back to where it came from is no way on.
        let hop = self.next_hop(target).filter(|hop| hop.id != from.id);
        let passed = match block {
            true => self.pass_block(from, park, target, hop.as_ref(), headers, body),
            false => Some((headers, body)),
        };
        let Some((headers, body)) = passed else { return };
        let Some(hop) = hop else {
            return cannot(&headers, format!("cannot forward: '{}' knows no way to '{target}'", self.me()));
        };
        let headers = hop.transit.headers(headers, &self.hop(&hop, body.len(), unix_time()));
        if let Err(error) = self.check(&hop, &headers, &body) {
            let failure = Message::failure(error.code(), error.to_string());
            return self.refuse(&headers, Some(from), ReturnReason::CannotForward, failure);
        }
        let message = Outgoing::new(headers, body);
        if matches!(message.class, Class::Bulk(_)) && park.holds(hop.peer.as_str()) {
            return park.push(Parked { hop: hop.peer.clone(), message });
        }
        match hop.outbox.try_push_or_wake(message, park.room()) {
            Ok(()) => self.links.counters.forwarded.add(1),
            Err(Refused::Full(message)) => park.push(Parked { hop: hop.peer.clone(), message }),
            Err(Refused::Closed(message)) => {
                cannot(&message.headers, format!("the link to '{}' is ending", hop.peer));
            }
        }
    }

    /// Offers a parked message to its hop again.
    pub(super) fn forward_parked(
        self: &Arc<Self>,
        from: &Arc<Link>,
        room: &Arc<tokio::sync::Notify>,
        parked: Parked,
    ) -> Result<(), Parked> {
        let Parked { hop, message } = parked;
        let lost = |message: Outgoing| {
            let text =
                format!("the link to '{}' is lost", message.headers.shared_text(cn::TO).unwrap_or_default());
            self.refuse(
                &message.headers,
                Some(from),
                ReturnReason::CannotForward,
                Message::failure(ReturnCode::COMM_ERROR, text),
            );
        };
        let Some(link) = self.links.table.get(hop.as_str()) else {
            lost(message);
            return Ok(());
        };
        if self.is_discarded(&message.headers) {
            self.links.counters.dropped.add(1);
            return Ok(());
        }
        match link.outbox.try_push_or_wake(message, room) {
            Ok(()) => self.links.counters.forwarded.add(1),
            Err(Refused::Full(message)) => return Err(Parked { hop, message }),
            Err(Refused::Closed(message)) => lost(message),
        }
        Ok(())
    }

    /// Whether this is a chunk of a stream that was given up.
    fn is_discarded(&self, headers: &Headers) -> bool {
        let is_data = headers.is_on(sm::STREAM_CHANNEL) && headers.says(cn::TOPIC, sm::DATA_TOPIC);
        if !is_data {
            return false;
        }
        let id = headers.uint(sm::ID);
        let origin = headers.text(cn::ORIGIN);
        id.zip(origin).is_some_and(|(id, origin)| self.discarded.holds(origin, id))
    }
}
