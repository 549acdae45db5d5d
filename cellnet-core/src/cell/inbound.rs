//! Messages that arrive: filters, then this cell's own or in transit.
//!
//! All of this runs in the readers of links and never waits.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use bytestring::ByteString;
use tokio::{sync::Notify, time::Instant};
use uuid::Uuid;

use super::{
    CellEvent, Handler, Inner, OriginCheck, RequestError,
    answer::{About, ReplyTo},
    filters::{Passing, Stage},
    intake::Job,
    refuse::ReturnReason,
    request::{MessageHandler, Request},
};
use crate::{
    fqcn::Fqcn,
    link::{Inbox, Link, Outgoing, Park, Parked},
    message::{Message, MessageKind, Payload, ReturnCode, unix_time},
    route,
    transport::Frame,
    wire::{
        DecodeError, Headers, Value,
        keys::{cn, sm},
    },
};

impl Inbox for Arc<Inner> {
    fn deliver(&self, link: &Arc<Link>, park: &mut Park, headers: Headers, frame: Frame) {
        if frame.is_truncated() {
            let length = frame.prefix().map_or(0, |prefix| prefix.length);
            self.links.counters.oversize.add(1);
            if !self.vouched(link, &headers) {
                return;
            }
            let text = format!("the frame of {length} bytes exceeds the limit of '{}'", self.me());
            return self.refuse_oversize(headers, link, &text);
        }
        let (_, body) = frame.into_parts();
        self.take(link, park, headers, body);
    }

    fn awaited(&self) -> usize {
        self.pending.len()
    }

    fn malformed(&self, link: &Link, error: &DecodeError) {
        self.drop_message(link, &error.to_string());
    }

    fn retry(&self, link: &Arc<Link>, room: &Arc<Notify>, parked: Parked) -> Result<(), Parked> {
        if parked.hop != *self.me() {
            return self.forward_parked(link, room, parked);
        }
        let Outgoing { headers, body, .. } = parked.message;
        match self.receive_message(link, room, headers, body) {
            Ok(()) => Ok(()),
            Err((headers, body)) => Err(Parked { hop: parked.hop, message: Outgoing::new(headers, body) }),
        }
    }

    fn expire(&self, link: &Arc<Link>, parked: Parked) {
        let text = format!("'{}' made no progress for {:?}", parked.hop, self.config.link.patience);
        let code =
            if parked.hop == *self.me() { ReturnCode::SERVICE_UNAVAILABLE } else { ReturnCode::COMM_ERROR };
        self.refuse(
            &parked.message.headers,
            Some(link),
            ReturnReason::CannotForward,
            Message::failure(code, text),
        );
    }

    fn hop_progress(&self, hop: &Fqcn) -> Option<Instant> {
        if hop == self.me() {
            return Some(self.intake.progress());
        }
        self.links.table.get(hop.as_str()).map(|link| link.outbox.progress())
    }

    fn link_up(&self, link: &Arc<Link>) {
        tracing::info!(me = %self.me(), peer = %link.peer, remote = %link.info.remote, tls = %link.info.tls, cn = link.info.peer_cn, cellnet = link.cellnet.is_some(), "connected");
        self.events.send(CellEvent::Connected {
            peer: link.peer.clone(),
            remote: link.info.remote.as_str().into(),
            cellnet: link.cellnet.is_some(),
        });
    }

    fn link_down(&self, link: &Arc<Link>, unsent: Vec<Outgoing>) {
        let reason = crate::link::chain(&*link.reason());
        tracing::info!(me = %self.me(), peer = %link.peer, reason, unsent = unsent.len(), "disconnected");
        let error = self.link_lost(link);
        self.streams.link_down(self, link, &error);
        self.pending.fail_link(link.id, &error);
        self.lose_blocks(link);
        // Our own are known to those who wait for them.
        let transit = |message: &Outgoing| {
            message.headers.text(cn::ORIGIN).is_some_and(|origin| origin != self.me().as_str())
        };
        for message in unsent.into_iter().filter(transit) {
            let failure = Message::failure(ReturnCode::COMM_ERROR, error.to_string());
            self.refuse(&message.headers, None, ReturnReason::CannotForward, failure);
        }
        let replaced = self.links.table.get(link.peer.as_str()).is_some();
        if !replaced {
            self.events.send(CellEvent::Disconnected { peer: link.peer.clone(), reason: reason.into() });
        }
    }
}

impl Inner {
    fn drop_message(&self, link: &Link, why: &str) {
        self.links.counters.dropped.add(1);
        if self.links.noise.allows() {
            tracing::warn!(peer = %link.peer, why, "message dropped");
        }
    }

