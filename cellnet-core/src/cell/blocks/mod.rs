//! Blocks of transfers that pass a relay: answered from what it keeps, asked for once for all, learnt on their way down.
//!
//! [`Cache`] decides; here its decisions become messages. All but the sweep runs in the readers of links and never waits.

mod cache;
mod place;
mod pull;
mod room;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use self::{
    cache::{Answered, Asked, Cache, Release, Verdict},
    pull::{Asker, Hop, QUIET, Reply},
};
use super::{CellConfig, Inner, RequestError, answer::About, refuse::ReturnReason};
use crate::{
    fqcn::Fqcn,
    link::{Class, Link, Outgoing, Park, Parked, Refused},
    message::{Message, MessageKind, ReturnCode, unix_time},
    route,
    stats::{Budget, Counters},
    transfer::{BLOCK, BlockAsk, FRESH, LENGTH, LIVE, SAFE},
    wire::{
        Headers, Value,
        keys::{TRANSFER_CHANNEL, cn},
    },
};

/// What a cell keeps of transfers in transit; nothing if it is switched off.
#[derive(Debug)]
pub(crate) struct Blocks(Option<Shelf>);

#[derive(Debug)]
struct Shelf {
    state: Mutex<State>,
    hold: Duration,
    /// The sweep is to look again when it is due.
    sooner: Notify,
}

#[derive(Debug)]
struct State {
    cache: Cache<Request>,
    /// When the sweep is due, if it runs.
    due: Option<Instant>,
}

/// A request for a block, as it came.
#[derive(Debug)]
struct Request {
    link: Arc<Link>,
    target: Fqcn,
    headers: Headers,
    body: Bytes,
}

impl Blocks {
    pub(crate) fn new(config: &CellConfig, counters: Arc<Counters>) -> Self {
        let shelf = || {
            let (memory, hold) = (Budget::new(config.block_cache), config.block_hold);
            let cache = Cache::new(memory, counters, hold);
            Shelf { state: Mutex::new(State { cache, due: None }), hold, sooner: Notify::new() }
        };
        Self((config.block_cache > 0).then(shelf))
    }

    /// Whether a message in transit may be about a block: by its channel, which a RETURN does not have.
    pub(crate) fn concern(&self, headers: &Headers) -> bool {
        let nameless = || headers.is_on("") && headers.text(cn::CHANNEL).is_none();
        self.0.is_some() && (headers.is_on(TRANSFER_CHANNEL) || nameless())
    }
}

impl Shelf {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Looks at a message in transit that may be about a block. Gives it back if it is to go on.
    pub(super) fn pass_block(
        self: &Arc<Self>,
        from: &Arc<Link>,
        park: &mut Park,
        target: &Fqcn,
        hop: Option<&Arc<Link>>,
        headers: Headers,
        body: Bytes,
    ) -> Option<(Headers, Bytes)> {
        let Some(shelf) = &self.blocks.0 else { return Some((headers, body)) };
        let about_block = headers.text(cn::TOPIC) == Some(BLOCK);
        match headers.text(cn::MSG_TYPE).and_then(MessageKind::parse) {
            Some(MessageKind::Request) if about_block => match asked(from, target, hop, &headers, &body) {
                Some(asked) => {
                    let request = Request { link: from.clone(), target: target.clone(), headers, body };
                    self.ask_block(shelf, park, &asked, request)
                }
                None => Some((headers, body)),
            },
            Some(MessageKind::Reply) if about_block => {
                let body = self.learn_block(shelf, from, park, &headers, body);
                Some((headers, body))
            }
            Some(MessageKind::Return) => {
                self.return_block(shelf, from, &headers);
                Some((headers, body))
            }
            _ => Some((headers, body)),
        }
    }

    fn ask_block(
        self: &Arc<Self>,
        shelf: &Shelf,
        park: &mut Park,
        asked: &Asked,
        request: Request,
    ) -> Option<(Headers, Bytes)> {
        let now = Instant::now();
        let (verdict, released) = {
            let mut state = shelf.state();
            let (verdict, released) = state.cache.ask(asked, request, now);
            let due = match verdict {
                Verdict::Kept if !shelf.hold.is_zero() => shelf.hold.min(QUIET),
                _ => QUIET,
            };
            self.sweep_by(shelf, &mut state, now + due);
            (verdict, released)
        };
        self.send_on(shelf, released);
        match verdict {
            Verdict::Forward(request) => return Some((request.headers, request.body)),
            Verdict::Answer(request, reply) => self.answer_block(park, &request, &reply),
            Verdict::Kept => {}
        }
        None
    }

