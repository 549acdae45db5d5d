//! How the next hop is found: the mechanism. The policy is a [`Resolver`], of which this crate has only the simplest.

use std::{borrow::Cow, fmt};

use bytes::BufMut;
use rmp::encode;

use crate::{
    fqcn::Fqcn,
    wire::{Headers, Limits, Scanner, Shape, Value, keys::cn},
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
    let mut seen = false;
    let hops = hops(headers, |name| seen |= name == me.as_str());
    if seen {
        return Err(RouteError::Loop);
    }
    if hops.is_some_and(|hops| hops >= MAX_HOPS) { Err(RouteError::TooLong) } else { Ok(()) }
}

/// Appends `me` to the route; a malformed one is begun anew.
pub(crate) fn record(headers: &mut Headers, me: &Fqcn, time: f64) {
    if headers.contains(cn::ROUTE) && hops(headers, |_| {}).is_none() {
        headers.set(cn::ROUTE, Value::Nil);
    }
    headers.append(cn::ROUTE, |out| put_hop(out, me, time));
}

/// Begins the route with `me`.
pub(crate) fn begin(headers: &mut Headers, me: &Fqcn, time: f64) {
    headers.set_encoded(cn::ROUTE, |out| {
        out.push(ONE_HOP);
        put_hop(out, me, time);
    });
}

fn put_hop(out: &mut Vec<u8>, me: &Fqcn, time: f64) {
    let mut write = || {
        let mut to = out.writer();
        encode::write_array_len(&mut to, 2)?;
        encode::write_str(&mut to, me.as_str())?;
        encode::write_f64(&mut to, time)
    };
    write().expect("a buffer in memory takes everything");
}

/// A list of one.
const ONE_HOP: u8 = 0x91;

/// Reads the route, names its hops and counts them; `None` if there is none, or a malformed one.
fn hops<'a>(headers: &'a Headers, mut each: impl FnMut(&'a str)) -> Option<usize> {
    let mut scanner = Scanner::new(headers.encoded(cn::ROUTE)?, Limits::HEADERS);
    let Ok(Shape::Array(hops)) = scanner.step() else { return None };
    for _ in 0..hops {
        let [Ok(Shape::Array(2)), Ok(Shape::Text(name)), Ok(time)] = std::array::from_fn(|_| scanner.step())
        else {
            return None;
        };
        time.number()?;
        each(name);
    }
    Some(hops)
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
