//! Headers of one kind made from those of another.

use std::sync::Arc;

use super::{Headers, Varying, layout::Layout, spare::Spare};

/// What the headers of messages have in common, with the exception of the values that [vary](Varying).
#[derive(Debug, Clone)]
pub(crate) struct Kind(Arc<Layout>);

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Headers in which those of another kind find their values that vary in the same order.
#[derive(Debug)]
pub(crate) struct Template(Headers);

impl Template {
    /// Made from those of one message, as they were and as they are now. `None` if others might become something else,
    /// or anything is set in `after`.
    pub(crate) fn new(before: &Headers, after: &Headers) -> Option<Self> {
        let kinds =
            |headers: &Headers| headers.layout().varying().map(|(_, _, varying)| varying).collect::<Vec<_>>();
        let kinds = (kinds(before), kinds(after));
        // Of several values under one key only the last counts, and the places do not tell which that is.
        let once = |varying: Varying| kinds.0.iter().filter(|known| **known == varying).count() == 1;
        let sure =
            kinds.0 == kinds.1 && [Varying::Route, Varying::Length, Varying::SendTime].into_iter().all(once);
        (sure && !after.changes.is_some()).then(|| Self(after.detached()))
    }
}

impl Headers {
    /// The kind of these. `None` if they are of none, because something was set that usually stays.
    pub(crate) fn kind(&self) -> Option<Kind> {
        self.layout.clone().filter(|_| !self.changes.are_unusual()).map(Kind)
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
}
