//! Who handled a message and when, as it is encoded under `cn__route`.

use super::{Limits, Scanner, Shape};

/// The hops of an encoded route, oldest first. None in the place of what is no hop, after which nothing is certain.
#[derive(Debug, Clone)]
pub(crate) struct Hops<'a> {
    route: &'a [u8],
    at: usize,
    left: usize,
}

/// A cell that handled the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hop<'a> {
    pub(crate) name: &'a [u8],
    /// Where in the route the [`TIME`] bytes of its Unix time are, unless that is a number of another type.
    pub(crate) time: Option<usize>,
}

/// Bytes of a time without its marker.
pub(crate) const TIME: usize = 8;

impl<'a> Hops<'a> {
    /// None if it is no list.
    pub(crate) fn of(route: &'a [u8]) -> Option<Self> {
        if let Some(marker @ 0x90..=0x9f) = route.first() {
            return Some(Self { route, at: 1, left: usize::from(marker & 0x0f) });
        }
        let mut scanner = Scanner::new(route, Limits::HEADERS);
        let Ok(Shape::Array(left)) = scanner.step() else { return None };
        Some(Self { route, at: scanner.at(), left })
    }

    /// How many are left, if all of them are hops.
    pub(crate) fn left(&self) -> usize {
        self.left
    }

    /// Their bytes.
    pub(crate) fn encoded(&self) -> &'a [u8] {
        &self.route[self.at..]
    }

    /// As nearly all are written: a pair of text below 256 bytes and a float.
    fn usual(&self) -> Option<(Hop<'a>, usize)> {
        let (start, len) = match *self.encoded() {
            [PAIR, marker @ 0xa0..=0xbf, ..] => (2, marker & 0x1f),
            [PAIR, 0xd9, len, ..] => (3, len),
            _ => return None,
        };
        let end = start + usize::from(len);
        let hop = self.encoded().get(..end + 1 + TIME)?;
        let time = self.at + end + 1;
        (hop[end] == F64).then_some((Hop { name: &hop[start..end], time: Some(time) }, time + TIME))
    }

    fn other(&self) -> Option<(Hop<'a>, usize)> {
        let mut scanner = Scanner::new(self.encoded(), Limits::SMALL);
        let Ok(Shape::Array(2)) = scanner.step() else { return None };
        let Ok(Shape::Text(name)) = scanner.step() else { return None };
        let time = scanner.step().ok()?;
        time.number()?;
        let end = self.at + scanner.at();
        let float = matches!(time, Shape::F64(_));
        Some((Hop { name: name.as_bytes(), time: float.then(|| end - TIME) }, end))
    }
}

impl<'a> Iterator for Hops<'a> {
    type Item = Option<Hop<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let found = self.usual().or_else(|| self.other());
        Some(found.map(|(hop, end)| {
            self.at = end;
            hop
        }))
    }
}

/// A list of two.
pub(crate) const PAIR: u8 = 0x92;

/// The marker of a time.
pub(crate) const F64: u8 = 0xcb;

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::wire::Value;

    #[test]
    fn hops_are_found_however_they_are_written() {
        let hop = |name: &str, time| Value::Array(vec![Value::from(name.to_owned()), time]);
        let (long, longest) = ("n".repeat(40), "n".repeat(300));
        let hops = [
            hop("a", Value::F64(1.5)),
            hop(&long, Value::F64(2.5)),
            hop(&longest, Value::F64(3.5)),
            hop("b", Value::from(3_u64)),
            Value::Nil,
        ];
        let mut route = BytesMut::new();
        Value::Array(hops.to_vec()).encode(&mut route);
        let found: Vec<_> = Hops::of(&route).unwrap().collect();
        let name = |at: usize| found[at].map(|hop| hop.name);
        assert_eq!((name(0), name(1)), (Some(&b"a"[..]), Some(long.as_bytes())));
        assert_eq!((name(2), name(3)), (Some(longest.as_bytes()), Some(&b"b"[..])));
        let time = |at: usize| found[at].and_then(|hop| hop.time).map(|at| route[at..at + TIME].to_vec());
        assert_eq!(time(0), Some(1.5_f64.to_be_bytes().to_vec()));
        assert_eq!(time(1), Some(2.5_f64.to_be_bytes().to_vec()));
        assert_eq!(time(2), Some(3.5_f64.to_be_bytes().to_vec()));
        assert_eq!((time(3), found[4], found.len()), (None, None, 5));
        let many = Value::Array(vec![hop("a", Value::F64(1.5)); 20]);
        route.clear();
        many.encode(&mut route);
        assert_eq!(Hops::of(&route).unwrap().flatten().count(), 20);
        assert!(Hops::of(&[0xc0]).is_none());
    }

    #[test]
    fn a_route_that_ends_early_has_no_hop_there() {
        let short = [0x91, PAIR, 0xa1, b'a', F64, 0, 0, 0, 0, 0, 0, 0, 0];
        let long = [0x91, PAIR, 0xd9, 1, b'a', F64, 0, 0, 0, 0, 0, 0, 0, 0];
        for whole in [&short[..], &long] {
            assert!(Hops::of(whole).unwrap().next().unwrap().is_some());
            for end in 1..whole.len() {
                assert_eq!(Hops::of(&whole[..end]).unwrap().next(), Some(None));
            }
        }
    }
}
