//! Headers of messages that are like earlier ones.

use std::sync::{Mutex, PoisonError};

use crate::wire::Headers;

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
    /// Ours, and those of the application behind them.
    headers: Headers,
    ours: usize,
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
    /// The headers of a letter: those that were written before, or what `write` writes, with the application's `own`
    /// behind them. Theirs do not replace ours.
    pub(crate) fn headers(
        &self,
        letter: &Letter<&str>,
        own: &Headers,
        write: impl FnOnce() -> Headers,
    ) -> Headers {
        if let Some(headers) = self.recent().find(letter, own) {
            return headers;
        }
        let mut headers = write();
        let ours = headers.len();
        headers.extend_absent(own);
        headers.settle();
        self.recent().keep(letter, &headers, ours);
        headers
    }

    fn recent(&self) -> std::sync::MutexGuard<'_, Recent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recent {
    fn find(&self, letter: &Letter<&str>, own: &Headers) -> Option<Headers> {
        let Draft { headers, ours, .. } = self.drafts.iter().find(|draft| draft.is_of(letter, own))?;
        let mut headers = headers.clone();
        headers.update(own, *ours);
        Some(headers)
    }

    fn keep(&mut self, letter: &Letter<&str>, headers: &Headers, ours: usize) {
        if headers.memory() > MAX_BYTES {
            return;
        }
        let draft = Draft { letter: letter.kept(), headers: headers.clone(), ours };
        if self.drafts.len() < KEPT {
            return self.drafts.push(draft);
        }
        self.drafts[self.oldest] = draft;
        self.oldest = (self.oldest + 1) % KEPT;
    }
}

impl Draft {
    /// Whether it is one of such a letter with headers of these names.
    fn is_of(&self, letter: &Letter<&str>, own: &Headers) -> bool {
        self.letter.is(letter) && self.headers.have_room_for(own, self.ours)
    }
}

/// More than a draft usually has; longer ones are not kept.
const MAX_BYTES: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

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
            drafts.headers(&letter(topic), &Headers::new(), || [("topic", topic)].into_iter().collect())
        };
        let known = |topic: &str| drafts.recent().find(&letter(topic), &Headers::new()).is_some();
        let topics = ["a", "b", "c", "d", "e", "f", "g", "h"];
        for topic in ["a", "b", "a"].into_iter().chain(topics) {
            assert_eq!(write(topic).text("topic"), Some(topic));
        }
        assert!(topics.into_iter().all(known));
        write("new");
        assert!(!known("a") && known("b") && known("new"));
        let other = Letter { expects: Some(false), ..letter("new") };
        assert!(drafts.recent().find(&other, &Headers::new()).is_none());
    }

    #[test]
    fn headers_of_the_application_go_behind_ours_and_do_not_replace_them() {
        let drafts = Drafts::default();
        let own = |pairs: &[(&str, &str)]| pairs.iter().copied().collect::<Headers>();
        let write = || own(&[("ours", "kept")]);
        for value in ["one", "two", "three and longer"] {
            let headers = drafts.headers(&letter("t"), &own(&[("ours", "lost"), ("x", value)]), write);
            assert_eq!(headers, own(&[("ours", "kept"), ("x", value)]));
        }
        assert_eq!(drafts.recent().drafts.len(), 1);
        // Who names a header twice does not get the value that another message had under another name.
        drafts.headers(&letter("t"), &own(&[("x", "1"), ("secret", "2")]), write);
        let twice = Headers::decode(&bytes::Bytes::from_static(b"\x82\xa1x\xa11\xa1x\xa12")).unwrap();
        let headers = drafts.headers(&letter("t"), &twice, write);
        assert_eq!(headers, own(&[("ours", "kept"), ("x", "2")]));
        for names in [&[("y", "1")][..], &[("x", "1"), ("y", "2")], &[]] {
            let headers = drafts.headers(&letter("t"), &own(names), write);
            assert_eq!(headers, own(&[&[("ours", "kept")], names].concat()));
        }
    }
}
