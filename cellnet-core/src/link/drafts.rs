//! Headers of messages that are like earlier ones.

use std::sync::{Mutex, PoisonError};

use smallvec::SmallVec;

use crate::{
    fqcn::Fqcn,
    route,
    wire::{Headers, encoded_text, put_f64, put_text, put_uint},
};

/// Headers that were written for a neighbour not long ago: most of the next message's are the same, and copying them is
/// much cheaper than writing them one by one.
#[derive(Debug, Default)]
pub(crate) struct Drafts(Mutex<Recent>);

#[derive(Debug, Default)]
struct Recent {
    drafts: Vec<Draft>,
    /// The oldest, which the next new one replaces.
    oldest: usize,
}

#[derive(Debug)]
struct Draft {
    letter: Letter<Box<str>>,
    /// The keys of the application's headers, with their markers.
    own: Vec<Box<[u8]>>,
    /// Ours, and those of the application behind them.
    headers: Headers,
    /// Where each message has a value of its own, in order, and which.
    places: SmallVec<[(usize, Source); 4]>,
}

/// Where a value is from, and the number it has there.
#[derive(Debug, Clone, Copy)]
enum Source {
    Fresh(usize),
    Own(usize),
}

/// A value that each message has for itself.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fresh<'a> {
    Text(&'a str),
    Uint(u64),
    /// Unix seconds.
    Time(f64),
    /// A route that begins with this cell.
    Route(&'a Fqcn, f64),
}

impl Fresh<'_> {
    fn put(self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => put_text(out, text),
            Self::Uint(number) => put_uint(out, number),
            Self::Time(time) => put_f64(out, time),
            Self::Route(me, time) => route::put_first(out, me, time),
        }
    }
}

