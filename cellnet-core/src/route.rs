//! How the next hop is found: the mechanism. The policy is a [`Resolver`], of which this crate has only the simplest.

use std::{borrow::Cow, fmt};

use bytestring::ByteString;

use crate::{
    fqcn::Fqcn,
    wire::{Headers, Value, keys::cn},
};

/// The names that have a link to this cell right now.
pub trait Neighbours {
    /// Whether `name` is one of them.
    fn contains(&self, name: &str) -> bool;
}

impl<F: Fn(&str) -> bool> Neighbours for F {
    fn contains(&self, name: &str) -> bool {
        self(name)
    }
}

/// Chooses the neighbour that is next on the way to a target.
pub trait Resolver: fmt::Debug + Send + Sync + 'static {
    /// The next hop from `me` to `target`, or `None` if there is no way. Called for every message that is sent or
    /// forwarded; it must not wait. An answer that is no neighbour counts as no way.
    fn next_hop<'a>(
        &self,
        me: &'a Fqcn,
        target: &'a Fqcn,
        neighbours: &dyn Neighbours,
    ) -> Option<Cow<'a, str>>;
}

/// Reaches neighbours and nobody else.
#[derive(Debug, Clone, Copy, Default)]
pub struct NeighboursOnly;

impl Resolver for NeighboursOnly {
    fn next_hop<'a>(
        &self,
        _: &'a Fqcn,
        target: &'a Fqcn,
        neighbours: &dyn Neighbours,
    ) -> Option<Cow<'a, str>> {
        neighbours.contains(target.as_str()).then(|| target.as_str().into())
    }
}

/// Most cells that a message may pass; a tree this deep does not exist.
pub const MAX_HOPS: usize = 32;

/// Why a message must not travel on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RouteError {
    #[error("routing loop")]
    Loop,
    #[error("more than {MAX_HOPS} hops")]
    TooLong,
}

/// Checks that `me` has not seen the message and that it has not come too far. A malformed route counts as empty.
pub(crate) fn guard(headers: &Headers, me: &Fqcn) -> Result<(), RouteError> {
    let route = headers.get(cn::ROUTE).and_then(Value::as_array).unwrap_or_default();
    if route.iter().filter_map(hop_name).any(|name| *name == me.as_str()) {
        return Err(RouteError::Loop);
    }
    if route.len() >= MAX_HOPS { Err(RouteError::TooLong) } else { Ok(()) }
}

/// Appends `me` to the route; a malformed one is begun anew.
pub(crate) fn record(headers: &mut Headers, me: &Fqcn, time: f64) {
    let hop = Value::Array(vec![me.into(), Value::F64(time)]);
    match headers.get_mut(cn::ROUTE) {
        Some(Value::Array(route)) if route.iter().all(|hop| hop_name(hop).is_some()) => route.push(hop),
        _ => headers.set(ByteString::from_static(cn::ROUTE), Value::Array(vec![hop])),
    }
}

/// The name in `[name, time]`.
fn hop_name(hop: &Value) -> Option<&ByteString> {
    match hop.as_array()? {
        [name, time] if time.as_f64().is_some() => name.as_text(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(route: Value) -> Headers {
        [(cn::ROUTE, route)].into_iter().collect()
    }

    #[test]
    fn loops_and_long_routes_are_seen_and_malformed_ones_begin_anew() {
        let (me, other): (Fqcn, Fqcn) = ("a".parse().unwrap(), "b".parse().unwrap());
        let mut seen = headers(Value::Nil);
        record(&mut seen, &other, 1.0);
        assert_eq!(guard(&seen, &me), Ok(()));
        record(&mut seen, &me, 2.0);
        assert_eq!(guard(&seen, &me), Err(RouteError::Loop));
        for _ in 0..MAX_HOPS {
            record(&mut seen, &other, 3.0);
        }
        seen.remove(cn::ROUTE);
        for odd in
            [Value::Int(1), Value::Array(vec![Value::Int(1)]), Value::Array(vec![Value::Array(vec![])])]
        {
            let mut odd = headers(odd);
            assert_eq!(guard(&odd, &me), Ok(()));
            record(&mut odd, &me, 1.0);
            assert_eq!(odd.get(cn::ROUTE).unwrap().as_array().unwrap().len(), 1);
        }
    }
}
