//! Where the headers of a map are.

use std::{
    ops::Range,
    sync::{Arc, OnceLock},
};

use smallvec::SmallVec;

use super::{
    Varying,
    address::Address,
    marks::{Marks, SOMEWHERE},
};
use crate::wire::{DecodeError, Limits, Scanner, Shape};

/// Where the headers of an encoded map are. Maps that share one differ in the values that [vary](Varying), and in
/// nothing else: not even in the places of those.
#[derive(Debug)]
pub(super) struct Layout {
    places: Vec<Place>,
    marks: Marks<128>,
    /// Positions of those that vary.
    varying: SmallVec<[u32; USUAL_VARYING]>,
    /// Of maps in which nothing was set other than what varies.
    pub(super) address: OnceLock<Arc<Address>>,
}

/// What most messages have of them.
const USUAL_VARYING: usize = 8;

/// Where a key and its value are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The key with its marker.
    start: u32,
    value: u32,
    end: u32,
    /// Bytes of the key's marker.
    marker: u8,
    /// Whether the key is text.
    pub(super) readable: bool,
    pub(super) varying: Option<Varying>,
}

impl Layout {
    /// Of no map at all.
    pub(super) const fn none() -> Self {
        Self {
            places: Vec::new(),
            marks: Marks::none(),
            varying: SmallVec::new_const(),
            address: OnceLock::new(),
        }
    }

    /// Checks a whole map and notes where everything is.
    pub(super) fn of(block: &[u8], limits: Limits) -> Result<Self, DecodeError> {
        if block.len() > limits.bytes {
            return Err(DecodeError::TooLong(limits.bytes));
        }
        let mut scanner = Scanner::new(block, limits);
        let Shape::Map(len) = scanner.step()? else {
            // What is wrong with the value itself matters more than that it is no map.
            Scanner::new(block, limits).skip(0)?;
            return Err(DecodeError::Expected("a map of headers"));
        };
        scanner.enter(0)?;
        let mut layout = Self { places: Vec::with_capacity(len.min(USUAL_PLACES)), ..Self::none() };
        for _ in 0..len {
            let start = offset(scanner.at());
            let key = scanner.key(1)?;
            let value = offset(scanner.at());
            scanner.skip(1)?;
            layout.add(key, start, value, offset(scanner.at()));
        }
        match scanner.rest().len() {
            0 => Ok(layout),
            rest => Err(DecodeError::Trailing(rest)),
        }
    }

    fn add(&mut self, key: Shape<'_>, start: u32, value: u32, end: u32) {
        let (key, readable) = match key {
            Shape::Text(text) => (text.as_bytes(), true),
            Shape::Bytes(bytes) => (bytes, false),
            _ => unreachable!("no other shape is a key"),
        };
        let marker = u8::try_from((value - start) as usize - key.len()).expect("it has five bytes at most");
        // Keys that are written in another way than usual are nothing to make exceptions for.
        let varying = if readable && marker == 1 { Varying::of(key) } else { None };
        if varying.is_some() {
            self.varying.push(offset(self.places.len()));
        }
        self.marks.add(key, self.places.len());
        self.places.push(Place { start, value, end, marker, readable, varying });
    }

    /// The position of a key; the last one, if there are several.
    #[inline]
    pub(super) fn find(&self, block: &[u8], key: &str) -> Option<usize> {
        let is_it = |place: &Place| place.readable && place.key(block) == key.as_bytes();
        match self.marks.of(key.as_bytes()) {
            0 => None,
            SOMEWHERE => self.places.iter().rposition(is_it),
            mark => Some(usize::from(mark) - 1).filter(|at| is_it(&self.places[*at])),
        }
    }

    pub(super) fn places(&self) -> &[Place] {
        &self.places
    }

    /// Those that vary, with their positions.
    pub(super) fn varying(&self) -> impl Iterator<Item = (usize, &Place, Varying)> {
        self.varying.iter().filter_map(|at| {
            let place = &self.places[*at as usize];
            Some((*at as usize, place, place.varying?))
        })
    }

    /// All bytes of the pairs.
    pub(super) fn pairs(&self) -> Range<usize> {
        match (self.places.first(), self.places.last()) {
            (Some(first), Some(last)) => first.start as usize..last.end as usize,
            _ => 0..0,
        }
    }

    /// Whether another block is laid out like this one: it differs in values that vary at most, and each of them has its
    /// old place. Also false if that is too hard to tell.
    pub(super) fn fits(&self, known: &[u8], block: &[u8]) -> bool {
        if known.len() != block.len() {
            return false;
        }
        let mut from = 0;
        for (_, place, _) in self.varying() {
            let value = place.value();
            if known[from..value.start] != block[from..value.start] {
                return false;
            }
            from = value.end;
            let mut scanner = Scanner::new(&block[value], Limits::SMALL);
            if scanner.skip(1).is_err() || !scanner.rest().is_empty() {
                return false;
            }
        }
        known[from..] == block[from..]
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        let spilled = if self.varying.spilled() { self.varying.capacity() * size_of::<u32>() } else { 0 };
        let address = self.address.get().map_or(0, |address| address.memory);
        size_of::<Self>() + self.places.capacity() * size_of::<Place>() + spilled + address
    }
}

impl Place {
    /// The key without its marker.
    #[inline]
    pub(super) fn key<'a>(&self, block: &'a [u8]) -> &'a [u8] {
        &block[self.start as usize + usize::from(self.marker)..self.value as usize]
    }

    /// Where the key is, with its marker.
    pub(super) fn head(&self) -> Range<usize> {
        self.start as usize..self.value as usize
    }

    pub(super) fn value(&self) -> Range<usize> {
        self.value as usize..self.end as usize
    }
}

/// What the headers of most messages fit into.
const USUAL_PLACES: usize = 24;

/// Far more than a frame can carry cannot be set either.
pub(super) fn offset(at: usize) -> u32 {
    u32::try_from(at).expect("headers are far below 4 GiB")
}