/// Puts values into headers that were written for one message.
pub(crate) fn freshen(headers: &mut Headers, values: &[(&str, Fresh<'_>)]) {
    values.iter().for_each(|(key, value)| headers.set_encoded(key, |out| value.put(out)));
}

/// Kinds of messages that a conversation has at a time.
const KEPT: usize = 8;

/// What headers depend on, other than ids, times and sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Letter<T> {
    /// What tells kinds of messages apart that are the same in everything else.
    pub(crate) kind: T,
    pub(crate) target: T,
    pub(crate) channel: T,
    pub(crate) topic: T,
    pub(crate) encoding: T,
    /// The return code, empty for none.
    pub(crate) code: T,
    /// Whether a reply is expected, if that is to be said at all.
    pub(crate) expects: Option<bool>,
    pub(crate) secure: bool,
    pub(crate) optional: bool,
}

impl Letter<&str> {
    fn kept(&self) -> Letter<Box<str>> {
        let Self { kind, target, channel, topic, encoding, code, expects, secure, optional } = *self;
        let [kind, target, channel, topic, encoding, code] =
            [kind, target, channel, topic, encoding, code].map(Box::from);
        Letter { kind, target, channel, topic, encoding, code, expects, secure, optional }
    }
}

impl Letter<Box<str>> {
    fn is(&self, letter: &Letter<&str>) -> bool {
        // What differs most comes first.
        *self.topic == *letter.topic
            && *self.channel == *letter.channel
            && *self.target == *letter.target
            && *self.kind == *letter.kind
            && *self.encoding == *letter.encoding
            && *self.code == *letter.code
            && (self.expects, self.secure, self.optional) == (letter.expects, letter.secure, letter.optional)
    }
}

impl Drafts {
    /// The headers of a letter: those that were written before, or what `write` writes, with these `values`, and the
    /// application's `own` behind them. Theirs do not replace ours. All letters of a kind have values of the same keys.
    pub(crate) fn headers(
        &self,
        letter: &Letter<&str>,
        values: &[(&str, Fresh<'_>)],
        own: &Headers,
        write: impl FnOnce() -> Headers,
    ) -> Headers {
        if let Some(headers) = self.recent().find(letter, values, own) {
            return headers;
        }
        let mut headers = write();
        freshen(&mut headers, values);
        let ours = headers.len();
        headers.extend_absent(own);
        headers.settle();
        if let Some(draft) = Draft::new(letter, values, own, &headers, ours) {
            self.recent().keep(draft);
        }
        headers
    }

    fn recent(&self) -> std::sync::MutexGuard<'_, Recent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recent {
    fn find(&self, letter: &Letter<&str>, values: &[(&str, Fresh<'_>)], own: &Headers) -> Option<Headers> {
        let draft = self.drafts.iter().find(|draft| draft.is_of(letter, own))?;
        let owns: SmallVec<[_; 16]> = own.parts().map(|(_, value)| value).collect();
        let places = draft.places.iter().copied();
        Some(draft.headers.with(places, |source, out| match source {
            Source::Fresh(which) => values[which].1.put(out),
            Source::Own(which) => out.extend_from_slice(owns[which]),
        }))
    }

    fn keep(&mut self, draft: Draft) {
        if self.drafts.len() < KEPT {
            return self.drafts.push(draft);
        }
        self.drafts[self.oldest] = draft;
        self.oldest = (self.oldest + 1) % KEPT;
    }
}

impl Draft {
    /// `None` if it would take much memory.
    fn new(
        letter: &Letter<&str>,
        values: &[(&str, Fresh<'_>)],
        own: &Headers,
        headers: &Headers,
        ours: usize,
    ) -> Option<Self> {
        if headers.memory() > MAX_BYTES || own.encoded_len() > MAX_BYTES || own.len() > MAX_OWN {
            return None;
        }
        let place =
            |(which, (key, _)): (usize, &(&str, _))| Some((headers.place(key)?, Source::Fresh(which)));
        let mut places: SmallVec<_> = values.iter().enumerate().map(place).collect::<Option<_>>()?;
        for (which, (key, _)) in own.parts().enumerate() {
            let Some(at) = encoded_text(key).and_then(|key| headers.place(key)).filter(|at| *at >= ours)
            else {
                continue;
            };
            // Of several values under one key the last counts.
            places.retain(|(known, _)| *known != at);
            places.push((at, Source::Own(which)));
        }
        places.sort_unstable_by_key(|(at, _)| *at);
        let own = own.parts().map(|(key, _)| key.into()).collect();
        Some(Self { letter: letter.kept(), own, headers: headers.clone(), places })
    }

    /// Whether it is one of such a letter with headers of these names in this order.
    fn is_of(&self, letter: &Letter<&str>, own: &Headers) -> bool {
        let keys = own.parts().map(|(key, _)| key);
        self.letter.is(letter) && keys.eq(self.own.iter().map(|key| &**key))
    }
}

/// More than a draft usually has; longer ones are not kept.
const MAX_BYTES: usize = 4 * 1024;

/// The same for the application's headers.
const MAX_OWN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Value, keys::cn};

    fn letter(topic: &str) -> Letter<&str> {
        Letter {
            kind: "req",
            target: "server",
            channel: "c",
            topic,
            encoding: "bytes",
            code: "",
            expects: Some(true),
            secure: false,
            optional: false,
        }
    }

    #[test]
    fn what_was_written_is_copied_until_newer_letters_take_its_place() {
        let drafts = Drafts::default();
        let write = |topic: &str| {
            drafts.headers(&letter(topic), &[], &Headers::new(), || [("topic", topic)].into_iter().collect())
        };
        let known = |topic: &str| drafts.recent().find(&letter(topic), &[], &Headers::new()).is_some();
        let topics = ["a", "b", "c", "d", "e", "f", "g", "h"];
        for topic in ["a", "b", "a"].into_iter().chain(topics) {
            assert_eq!(write(topic).text("topic"), Some(topic));
        }
        assert!(topics.into_iter().all(known));
        write("new");
        assert!(!known("a") && known("b") && known("new"));
        let other = Letter { expects: Some(false), ..letter("new") };
        assert!(drafts.recent().find(&other, &[], &Headers::new()).is_none());
    }

    #[test]
    fn each_message_has_values_of_its_own() {
        let (drafts, me) = (Drafts::default(), "server".parse().unwrap());
        let own = [("x", "y")].into_iter().collect::<Headers>();
        for (id, time) in [("one", 1.0), ("two", 2.0), ("another", 3.0)] {
            let values = [
                (cn::SEND_TIME, Fresh::Time(time)),
                (cn::REQ_ID, Fresh::Text(id)),
                (cn::ROUTE, Fresh::Route(&me, time)),
                (cn::PAYLOAD_LEN, Fresh::Uint(id.len() as u64)),
            ];
            // They have other places than here.
            let write = || {
                let mut headers =
                    [(cn::REQ_ID, "first"), ("a", "b"), (cn::PAYLOAD_LEN, "")].into_iter().collect();
                route::record(&mut headers, &me, 0.0);
                headers
            };
            let headers = drafts.headers(&letter("t"), &values, &own, write);
            assert_eq!(
                (headers.text(cn::REQ_ID), headers.text("a"), headers.text("x")),
                (Some(id), Some("b"), Some("y"))
            );
            assert_eq!(headers.number(cn::SEND_TIME), Some(time));
            assert_eq!(headers.uint(cn::PAYLOAD_LEN), Some(id.len() as u64));
            let hop = Value::Array(vec![Value::text("server"), Value::F64(time)]);
            assert_eq!(headers.get(cn::ROUTE), Some(Value::Array(vec![hop])));
        }
        assert_eq!(drafts.recent().drafts.len(), 1);
    }

    #[test]
    fn headers_of_the_application_go_behind_ours_and_do_not_replace_them() {
        let drafts = Drafts::default();
        let own = |pairs: &[(&str, &str)]| pairs.iter().copied().collect::<Headers>();
        let write = || own(&[("ours", "kept")]);
        for value in ["one", "two", "three and longer"] {
            let headers = drafts.headers(&letter("t"), &[], &own(&[("ours", "lost"), ("x", value)]), write);
            assert_eq!(headers, own(&[("ours", "kept"), ("x", value)]));
        }
        assert_eq!(drafts.recent().drafts.len(), 1);
        // Who names a header twice does not get the value that another message had under another name.
        drafts.headers(&letter("t"), &[], &own(&[("x", "1"), ("secret", "2")]), write);
        for last in [2, 3] {
            let twice = [0x82, 0xa1, b'x', 1, 0xa1, b'x', last];
            let twice = Headers::decode(&bytes::Bytes::copy_from_slice(&twice)).unwrap();
            let headers = drafts.headers(&letter("t"), &[], &twice, write);
            assert_eq!((headers.len(), headers.uint("x")), (2, Some(last.into())));
        }
        for _ in 0..2 {
            let headers = drafts.headers(&letter("t"), &[], &own(&[("secret", "3"), ("x", "4")]), write);
            assert_eq!(headers, own(&[("ours", "kept"), ("secret", "3"), ("x", "4")]));
        }
        for names in [&[("y", "1")][..], &[("x", "1"), ("y", "2")], &[]] {
            let headers = drafts.headers(&letter("t"), &[], &own(names), write);
            assert_eq!(headers, own(&[&[("ours", "kept")], names].concat()));
        }
    }
}
