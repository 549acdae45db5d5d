//! Headers of messages that are like earlier ones.

use std::sync::{Mutex, PoisonError};

use crate::wire::Headers;

/// Headers that were written for a neighbour not long ago: most of the next message's are the same, and copying them is
/// much cheaper than writing them one by one.
#[derive(Debug, Default)]
pub(crate) struct Drafts(Mutex<Recent>);

#[derive(Debug, Default)]
struct Recent {
    drafts: Vec<(Letter<Box<str>>, Headers)>,
    /// The oldest, which the next new one replaces.
    oldest: usize,
}

/// Kinds of messages that a conversation has at a time.
const KEPT: usize = 4;

/// What headers depend on, other than ids, times and sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Letter<T> {
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

impl<T> Letter<T> {
    fn map<'a, U>(&'a self, change: impl Fn(&'a T) -> U) -> Letter<U> {
        let Self { kind, target, channel, topic, encoding, code, expects, secure, optional } = self;
        Letter {
            kind: change(kind),
            target: change(target),
            channel: change(channel),
            topic: change(topic),
            encoding: change(encoding),
            code: change(code),
            expects: *expects,
            secure: *secure,
            optional: *optional,
        }
    }
}

impl Drafts {
    /// The headers of a letter: those that were written before, or what `write` writes.
    pub(crate) fn headers(&self, letter: &Letter<&str>, write: impl FnOnce() -> Headers) -> Headers {
        if let Some(headers) = self.recent().find(letter) {
            return headers;
        }
        let headers = write();
        self.recent().keep(letter, &headers);
        headers
    }

    fn recent(&self) -> std::sync::MutexGuard<'_, Recent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recent {
    fn find(&self, letter: &Letter<&str>) -> Option<Headers> {
        let (_, headers) = self.drafts.iter().find(|(known, _)| known.map(|text| &**text) == *letter)?;
        Some(headers.roomy_copy())
    }

    fn keep(&mut self, letter: &Letter<&str>, headers: &Headers) {
        if headers.memory() > MAX_BYTES {
            return;
        }
        let draft = (letter.map(|text| Box::from(*text)), headers.clone());
        if self.drafts.len() < KEPT {
            return self.drafts.push(draft);
        }
        self.drafts[self.oldest] = draft;
        self.oldest = (self.oldest + 1) % KEPT;
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
        let write = |topic: &str| drafts.headers(&letter(topic), || [("topic", topic)].into_iter().collect());
        let known = |topic: &str| drafts.recent().find(&letter(topic)).is_some();
        for topic in ["a", "b", "a", "c", "d"] {
            assert_eq!(write(topic).text("topic"), Some(topic));
        }
        assert!(["a", "b", "c", "d"].into_iter().all(known));
        write("e");
        assert!(!known("a") && known("e"));
        let other = Letter { expects: Some(false), ..letter("e") };
        assert!(drafts.recent().find(&other).is_none());
    }
}
