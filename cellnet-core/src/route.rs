//! How the next hop is found: the mechanism. The policy is a [`Resolver`], of which this crate has only the simplest.

use std::{borrow::Cow, fmt};

use smallvec::SmallVec;

use crate::{
    fqcn::Fqcn,
    wire::{Headers, Hops, PAIR, keys::cn, put_f64, put_len, put_text},
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
    checked(headers, me).map(drop)
}

/// [Checks](guard) the route and appends `me` to it; a malformed one is begun anew.
pub(crate) fn join(headers: &mut Headers, me: &Fqcn, time: f64) -> Result<(), RouteError> {
    let (count, hops) = checked(headers, me)?.map(copied).unwrap_or_default();
    append(headers, count, &hops, me, time);
    Ok(())
}

/// Appends `me` to the route; a malformed one is begun anew.
pub(crate) fn record(headers: &mut Headers, me: &Fqcn, time: f64) {
    let (count, hops) = hops(headers, |_| {}).map(copied).unwrap_or_default();
    append(headers, count, &hops, me, time);
}

fn checked<'a>(headers: &'a Headers, me: &Fqcn) -> Result<Option<Hops<'a>>, RouteError> {
    let mut seen = false;
    let hops = hops(headers, |name| seen |= name == me.as_str().as_bytes());
    if seen {
        return Err(RouteError::Loop);
    }
    match hops {
        Some(hops) if hops.left() >= MAX_HOPS => Err(RouteError::TooLong),
        hops => Ok(hops),
    }
}

fn copied(hops: Hops<'_>) -> (usize, SmallVec<[u8; USUAL_ROUTE]>) {
    (hops.left(), SmallVec::from_slice(hops.encoded()))
}

/// Bytes of most routes.
const USUAL_ROUTE: usize = 128;

fn append(headers: &mut Headers, count: usize, hops: &[u8], me: &Fqcn, time: f64) {
    headers.set_encoded(cn::ROUTE, |out| {
        let count = u32::try_from(count + 1).expect("headers are far below 4 GiB");
        put_len(out, count);
        out.extend_from_slice(hops);
        put_hop(out, me, time);
    });
}

/// Appends an encoded route with `me` behind it; a malformed one is begun anew.
pub(crate) fn put_joined(out: &mut Vec<u8>, route: &[u8], me: &Fqcn, time: f64) {
    let hops = Hops::of(route).filter(|hops| hops.clone().all(|hop| hop.is_some()));
    let (count, before) = hops.map(|hops| (hops.left(), hops.encoded())).unwrap_or_default();
    put_len(out, u32::try_from(count + 1).expect("headers are far below 4 GiB"));
    out.extend_from_slice(before);
    put_hop(out, me, time);
}

/// Appends a route that begins with `me`.
pub(crate) fn put_first(out: &mut Vec<u8>, me: &Fqcn, time: f64) {
    put_len(out, 1);
    put_hop(out, me, time);
}

fn put_hop(out: &mut Vec<u8>, me: &Fqcn, time: f64) {
    out.push(PAIR);
    put_text(out, me.as_str());
    put_f64(out, time);
}

/// The hops of the route, after each was named. `None` if there is no route, or a malformed one.
fn hops<'a>(headers: &'a Headers, mut each: impl FnMut(&'a [u8])) -> Option<Hops<'a>> {
    let hops = Hops::of(headers.encoded(cn::ROUTE)?)?;
    for hop in hops.clone() {
        each(hop?.name);
    }
    Some(hops)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Value;

    fn headers(route: Value) -> Headers {
        [(cn::ROUTE, route)].into_iter().collect()
    }

    #[test]
    fn loops_and_long_routes_are_seen_and_malformed_ones_begin_anew() {
        let (me, other): (Fqcn, Fqcn) = ("a".parse().unwrap(), "b".parse().unwrap());
        let mut seen = headers(Value::Nil);
        record(&mut seen, &other, 1.0);
        assert_eq!(guard(&seen, &me), Ok(()));
        assert_eq!(join(&mut seen, &other, 1.5), Err(RouteError::Loop));
        record(&mut seen, &me, 2.0);
        assert_eq!(guard(&seen, &me), Err(RouteError::Loop));
        for _ in 0..MAX_HOPS {
            record(&mut seen, &other, 3.0);
        }
        let hop = Value::Array(vec![Value::text("a"), Value::F64(1.0)]);
        let damaged = headers(Value::Array(vec![hop, Value::Nil]));
        assert_eq!((guard(&damaged, &me), guard(&damaged, &other)), (Err(RouteError::Loop), Ok(())));
        seen.remove(cn::ROUTE);
        for odd in
            [Value::Int(1), Value::Array(vec![Value::Int(1)]), Value::Array(vec![Value::Array(vec![])])]
        {
            let mut odd = headers(odd);
            assert_eq!(guard(&odd, &me), Ok(()));
            join(&mut odd, &me, 1.0).unwrap();
            assert_eq!(odd.get(cn::ROUTE).unwrap().as_array().unwrap().len(), 1);
        }
    }
}