    /// Takes a reply that passes, and gives the body to pass on.
    fn learn_block(
        self: &Arc<Self>,
        shelf: &Shelf,
        from: &Arc<Link>,
        park: &mut Park,
        headers: &Headers,
        body: Bytes,
    ) -> Bytes {
        let (Some(answered), Some(origin)) = (answered(from, headers), headers.text(cn::ORIGIN)) else {
            return body;
        };
        let now = Instant::now();
        let good = headers.text(cn::RETURN_CODE) == Some(ReturnCode::OK.as_str());
        // A source that is being read gives one receiver what it has so far.
        let growing = headers.get(LIVE).is_some() || headers.get(LENGTH).is_some();
        if !good || growing {
            let released = shelf.state().cache.refused(&answered, now);
            self.send_on(shelf, released);
            return body;
        }
        let reply = Arc::new(Reply { headers: self.for_everybody(headers), body });
        let Some(learnt) = shelf.state().cache.learn(&answered, origin, reply.clone(), now) else {
            return reply.body.clone();
        };
        let reply = match learnt.kept {
            // The buffer of a frame may be larger than the frame, and is soon needed for the next one.
            Some(at) => {
                let own = Arc::new(Reply {
                    headers: reply.headers.clone(),
                    body: Bytes::copy_from_slice(&reply.body),
                });
                shelf.state().cache.settle(&at, &reply, own.clone());
                own
            }
            None => reply,
        };
        for request in &learnt.waiters {
            self.answer_block(park, request, &reply);
        }
        self.send_on(shelf, learnt.released);
        reply.body.clone()
    }

    /// A RETURN passes: perhaps a request for a block did not get through.
    fn return_block(self: &Arc<Self>, shelf: &Shelf, from: &Arc<Link>, headers: &Headers) {
        let original = headers.get(cn::ORIGINAL_HEADERS);
        let channel = original.as_ref().and_then(|map| map.get(cn::CHANNEL)).and_then(Value::as_text);
        if channel.is_some_and(|channel| *channel == TRANSFER_CHANNEL)
            && let Some(answered) = answered(from, headers)
        {
            let released = shelf.state().cache.refused(&answered, Instant::now());
            self.send_on(shelf, released);
        }
    }

    /// A link ended: who asked by it waits no longer, and what it carried up is asked for again.
    pub(super) fn lose_blocks(self: &Arc<Self>, link: &Link) {
        if let Some(shelf) = &self.blocks.0 {
            let released = shelf.state().cache.link_down(link.id, Instant::now());
            self.send_on(shelf, released);
        }
    }

    /// Lets requests go on that stayed here.
    fn send_on(self: &Arc<Self>, shelf: &Shelf, released: Vec<Release<Request>>) {
        let mut released = VecDeque::from(released);
        while let Some(Release { request, block }) = released.pop_front() {
            let sent = self.block_hop(&request).and_then(|hop| {
                if let Some(block) = &block {
                    shelf.state().cache.departed(block, by(&hop));
                }
                let mut headers = request.headers.clone();
                route::record(&mut headers, self.me(), unix_time());
                self.send_now(&hop, headers, request.body.clone())
            });
            let Err(error) = sent else {
                self.links.counters.forwarded.add(1);
                continue;
            };
            if let Some(block) = &block {
                released.extend(shelf.state().cache.failed(block, Instant::now()));
            }
            let failure = Message::failure(ReturnCode::COMM_ERROR, format!("cannot forward: {error}"));
            self.refuse(&request.headers, Some(&request.link), ReturnReason::CannotForward, failure);
        }
    }

    fn block_hop(&self, request: &Request) -> Result<Arc<Link>, RequestError> {
        let hop = self.next_hop(&request.target).filter(|hop| hop.id != request.link.id);
        hop.ok_or_else(|| RequestError::Unreachable(request.target.clone()))
    }

