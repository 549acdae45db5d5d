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
    /// The oldest, which the next new one replaces.
    oldest: usize,
}

/// What becomes of a kind.
#[derive(Debug)]
enum Change {
    /// Seen once; many are never seen again.
    New,
    Known(Template),
    /// Each message may become something else.
    Uncertain,
}

/// Kinds of messages that pass at a time.
const KEPT: usize = 8;

/// More than a message usually has; what is known of longer ones is not kept.
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
        let Some(kind) = headers.kind() else { return hop.complete(headers) };
        let mut recent = self.recent();
        match recent.kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, Change::Known(template))) => {
                headers.on(template, |varying, value, out| hop.put(varying, value, out))
            }
            Some((_, change @ Change::New)) => {
                let mut completed = hop.complete(headers.clone());
                completed.settle();
                *change = Template::new(&headers, &completed).map_or(Change::Uncertain, Change::Known);
                completed
            }
            Some((_, Change::Uncertain)) => hop.complete(headers),
            None => {
                if headers.memory() <= MAX_BYTES {
                    recent.keep(kind);
                }
                hop.complete(headers)
            }
        }
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recent {
    fn keep(&mut self, kind: Kind) {
        if self.kinds.len() < KEPT {
            return self.kinds.push((kind, Change::New));
        }
        self.kinds[self.oldest] = (kind, Change::New);
        self.oldest = (self.oldest + 1) % KEPT;
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
    use crate::wire::HeadDecoder;

    fn hop<'a>(me: &'a Fqcn, next: &'a Fqcn, body: usize) -> Hop<'a> {
        Hop { me, next, time: 7.5, body }
    }

    /// What a neighbour sends, one after the other.
    struct Sent(HeadDecoder);

    impl Sent {
        fn read(&mut self, pairs: &[(&str, Value)]) -> Headers {
            let mut block = BytesMut::new();
            let pairs = pairs.iter().map(|(key, value)| (Value::from((*key).to_owned()), value.clone()));
            Value::Map(pairs.collect()).encode(&mut block);
            self.0.decode(&block.freeze(), 0).unwrap()
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
        let (transit, mut sent) = (Transit::default(), Sent(HeadDecoder::default()));
        let damaged = Value::Array(vec![Value::Nil]);
        let routes =
            [route(&["site-1"]), route(&["site-2"]), route(&["site-3"]), damaged, route(&["site-1", "a"])];
        for (body, route) in [0, 1, 200, 70_000, 5].into_iter().zip(routes) {
            let headers = sent.message("0f0e0d0c-0b0a-4908-8706-050403020100", route);
            let hop = hop(&me, &next, body);
            let on = transit.headers(headers.clone(), &hop);
            assert_eq!(on, hop.complete(headers));
            assert_eq!((on.uint(cn::PAYLOAD_LEN), on.number(cn::SEND_TIME)), (Some(body as u64), Some(7.5)));
        }
        // One for those with a route of one hop; others have other places.
        assert_eq!(templates(&transit), 1);
    }

    #[test]
    fn headers_that_were_changed_on_the_way_are_none_of_their_kind() {
        let (me, next) = ("me".parse().unwrap(), "server".parse().unwrap());
        let (transit, mut sent) = (Transit::default(), Sent(HeadDecoder::default()));
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
        let (transit, mut sent) = (Transit::default(), Sent(HeadDecoder::default()));
        for _ in 0..3 {
            let twice =
                [(cn::ROUTE, route(&["a"])), (cn::ROUTE, route(&["b"])), (cn::PAYLOAD_LEN, Value::Nil)];
            let headers = sent.read(&twice);
            let hop = hop(&me, &next, 9);
            assert_eq!(transit.headers(headers.clone(), &hop), hop.complete(headers));
        }
        assert_eq!(templates(&transit), 0);
    }

    #[test]
    fn few_kinds_are_kept_and_no_long_ones() {
        let (me, next) = ("me".parse().unwrap(), "server".parse().unwrap());
        let (transit, mut sent) = (Transit::default(), Sent(HeadDecoder::default()));
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