    /// Whether the link speaks for the origin of a message. If not, all that is to be done with it has been done.
    fn vouched(self: &Arc<Self>, link: &Arc<Link>, headers: &Headers) -> bool {
        let address = headers.address();
        let Some(origin) = &address.origin else {
            self.drop_message(link, "origin is missing or no cell name");
            return false;
        };
        if link.speaks_for(origin, self.me()) {
            return true;
        }
        // One's own message that came back is no fraud but a loop, and whoever waits is told.
        if origin == self.me() && route::guard(headers, self.me()) == Err(route::RouteError::Loop) {
            let text = format!("cannot forward: {}", route::RouteError::Loop);
            let failure = Message::failure(ReturnCode::COMM_ERROR, text);
            self.refuse(headers, Some(link), ReturnReason::CannotForward, failure);
            return false;
        }
        self.links.counters.foreign_origins.add(1);
        let why = format!("'{}' does not speak for its origin '{origin}'", link.peer);
        if self.config.origins == OriginCheck::Warn {
            if self.links.forgeries.allows() {
                tracing::warn!(peer = %link.peer, why, "message let through, because origins are not enforced");
            }
            return true;
        }
        self.links.counters.dropped.add(1);
        if self.links.forgeries.allows() {
            tracing::warn!(peer = %link.peer, why, "message dropped");
        }
        false
    }

    /// Answers a message whose body was too long to be kept: a request gets a reply or a RETURN, a reply becomes one
    /// that says so.
    fn refuse_oversize(self: &Arc<Self>, headers: Headers, link: &Arc<Link>, text: &str) {
        let failure = Message::failure(ReturnCode::MSG_TOO_BIG, text);
        let mine = headers.says(cn::DESTINATION, self.me().as_str());
        let reply = headers.says(cn::MSG_TYPE, MessageKind::Reply.as_str());
        if !(mine && reply) {
            return self.refuse(&headers, Some(link), ReturnReason::CannotForward, failure);
        }
        let mut headers = headers;
        headers.extend(&failure.headers);
        headers.set(cn::PAYLOAD_ENCODING, "none");
        self.receive_reply(headers, Bytes::new());
    }

    fn take(self: &Arc<Self>, link: &Arc<Link>, park: &mut Park, mut headers: Headers, body: Bytes) {
        let address = headers.address();
        let kind = address.kind.as_deref().and_then(MessageKind::parse);
        let Some(target) = &address.destination else {
            return self.drop_message(link, "destination is missing or no cell name");
        };
        let mine = target == self.me();
        if address.kind.is_none() {
            return self.drop_message(link, "message type is missing");
        }
        if !self.vouched(link, &headers) {
            return;
        }
        let mut passing = Passing { headers: &mut headers, kind, from: Some(&link.peer) };
        if let Err(instead) = self.filters.pass_as_addressed(Stage::Incoming, &mut passing) {
            return self.refuse(&headers, Some(link), ReturnReason::CannotForward, instead);
        }
        if kind == Some(MessageKind::Request)
            && let Some(interceptor) = self.interceptor.read().unwrap_or_else(PoisonError::into_inner).clone()
        {
            let mut passing = Passing { headers: &mut headers, kind, from: Some(&link.peer) };
            if let Err(instead) = super::filters::ask(&interceptor.0, &mut passing) {
                return self.refuse(&headers, Some(link), ReturnReason::Intercepted, instead);
            }
        }
        if !mine {
            return self.forward(link, park, target, headers, body);
        }
        if let Err(error) = route::join(&mut headers, self.me(), unix_time()) {
            let text = format!("'{target}': {error}");
            return self.refuse(
                &headers,
                Some(link),
                ReturnReason::CannotForward,
                Message::failure(ReturnCode::COMM_ERROR, text),
            );
        }
        match kind {
            Some(MessageKind::Request) => {
                if park.holds(self.me().as_str())
                    && !headers.flag(cn::REPLY_EXPECTED)
                    && !headers.is_on(sm::STREAM_CHANNEL)
                {
                    return park.push(Parked { hop: target.clone(), message: Outgoing::new(headers, body) });
                }
                let room = park.room().clone();
                if let Err((headers, body)) = self.receive_message(link, &room, headers, body) {
                    park.push(Parked { hop: target.clone(), message: Outgoing::new(headers, body) });
                }
            }
            Some(MessageKind::Reply) => self.receive_reply(headers, body),
            Some(MessageKind::Return) => self.receive_return(headers, body),
            None => self.drop_message(link, "message type is unknown"),
        }
    }

