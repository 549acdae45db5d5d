//! Headers that one neighbour sends and another one gets.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{
    fqcn::Fqcn,
    route,
    wire::{Headers, Kind, Template, Value, Varying, keys::cn, put_f64, put_uint},
};

/// What has become of the headers of messages that this neighbour was given lately: most of the next message's change in
/// the same way.
#[derive(Debug, Default)]
pub(crate) struct Transit(Mutex<Recent>);

#[derive(Debug, Default)]
struct Recent {
    kinds: Vec<(Kind, Change)>,
    /// The one that was replaced last, of those in use.
    oldest: usize,
}

/// What becomes of a kind.
#[derive(Debug, Clone)]
enum Change {
    /// Seen once; many are never seen again.
    New,
    Known(Template),
    /// Each message may become something else.
    Uncertain,
}

/// Kinds of messages that pass at a time.
const KEPT: usize = 8;

/// More memory than headers usually take; of longer ones nothing is kept.
const MAX_BYTES: usize = 4 * 1024;

/// A hop of a message, and who makes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hop<'a> {
    pub(crate) me: &'a Fqcn,
    pub(crate) next: &'a Fqcn,
    /// Unix seconds.
    pub(crate) time: f64,
    /// Bytes of the body.
    pub(crate) body: usize,
}