    /// Answers a request as its target would.
    fn answer_block(self: &Arc<Self>, park: &mut Park, request: &Request, reply: &Reply) {
        let Request { link, headers: asked, .. } = request;
        let text = |key| asked.shared_text(key).unwrap_or_default();
        let mut headers = reply.headers.clone();
        headers.set(cn::DESTINATION, text(cn::ORIGIN));
        headers.set(cn::REQ_ID, text(cn::REQ_ID));
        About::new(asked, text(cn::CHANNEL), text(cn::TOPIC)).put(&mut headers);
        match self.outgoing(link, headers, reply.body.clone()) {
            Ok(message) => self.send_or_park(link, park, message),
            Err(error) => {
                let failure = Message::failure(error.code(), error.to_string());
                self.refuse(asked, Some(link), ReturnReason::CannotForward, failure);
            }
        }
    }

    fn send_or_park(&self, link: &Arc<Link>, park: &mut Park, message: Outgoing) {
        let parked = |message| Parked { hop: link.peer.clone(), message };
        if matches!(message.class, Class::Bulk(_)) && park.holds(link.peer.as_str()) {
            return park.push(parked(message));
        }
        match link.outbox.try_push_or_wake(message, park.room()) {
            Ok(()) => {}
            Err(Refused::Full(message)) => park.push(parked(message)),
            // Who asked is gone, and asks again when it is back.
            Err(Refused::Closed(_)) => self.links.counters.dropped.add(1),
        }
    }

    /// The headers of a reply without those that depend on who asked.
    fn for_everybody(&self, headers: &Headers) -> Headers {
        let mut headers = headers.clone();
        for own in ASKERS_OWN {
            headers.remove(own);
        }
        route::record(&mut headers, self.me(), unix_time());
        headers
    }

    /// Sees to it that the sweep runs by then.
    fn sweep_by(self: &Arc<Self>, shelf: &Shelf, state: &mut State, due: Instant) {
        match state.due {
            None => {
                state.due = Some(due);
                self.links.tasks.spawn(sweep(self.clone()));
            }
            Some(known) if due < known => {
                state.due = Some(due);
                shelf.sooner.notify_one();
            }
            Some(_) => {}
        }
    }
}

/// Does what is due, as long as anything is kept or waits.
async fn sweep(inner: Arc<Inner>) {
    let Some(shelf) = &inner.blocks.0 else { return };
    loop {
        let Some(due) = shelf.state().due else { return };
        tokio::select! {
            biased;
            () = inner.links.stop.cancelled() => return,
            () = shelf.sooner.notified() => continue,
            () = sleep_until(due) => {}
        }
        let released = {
            let mut state = shelf.state();
            let (released, due) = state.cache.sweep(Instant::now());
            state.due = due;
            released
        };
        inner.send_on(shelf, released);
    }
}

/// A request for a block, if it is one that others may share.
fn asked(
    from: &Link,
    target: &Fqcn,
    hop: Option<&Arc<Link>>,
    headers: &Headers,
    body: &Bytes,
) -> Option<Asked> {
    // A source that cannot be read twice wants to know how far each receiver is.
    let shared = headers.flag(cn::REPLY_EXPECTED) && !headers.contains(SAFE) && body.len() <= LONGEST;
    let block = shared.then(|| BlockAsk::decode(body)).flatten()?;
    let asker =
        Asker { origin: headers.shared_text(cn::ORIGIN)?, peer: from.peer.as_text().clone(), link: from.id };
    Some(Asked {
        target: target.as_text().clone(),
        block,
        fresh: headers.flag(FRESH),
        asker,
        id: headers.shared_text(cn::REQ_ID).filter(|id| id.len() <= LONGEST)?,
        hop: hop.map(by),
        cost: headers.memory() + body.len(),
    })
}

/// A request for a block is shorter, and so is the id of one.
const LONGEST: usize = 128;

/// Which request a message answers.
fn answered(from: &Link, headers: &Headers) -> Option<Answered> {
    let id = match headers.get(cn::REQ_ID)? {
        Value::Str(id) => id,
        Value::Array(ids) => ids.first()?.as_text()?.clone(),
        _ => return None,
    };
    let destination = headers.shared_text(cn::DESTINATION)?;
    Some(Answered { destination, id, from: from.peer.as_text().clone() })
}

fn by(link: &Arc<Link>) -> Hop {
    Hop { peer: link.peer.as_text().clone(), link: link.id }
}

/// Headers of a reply that depend on who asked, and those of the hop that it came by.
const ASKERS_OWN: [&str; 9] = [
    cn::REQ_ID,
    cn::DESTINATION,
    cn::FROM,
    cn::TO,
    cn::SEND_TIME,
    cn::PAYLOAD_LEN,
    cn::SECURE,
    cn::OPTIONAL,
    cn::CELLNET,
];
