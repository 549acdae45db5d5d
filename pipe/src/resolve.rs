//! Who is next on the way to a cell: families, parents and the server.
//!
//! The decisions are those of the reference (nvflare/fuel/f3/cellnet/core_cell.py), so that a network of both kinds
//! routes as one. They look at one cell at a time; that a message does not come back is the loop guard's business.

use std::borrow::Cow;

use cellnet_core::{
    Fqcn, fqcn,
    route::{Neighbours, Resolver},
};

/// Routes through the tree of cells as the reference does: [`next_hop`] for every message.
#[derive(Debug, Clone, Copy, Default)]
pub struct TreePolicy;

impl Resolver for TreePolicy {
    fn next_hop<'a>(
        &self,
        me: &'a Fqcn,
        target: &'a Fqcn,
        neighbours: &dyn Neighbours,
    ) -> Option<Cow<'a, str>> {
        next_hop(me, target, &|name| neighbours.contains(name)).map(Cow::Borrowed)
    }
}

/// The neighbour that a message for `target` goes to from the cell `me`, or `None` if it is unreachable.
///
/// `is_peer` says whether a name has an open link. The answer is `me` for a message that has arrived, otherwise a name
/// for which `is_peer` holds:
///
/// 1. The target itself, if it is a peer.
/// 2. Within one family: down, by the longest part of the target's name that is a peer; otherwise up, by the parent.
///    A missing child is never looked for elsewhere, and the server is not tried.
/// 3. Into another family: by the longest part of the target's name that is a peer, else by the server, else by the
///    parent.
///
/// ```
/// # use cellnet_core::Fqcn;
/// let (me, target): (Fqcn, Fqcn) = ("relay-1".parse()?, "site-2.job".parse()?);
/// let linked = |name: &str| matches!(name, "server" | "relay-1.site-1");
/// assert_eq!(cellnet_pipe::next_hop(&me, &target, &linked), Some("server"));
/// # Ok::<_, cellnet_core::FqcnError>(())
/// ```
pub fn next_hop<'a>(me: &'a Fqcn, target: &'a Fqcn, is_peer: &dyn Fn(&str) -> bool) -> Option<&'a str> {
    if me == target || is_peer(target.as_str()) {
        return Some(target.as_str());
    }
    let by_prefix = || target.prefixes().find(|name| is_peer(name));
    let by_parent = || me.prefixes().nth(1).filter(|name| is_peer(name));
    if !me.same_family(target) {
        let by_server = || Some(fqcn::SERVER).filter(|name| !me.is_server() && is_peer(name));
        by_prefix().or_else(by_server).or_else(by_parent)
    } else if me.is_parent_of(target) {
        None
    } else if me.is_ancestor_of(target) {
        by_prefix()
    } else {
        by_parent()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::Value;

    use super::*;

    /// What the reference decided and said; see `tests/data/routing.json`.
    #[derive(Deserialize)]
    struct Observed {
        next_hop: Vec<Setup>,
        fqcn_validate: Vec<Checked>,
        fqcn_relations: Vec<Related>,
    }

    /// Next hops of one cell with these peers: a name, `null` for unreachable, `false` for an invalid target.
    #[derive(Deserialize)]
    struct Setup {
        me: Name,
        peers: Vec<String>,
        hops: BTreeMap<String, Value>,
    }

    #[derive(Deserialize)]
    struct Checked {
        fqcn: Value,
        error: Option<String>,
    }

    #[derive(Deserialize)]
    struct Related {
        a: String,
        b: String,
        is_parent: bool,
        is_ancestor: bool,
        same_family: bool,
    }

    #[derive(Deserialize)]
    #[serde(try_from = "String")]
    struct Name(Fqcn);

    impl TryFrom<String> for Name {
        type Error = cellnet_core::FqcnError;

        fn try_from(text: String) -> Result<Self, Self::Error> {
            text.parse().map(Self)
        }
    }

    fn observed() -> Observed {
        serde_json::from_str(include_str!("../tests/data/routing.json")).unwrap()
    }

    fn name(text: &str) -> Fqcn {
        text.parse().unwrap()
    }

    #[test]
    fn next_hops_are_those_of_the_reference() {
        let mut decisions = 0;
        for Setup { me, peers, hops } in observed().next_hop {
            for (target, expected) in hops {
                let is_peer = |name: &str| peers.iter().any(|peer| peer == name);
                let found = match target.parse() {
                    Ok(target) => next_hop(&me.0, &target, &is_peer).map_or(Value::Null, Value::from),
                    Err(_) => Value::Bool(false),
                };
                assert_eq!(found, expected, "from {:?} with {peers:?} to {target:?}", me.0);
                decisions += 1;
            }
        }
        assert_eq!(decisions, 399);
    }

    #[test]
    fn names_are_refused_as_in_the_reference_and_when_blanks_surround_them() {
        for Checked { fqcn, error } in observed().fqcn_validate {
            let Value::String(text) = fqcn else { continue };
            let refused = error.is_some() || text.trim() != text;
            assert_eq!(text.parse::<Fqcn>().is_err(), refused, "{text:?}");
        }
    }

    #[test]
    fn relations_are_those_of_the_reference() {
        for known in observed().fqcn_relations {
            let (Ok(a), Ok(b)) = (known.a.parse::<Fqcn>(), known.b.parse::<Fqcn>()) else {
                assert!(!known.is_parent && !known.is_ancestor && !known.same_family);
                continue;
            };
            assert_eq!(a.is_parent_of(&b), known.is_parent, "{a} {b}");
            assert_eq!(a.is_ancestor_of(&b), known.is_ancestor, "{a} {b}");
            assert_eq!(a.same_family(&b), known.same_family, "{a} {b}");
        }
    }

    #[test]
    fn the_longest_prefix_wins() {
        let is_peer = |name: &str| matches!(name, "relay-1" | "relay-1.site-1" | "server");
        let (me, target) = (name("site-2"), name("relay-1.site-1.job"));
        assert_eq!(next_hop(&me, &target, &is_peer), Some("relay-1.site-1"));
    }

    #[test]
    fn the_server_never_routes_to_itself() {
        let (me, target) = (name("server"), name("site-1"));
        assert_eq!(next_hop(&me, &target, &|name| name == "server"), None);
    }

    #[test]
    fn the_server_is_preferred_to_the_parent_for_another_family() {
        let (me, target) = (name("site-1.job"), name("site-2"));
        assert_eq!(next_hop(&me, &target, &|_| false), None);
        assert_eq!(next_hop(&me, &target, &|name| name == "site-1"), Some("site-1"));
        assert_eq!(next_hop(&me, &target, &|name| matches!(name, "site-1" | "server")), Some("server"));
    }
}
