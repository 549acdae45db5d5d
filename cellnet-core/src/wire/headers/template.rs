//! Headers made from those of an earlier message.

use std::{convert::Infallible, sync::Arc};

use super::{Headers, Varying, layout::Layout, spare::Spare};
use crate::wire::keys::cn;

/// What the headers of messages have in common, with the exception of the values that [vary](Varying).
#[derive(Debug, Clone)]
pub(crate) struct Kind(Arc<Layout>);

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Headers in which those of another kind find their values that vary in the same order. Clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct Template(Headers);

impl Template {
    /// Made from those of one message, as they were and, settled, as they are now. `None` if others might become
    /// something else.
    pub(crate) fn new(before: &Headers, after: Headers) -> Option<Self> {
        let kinds =
            |headers: &Headers| headers.layout().varying().map(|(_, _, varying)| varying).collect::<Vec<_>>();
        let kinds = (kinds(before), kinds(&after));
        let sure = |(key, varying): (&str, Varying)| {
            // Of several values under one key only the last counts, and the places do not tell which that is.
            let once = kinds.0.iter().filter(|known| **known == varying).count() == 1;
            once && before.varies(key) && after.varies(key)
        };
        let hop = [
            (cn::ROUTE, Varying::Route),
            (cn::PAYLOAD_LEN, Varying::Length),
            (cn::SEND_TIME, Varying::SendTime),
        ];
        (kinds.0 == kinds.1 && hop.into_iter().all(sure)).then_some(Self(after))
    }
}

impl Headers {
    /// The kind of these. `None` if they are of none, because something was set that usually stays.
    pub(crate) fn kind(&self) -> Option<Kind> {
        self.layout.clone().filter(|_| !self.changes.are_unusual()).map(Kind)
    }

    /// Whether others of [their kind](Self::kind) are known by the layout, which is not that of `other`.
    pub(in crate::wire) fn have_another_kind_than(&self, other: &Self) -> bool {
        self.kind()
            .is_some_and(|kind| other.layout.as_ref().is_none_or(|layout| !Arc::ptr_eq(layout, &kind.0)))
    }

    /// The headers that a template for [their kind](Self::kind) gives these; `put` appends what becomes of a value.
    pub(crate) fn on(&self, template: &Template, put: impl Fn(Varying, &[u8], &mut Vec<u8>)) -> Self {
        let Template(template) = template;
        let mut changes = Spare::none();
        let mut places = template.layout().varying();
        self.each_varying(|varying, value| {
            let (at, ..) = places.next().expect("both have as many");
            changes.get_mut().push(at, |out| put(varying, value, out));
        });
        Self { block: template.block.clone(), layout: template.layout.clone(), changes }
    }

    /// Where a header is, as [`with`](Self::with) takes it; `None` if it is not there, or was added.
    pub(crate) fn place(&self, key: &str) -> Option<usize> {
        self.layout().find(&self.block, key)
    }

    /// Headers like these with other values in some [places](Self::place), which come in order: `put` appends the value
    /// of each. Nothing may have been set in these.
    pub(crate) fn with<T>(
        &self,
        values: impl IntoIterator<Item = (usize, T)>,
        put: impl Fn(T, &mut Vec<u8>),
    ) -> Self {
        let mut changes = Spare::none();
        for (at, value) in values {
            let place = &self.places()[at];
            let put = |out: &mut Vec<u8>| {
                put(value, out);
                Ok::<_, Infallible>(())
            };
            let Ok(()) = match place.varying {
                Some(_) => changes.get_mut().push(at, put),
                None => changes.get_mut().replace((at, false), &self.block[place.value()], put),
            };
        }
        Self { block: self.block.clone(), layout: self.layout.clone(), changes }
    }

    /// Whether there is a value under a key, as far as it was not added, and it is one that varies.
    fn varies(&self, key: &str) -> bool {
        self.place(key).is_some_and(|at| self.places()[at].varying.is_some())
    }
}