    /// Takes a request for this cell. Gives it back if no handler can take it and nobody waits for an answer.
    fn receive_message(
        self: &Arc<Self>,
        link: &Arc<Link>,
        room: &Arc<Notify>,
        headers: Headers,
        body: Bytes,
    ) -> Result<(), (Headers, Bytes)> {
        let address = headers.address();
        let (channel, topic) = (&address.channel, &address.topic);
        if **channel == *sm::STREAM_CHANNEL {
            return self.streams.deliver(self, link, room, headers, body);
        }
        if **channel == *cn::CELLNET_CHANNEL {
            match &**topic {
                cn::BYE => {
                    self.receive_bye(link, &headers);
                    return Ok(());
                }
                cn::BULK => return self.receive_bulk(link, room, headers, body),
                _ => {}
            }
        }
        let expected = address.reply_expected;
        let cost = body.len() + headers.memory();
        let unavailable = if self.links.stop.is_cancelled() {
            Some("is shutting down")
        } else if !self.intake.has_room(link.id, cost, room) {
            if !expected {
                return Err((headers, body));
            }
            self.links.counters.overloaded.add(1);
            Some("has too many requests waiting")
        } else {
            None
        };
        if let Some(why) = unavailable {
            let failure = Message::failure(ReturnCode::SERVICE_UNAVAILABLE, format!("'{}' {why}", self.me()));
            self.refuse(&headers, Some(link), ReturnReason::CannotForward, failure);
            return Ok(());
        }
        let (channel, topic) = (channel.clone(), topic.clone());
        let reply_to = match expected {
            true => ReplyTo::Plain {
                link: link.clone(),
                about: About::new(&headers, channel.clone(), topic.clone()),
            },
            false => ReplyTo::Nobody,
        };
        let payload = Payload::from_wire(address.encoding.as_deref(), body);
        self.dispatch(Some(link), (channel, topic), reply_to, Message { headers, payload }, cost);
        Ok(())
    }