impl Transit {
    /// The headers of a message for its next hop.
    pub(crate) fn headers(&self, headers: Headers, hop: &Hop<'_>) -> Headers {
        let Some(kind) = headers.kind().filter(|_| headers.memory() <= MAX_BYTES) else {
            return hop.complete(headers);
        };
        let known = self.recent().look(&kind);
        match known {
            Some(Change::Known(template)) => {
                headers.on(&template, |varying, value, out| hop.put(varying, value, out))
            }
            Some(Change::New) => {
                let mut completed = hop.complete(headers.clone());
                completed.settle();
                let template = Template::new(&headers, completed.clone());
                self.recent().learn(&kind, template.map_or(Change::Uncertain, Change::Known));
                completed
            }
            Some(Change::Uncertain) | None => hop.complete(headers),
        }
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recent {
    /// What is known of a kind; `None` if it was not seen. Now it was.
    fn look(&mut self, kind: &Kind) -> Option<Change> {
        if let Some((_, change)) = self.kinds.iter().find(|(known, _)| known == kind) {
            return Some(change.clone());
        }
        // Kinds that are never seen again make room for one another, and not those in use.
        let is_new = |(_, change): &(Kind, Change)| matches!(change, Change::New);
        let at = match self.kinds.iter().position(is_new) {
            _ if self.kinds.len() < KEPT => {
                self.kinds.push((kind.clone(), Change::New));
                return None;
            }
            Some(new) => new,
            None => {
                self.oldest = (self.oldest + 1) % KEPT;
                self.oldest
            }
        };
        self.kinds[at] = (kind.clone(), Change::New);
        None
    }

    fn learn(&mut self, kind: &Kind, change: Change) {
        if let Some((_, known)) = self.kinds.iter_mut().find(|(known, _)| known == kind) {
            *known = change;
        }
    }
}

impl Hop<'_> {
    /// Completes headers one by one.
    fn complete(&self, mut headers: Headers) -> Headers {
        route::record(&mut headers, self.me, self.time);
        if !headers.contains(cn::PAYLOAD_ENCODING) {
            headers.set(cn::PAYLOAD_ENCODING, Value::text("bytes"));
        }
        self.address(&mut headers);
        headers
    }

    /// Says from whom and for whom the message is on this hop, when, and how long it is.
    pub(crate) fn address(&self, headers: &mut Headers) {
        headers.set_text(cn::FROM, self.me.as_str());
        headers.set_text(cn::TO, self.next.as_str());
        headers.set_uint(cn::PAYLOAD_LEN, self.body as u64);
        headers.set_f64(cn::SEND_TIME, self.time);
    }

    /// Appends what becomes of a value that varies.
    fn put(&self, varying: Varying, value: &[u8], out: &mut Vec<u8>) {
        match varying {
            Varying::Route => route::put_joined(out, value, self.me, self.time),
            Varying::Length => put_uint(out, self.body as u64),
            Varying::SendTime => put_f64(out, self.time),
            Varying::Id | Varying::Number => out.extend_from_slice(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};

    use super::*;
    use crate::wire::{HeadDecoder, HeadEncoder};

    fn hop<'a>(me: &'a Fqcn, next: &'a Fqcn, body: usize) -> Hop<'a> {
        Hop { me, next, time: 7.5, body }
    }

    /// What a neighbour sends, one after the other.
    struct Sent(HeadEncoder, HeadDecoder);

    fn sent() -> Sent {
        Sent(HeadEncoder::compact(), HeadDecoder::compact())
    }

    impl Sent {
        fn read(&mut self, pairs: &[(&str, Value)]) -> Headers {
            let mut block = BytesMut::new();
            let pairs = pairs.iter().map(|(key, value)| (Value::from((*key).to_owned()), value.clone()));
            Value::Map(pairs.collect()).encode(&mut block);
            let mut head = BytesMut::new();
            self.0.encode(&Headers::decode(&block.freeze()).unwrap(), 0, &mut head).unwrap();
            self.1.decode(&head.freeze(), 0).unwrap()
        }

        fn message(&mut self, id: &str, route: Value) -> Headers {
            let text = |text: &str| Value::from(text.to_owned());
            self.read(&[
                (cn::CHANNEL, text("task")),
                (cn::REQ_ID, text(id)),
                (cn::FROM, text("site-1")),
                (cn::ROUTE, route),
                (cn::TO, text("me")),
                (cn::PAYLOAD_LEN, Value::from(3_u64)),
                (cn::SEND_TIME, Value::F64(1.5)),
            ])
        }
    }

    fn route(names: &[&str]) -> Value {
        let hop = |name: &&str| Value::Array(vec![Value::from((*name).to_owned()), Value::F64(1.5)]);
        Value::Array(names.iter().map(hop).collect())
    }

    fn templates(transit: &Transit) -> usize {
        let is_known = |(_, change): &&(Kind, Change)| matches!(change, Change::Known(_));
        transit.recent().kinds.iter().filter(is_known).count()
    }

    #[test]
    fn by_a_template_headers_become_what_they_become_one_by_one() {
        let (me, next) = ("me".parse().unwrap(), "server".parse().unwrap());
        let (transit, mut sent) = (Transit::default(), sent());
        let damaged = Value::Array(vec![Value::Nil]);
        let routes = [route(&["site-1"]), route(&["site-2"]), damaged, route(&["site-1", "a"]), Value::Nil];
        let id = "0f0e0d0c-0b0a-4908-8706-050403020100";
        for (at, route) in routes.into_iter().cycle().take(20).enumerate() {
            let (body, id) = (1000 * at, if at == 12 { &"long".repeat(MAX_BYTES) } else { id });
            let headers = sent.message(id, route);
            let hop = hop(&me, &next, body);
            let on = transit.headers(headers.clone(), &hop);
            assert_eq!(on, hop.complete(headers));
            assert_eq!((on.uint(cn::PAYLOAD_LEN), on.number(cn::SEND_TIME)), (Some(body as u64), Some(7.5)));
        }
        // All short heads have the same; of those that came in full each was seen once.
        assert_eq!(templates(&transit), 1);
    }

    #[test]
    fn a_template_does_not_take_more_memory_than_it_may() {
        let (me, next) = ("me".parse().unwrap(), "server".parse().unwrap());
        let (transit, mut sent) = (Transit::default(), sent());
        // Of the short heads this one would make the template.
        for id in ["1", "1", "1", &"long".repeat(MAX_BYTES), "1", "1"] {
            let on = transit.headers(sent.message(id, route(&["site-1"])), &hop(&me, &next, 0));
            assert_eq!((on.memory() <= MAX_BYTES, on.text(cn::REQ_ID)), (id == "1", Some(id)));
        }
        assert_eq!(templates(&transit), 1);
    }

    #[test]
    fn kinds_that_are_never_seen_again_leave_those_in_use() {
        let (me, next) = ("me".parse().unwrap(), "server".parse().unwrap());
        let (transit, mut sent) = (Transit::default(), sent());
        let mut pass = |key: &str| {
            let times =
                [(cn::ROUTE, route(&["a"])), (cn::PAYLOAD_LEN, Value::Nil), (cn::SEND_TIME, Value::Nil)];
            let headers = sent.read(&[&times[..], &[(key, Value::Nil)]].concat());
            transit.headers(headers, &hop(&me, &next, 0));
            templates(&transit)
        };
        let many = (0..4).flat_map(|_| ["a", "b", "c", "d"]).map(&mut pass).last();
        assert_eq!(many, Some(4));
        for kind in 0..3 * KEPT {
            assert!(pass(&format!("key {kind}")) >= 4);
        }
    }

    #[test]
    fn headers_that_were_changed_on_the_way_are_none_of_their_kind() {
        let (me, next) = ("me".parse().unwrap(), "server".parse().unwrap());
        let (transit, mut sent) = (Transit::default(), sent());
        for _ in 0..3 {
            let mut headers = sent.message("id", route(&["site-1"]));
            headers.set("added", "by a filter");
            let on = transit.headers(headers, &hop(&me, &next, 0));
            assert_eq!(on.text("added"), Some("by a filter"));
            let headers = sent.message("id", route(&["site-1"]));
            assert!(!transit.headers(headers, &hop(&me, &next, 0)).contains("added"));
        }
    }

    #[test]
    fn of_headers_that_come_twice_the_last_one_counts() {
        let (me, next) = ("me".parse().unwrap(), "server".parse().unwrap());
        let (transit, mut sent) = (Transit::default(), sent());
        let once = [(cn::ROUTE, route(&["a"])), (cn::PAYLOAD_LEN, Value::Nil), (cn::SEND_TIME, Value::Nil)];
        for twice in once.clone() {
            for body in 0..4 {
                let headers = sent.read(&[&once[..], std::slice::from_ref(&twice)].concat());
                let hop = hop(&me, &next, body);
                assert_eq!(transit.headers(headers.clone(), &hop), hop.complete(headers));
            }
        }
        // The second is one that does not vary, because its key is written in another way.
        for body in 0..4 {
            let mut block = BytesMut::new();
            Value::Map(once.iter().map(|(key, value)| (Value::text(key), value.clone())).collect())
                .encode(&mut block);
            block[0] += 1;
            block.extend_from_slice(&[0xd9, cn::PAYLOAD_LEN.len() as u8]);
            block.extend_from_slice(cn::PAYLOAD_LEN.as_bytes());
            block.extend_from_slice(&[0xc0]);
            let headers = sent.1.decode(&block.freeze(), 0).unwrap();
            let hop = hop(&me, &next, body);
            assert_eq!(transit.headers(headers.clone(), &hop), hop.complete(headers));
        }
        assert_eq!(templates(&transit), 0);
    }

    #[test]
    fn few_kinds_are_kept_and_no_long_ones() {
        let (me, next) = ("me".parse().unwrap(), "server".parse().unwrap());
        let (transit, mut sent) = (Transit::default(), sent());
        let mut pass = |key: &str, value: Bytes| {
            for _ in 0..3 {
                let headers = sent.read(&[(key, Value::Bin(value.clone()))]);
                transit.headers(headers, &hop(&me, &next, 0));
            }
            transit.recent().kinds.len()
        };
        assert_eq!(pass("long", vec![0; MAX_BYTES].into()), 0);
        for kind in 0..3 * KEPT {
            assert!(pass(&format!("key {kind}"), Bytes::new()) <= KEPT);
        }
    }
}