    /// Gives a whole request to its handler, after the filters, by the application's channel and topic.
    pub(crate) fn dispatch(
        self: &Arc<Self>,
        link: Option<&Arc<Link>>,
        (channel, topic): (ByteString, ByteString),
        reply_to: ReplyTo,
        mut message: Message,
        cost: usize,
    ) {
        let origin = message.headers.address().origin.clone().unwrap_or_else(|| self.me().clone());
        let mut passing = Passing {
            headers: &mut message.headers,
            kind: Some(MessageKind::Request),
            from: link.map(|link| &link.peer),
        };
        let refused = self.filters.pass(Stage::IncomingRequest, &channel, &topic, &mut passing).err();
        let link_id = link.map_or(super::ask::LOCAL_LINK, |link| link.id);
        let inner = self.clone();
        let handler = self.handler(&channel, &topic);
        let run: futures_util::future::BoxFuture<'static, ()> = match (refused, handler) {
            (None, Some(Handler::Message(handler))) => {
                let (links, link) = (self.links.clone(), link.cloned());
                let request = Request { message, origin, channel, topic, reply_to, link, links };
                match handler {
                    MessageHandler::Patient(_) => Box::pin(super::answer::serve(inner, request, handler)),
                    MessageHandler::Quick(handler) => {
                        // Only a reply that finds no room makes a quick one wait.
                        let Some(run) = super::answer::serve_now(&inner, request, &handler) else { return };
                        run
                    }
                }
            }
            (refused, _) => {
                let answer = refused.unwrap_or_else(|| {
                    tracing::debug!(%channel, %topic, %origin, "no handler");
                    Message::failure(
                        ReturnCode::PROCESS_EXCEPTION,
                        format!("no handler for '{channel}' '{topic}'"),
                    )
                });
                if matches!(reply_to, ReplyTo::Nobody) {
                    self.links.counters.dropped.add(1);
                    return;
                }
                Box::pin(async move { inner.reply(&origin, &reply_to, answer).await })
            }
        };
        self.start(link_id, Job { run, cost });
    }

    /// Takes an answer that this cell made to a message of its own which came back to it.
    pub(super) fn receive_own(self: &Arc<Self>, link: Option<&Arc<Link>>, headers: Headers, body: Bytes) {
        match headers.text(cn::MSG_TYPE).and_then(MessageKind::parse) {
            Some(MessageKind::Reply) => self.receive_reply(headers, body),
            Some(MessageKind::Return) => self.receive_return(headers, body),
            // Answers to streams never find the intake full: only fire-and-forget requests are given back.
            _ => {
                if let Some(link) = link {
                    drop(self.streams.deliver(self, link, &Arc::default(), headers, body));
                }
            }
        }
    }

    fn receive_reply(&self, mut headers: Headers, body: Bytes) {
        let Some(origin) = headers.address().origin.clone() else { return };
        let ids = request_ids(&headers);
        let encoding = headers.shared_text(cn::PAYLOAD_ENCODING);
        let mut passing = Passing { headers: &mut headers, kind: Some(MessageKind::Reply), from: None };
        let refused = self.filters.pass_as_addressed(Stage::IncomingReply, &mut passing).err();
        let payload = Payload::from_wire(encoding.as_deref(), body);
        let outcome = match refused {
            Some(instead) => Err(RequestError::Filtered(instead.error().unwrap_or_default().to_owned())),
            None => Ok(Message { headers, payload }),
        };
        let complete = |id: Uuid, outcome| {
            if !self.pending.complete(id, Some(origin.clone()), outcome) {
                self.links.counters.late_replies.add(1);
                tracing::debug!(%origin, %id, "reply that nobody waits for dropped");
            }
        };
        let Some((&last, ids)) = ids.split_last() else { return };
        ids.iter().for_each(|&id| complete(id, outcome.clone()));
        complete(last, outcome);
    }

    /// A request that came back: the waiter is found by whom it was for.
    fn receive_return(&self, mut headers: Headers, body: Bytes) {
        let original = headers.get(cn::ORIGINAL_HEADERS);
        let target =
            original.as_ref().and_then(|map| map.get(cn::DESTINATION)).and_then(Value::as_text).cloned();
        let target = target.and_then(|target| Fqcn::parse(target).ok());
        let ids = request_ids(&headers);
        let encoding = headers.shared_text(cn::PAYLOAD_ENCODING);
        headers.remove(cn::ORIGINAL_HEADERS);
        let message = Message { headers, payload: Payload::from_wire(encoding.as_deref(), body) };
        for id in ids {
            if target.is_none() || !self.pending.complete(id, target.clone(), Ok(message.clone())) {
                self.links.counters.late_replies.add(1);
                tracing::debug!(%id, "RETURN that nobody waits for dropped");
            }
        }
    }

    /// A neighbour takes its leave: nothing is routed to it any more, and its connection is about to end.
    fn receive_bye(self: &Arc<Self>, link: &Arc<Link>, headers: &Headers) {
        // Somebody behind the neighbour cannot take leave for it.
        if headers.says(cn::ORIGIN, link.peer.as_str()) {
            tracing::debug!(peer = %link.peer, "bye");
            self.links.table.dismiss(link);
            link.said_bye();
        }
        if headers.flag(cn::REPLY_EXPECTED) {
            let origin = headers.fqcn(cn::ORIGIN);
            let origin = origin.unwrap_or_else(|| link.peer.clone());
            self.answer_now(
                headers,
                &origin,
                Some(link),
                ReturnReason::CannotForward,
                Message::failure(ReturnCode::OK, ""),
            );
        }
    }

    /// Several messages in one, each a fire-and-forget request with the outer headers over its own.
    fn receive_bulk(
        self: &Arc<Self>,
        link: &Arc<Link>,
        room: &Arc<Notify>,
        headers: Headers,
        body: Bytes,
    ) -> Result<(), (Headers, Bytes)> {
        if !self.intake.has_room(link.id, body.len() + headers.memory(), room) {
            return Err((headers, body));
        }
        match super::bulk::split(&headers, &body) {
            Ok(messages) => {
                for (channel, topic, message) in messages {
                    let cost = message.payload.len() + message.headers.memory();
                    if !self.intake.has_room(link.id, cost, room) {
                        self.drop_message(link, "no handler is free for a part of a bulk message");
                        continue;
                    }
                    self.dispatch(Some(link), (channel, topic), ReplyTo::Nobody, message, cost);
                }
            }
            Err(error) => self.drop_message(link, &format!("bulk message: {error}")),
        }
        Ok(())
    }
}

/// The ids in a reply: one as text, or several in a list. Ids that are not ours are left out.
fn request_ids(headers: &Headers) -> Vec<Uuid> {
    if let Some(id) = headers.text(cn::REQ_ID) {
        return Uuid::try_parse(id).into_iter().collect();
    }
    let parse = |id: &Value| id.as_str().and_then(|id| Uuid::try_parse(id).ok());
    match headers.get(cn::REQ_ID) {
        Some(Value::Array(ids)) => ids.iter().filter_map(parse).collect(),
        _ => Vec::new(),
    }
}

/// What waits with the handler of a byte stream, whose window is counted elsewhere.
pub(crate) const MESSAGE_COST: usize = 1024;
