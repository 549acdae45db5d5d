//! The header map of a frame.

mod address;
mod changes;
mod layout;
mod marks;
mod scalars;
mod spare;
mod template;
mod varying;

use std::{convert::Infallible, fmt, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;

use self::{
    layout::{Layout, Place},
    scalars::text_marker,
    spare::Spare,
};
use super::{
    DecodeError, Limits, MAX_HEADERS, Value,
    keys::cn,
    scan::{Scanner, Shape},
};
use crate::Fqcn;

pub(crate) use address::Address;
pub(super) use scalars::uint;
pub(crate) use scalars::{put_f64, put_len, put_text, put_uint, text as encoded_text};
pub(crate) use template::{Kind, Template};
pub(crate) use varying::Varying;

/// An ordered map that keeps what it does not know. Keys are text, or bytes that nobody here reads.
///
/// Headers stay as they were encoded: what arrived is checked and indexed once, a value is decoded when it is asked
/// for, and whoever sends them on copies the bytes of what it did not change. Messages of one kind share the index.
#[derive(Clone, Default)]
pub struct Headers {
    /// An encoded map: what arrived, or was written before for a message like this one.
    block: Bytes,
    /// Where the headers are in it. None if there are none.
    layout: Option<Arc<Layout>>,
    /// What was set since.
    changes: Spare,
}

/// The headers do not fit into a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("headers of {0} bytes exceed the {MAX_HEADERS} that a frame can carry")]
pub struct HeadersError(pub usize);

impl Headers {
    /// No headers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decodes a header block; an empty block is no headers at all.
    pub fn decode(block: &Bytes) -> Result<Self, DecodeError> {
        Self::index(block.clone(), Limits::HEADERS)
    }

    fn index(block: Bytes, limits: Limits) -> Result<Self, DecodeError> {
        let layout = if block.is_empty() { None } else { Some(Arc::new(Layout::of(&block, limits)?)) };
        Ok(Self { block, layout, changes: Spare::none() })
    }

    /// Appends the map. On failure `out` is as before.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), HeadersError> {
        let size = self.encoded_len();
        if size > MAX_HEADERS {
            return Err(HeadersError(size));
        }
        self.put(out);
        Ok(())
    }

    /// Appends the map, however long it is.
    fn put(&self, out: &mut impl BufMut) {
        put_map_len(out, self.len());
        // Neighbours are copied in one piece.
        let mut pairs = self.pairs();
        for (at, value) in self.moved() {
            let old = self.places()[at].value();
            out.put_slice(&self.block[pairs.start..old.start]);
            out.put_slice(value);
            pairs.start = old.end;
        }
        out.put_slice(&self.block[pairs]);
        for (key, value) in self.added() {
            out.put_slice(key);
            out.put_slice(value);
        }
    }

    /// As many bytes as [`encode`](Self::encode) appends.
    pub fn encoded_len(&self) -> usize {
        let marker = match self.len() {
            ..16 => 1,
            16..0x1_0000 => 3,
            _ => 5,
        };
        let moved = self.moved().map(|(at, value)| (value.len(), self.places()[at].value().len()));
        let (new, old) = moved.fold((0, 0), |(news, olds), (new, old)| (news + new, olds + old));
        let added: usize = self.added().map(|(key, value)| key.len() + value.len()).sum();
        marker + self.pairs().len() - old + new + added
    }

    /// What the headers take in memory, in bytes, more or less.
    pub fn memory(&self) -> usize {
        let layout = self.layout.as_ref().map_or(0, |layout| layout.memory());
        self.block.len() + layout + self.changes.memory()
    }

    /// The value under a key, decoded; the last one, if a peer sent several.
    pub fn get(&self, key: &str) -> Option<Value> {
        Some(decoded(&self.shared(self.encoded(key)?)))
    }

    /// The text under a key, if it is text.
    pub fn text(&self, key: &str) -> Option<&str> {
        scalars::text(self.encoded(key)?)
    }

    /// The text under a key, sharing memory with what arrived.
    pub fn shared_text(&self, key: &str) -> Option<ByteString> {
        let value = self.encoded(key)?;
        ByteString::try_from(self.shared(&value[text_marker(value)?..])).ok()
    }

    /// The cell name under a key, if it is a valid one.
    pub fn fqcn(&self, key: &str) -> Option<Fqcn> {
        Fqcn::parse(self.shared_text(key)?).ok()
    }

    /// The integer under a key, if it is one and not negative.
    pub fn uint(&self, key: &str) -> Option<u64> {
        match self.shape(key)? {
            Shape::Uint(value) => Some(value),
            _ => None,
        }
    }

    /// The number under a key, whole or not.
    pub fn number(&self, key: &str) -> Option<f64> {
        self.shape(key)?.number()
    }

    /// Whether there is just this text under a key.
    #[inline]
    pub(crate) fn says(&self, key: &str, text: &str) -> bool {
        let value = self.encoded(key);
        value
            .is_some_and(|value| text_marker(value).is_some_and(|marker| value[marker..] == *text.as_bytes()))
    }

    /// Whether a key is there and true.
    pub fn flag(&self, key: &str) -> bool {
        self.encoded(key) == Some(&[TRUE])
    }

    /// Whether there is anything under a key.
    pub fn contains(&self, key: &str) -> bool {
        self.encoded(key).is_some()
    }

    /// Sets a key, in its old place if it was there.
    pub fn set(&mut self, key: impl AsRef<str>, value: impl Into<Value>) {
        self.set_encoded(key.as_ref(), |out| value.into().encode(out));
    }

    /// Sets a text, without a copy of it in between.
    pub(crate) fn set_text(&mut self, key: &str, text: &str) {
        self.set_encoded(key, |out| put_text(out, text));
    }

    /// Sets a number that is not negative.
    pub(crate) fn set_uint(&mut self, key: &str, value: u64) {
        self.set_encoded(key, |out| put_uint(out, value));
    }

    /// Sets a time.
    pub(crate) fn set_f64(&mut self, key: &str, value: f64) {
        self.set_encoded(key, |out| put_f64(out, value));
    }

    /// Sets what `encode` appends to the buffer, which is one value.
    pub(crate) fn set_encoded(&mut self, key: &str, encode: impl FnOnce(&mut Vec<u8>)) {
        let changes = self.changes.get_mut();
        let layout = self.layout.as_deref();
        let at = layout.and_then(|layout| layout.find(&self.block, key));
        match layout.zip(at) {
            Some((layout, at)) => {
                let place = &layout.places()[at];
                let old = &self.block[place.value()];
                let encode = |out: &mut Vec<u8>| {
                    encode(out);
                    Ok::<_, Infallible>(())
                };
                let Ok(()) = changes.replace((at, place.varying.is_some()), old, encode);
            }
            None => {
                changes.add(key, encode);
                if changes.count_added() > MOST_ADDED {
                    self.settle();
                }
            }
        }
    }

    /// Sets everything that is in `other`.
    pub fn extend(&mut self, other: &Self) {
        other.readable().for_each(|(key, value)| self.set_encoded(key, |out| out.extend_from_slice(value)));
    }

    /// Sets everything that is in `other` and not here.
    pub(crate) fn extend_absent(&mut self, other: &Self) {
        for key in other.keys() {
            if !self.contains(key) {
                let value = other.encoded(key).expect("it has the key");
                self.set_encoded(key, |out| out.extend_from_slice(value));
            }
        }
    }

    /// Removes a key, all of it if a peer sent several. Says whether it was there.
    pub fn remove(&mut self, key: &str) -> bool {
        if self.layout().find(&self.block, key).is_none() {
            return self.changes.is_some() && self.changes.get_mut().remove(key);
        }
        let is_it = |place: &Place| place.readable && place.key(&self.block) == key.as_bytes();
        let gone = self.places().iter().filter(|place| is_it(place)).count();
        let mut block = Vec::with_capacity(self.encoded_len());
        put_map_len(&mut block, self.len() - gone);
        for (at, (key, value)) in self.parts().enumerate() {
            if !self.places().get(at).is_some_and(is_it) {
                block.extend_from_slice(key);
                block.extend_from_slice(value);
            }
        }
        *self = Self::written(block);
        true
    }

    /// [Removes](Self::remove) a key and gives the value that [`get`](Self::get) would have.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        let value = self.get(key);
        self.remove(key);
        value
    }

    /// The keys that are text, in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.readable().map(|(key, _)| key)
    }

    /// Keys and values in order, decoded.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Value, Value)> {
        let parts: Vec<_> = self.parts().collect();
        parts.into_iter().map(|(key, value)| (decoded(&self.shared(key)), decoded(&self.shared(value))))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places().len() + self.changes.count_added()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The headers as one map, as a RETURN carries those of the failed request.
    pub fn into_value(self) -> Value {
        Value::Map(self.iter().collect())
    }

    /// From whom the message is, for whom, and what for.
    pub(crate) fn address(&self) -> Arc<Address> {
        self.known_address().cloned().unwrap_or_else(|| Arc::new(Address::of(self)))
    }

    /// Whether the message is on a channel.
    pub(crate) fn is_on(&self, channel: &str) -> bool {
        match self.known_address() {
            Some(address) => *address.channel == *channel,
            None => self.says(cn::CHANNEL, channel),
        }
    }

    /// What is read once for all messages of a kind. None if there may be others in it.
    fn known_address(&self) -> Option<&Arc<Address>> {
        let layout = self.layout.as_ref().filter(|_| !self.changes.are_unusual())?;
        Some(layout.address.get_or_init(|| Arc::new(Address::of(self))))
    }

    /// Where a header is, as [`with`](Self::with) takes it; `None` if it is not there or was set.
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

    /// The value under a key as it is encoded.
    #[inline]
    pub(crate) fn encoded(&self, key: &str) -> Option<&[u8]> {
        match self.layout().find(&self.block, key) {
            Some(at) => Some(self.moved_to(at).unwrap_or_else(|| &self.block[self.places()[at].value()])),
            None => self.changes.find(key),
        }
    }

    /// The value under a key as far as a look at its first bytes tells.
    fn shape(&self, key: &str) -> Option<Shape<'_>> {
        Scanner::new(self.encoded(key)?, Limits::HEADERS).step().ok()
    }

    /// Makes what was set part of one block, so that copies share all of it.
    pub(crate) fn settle(&mut self) {
        if self.changes.is_some() {
            let mut block = Vec::with_capacity(self.encoded_len());
            self.put(&mut block);
            *self = Self::written(block);
        }
    }

    /// What was encoded here.
    fn written(block: Vec<u8>) -> Self {
        Self::index(block.into(), Limits::NONE).expect("it was encoded here")
    }

    /// The same headers in memory of their own.
    pub(super) fn detached(&self) -> Self {
        Self { block: Bytes::copy_from_slice(&self.block), ..self.clone() }
    }

    /// Headers like these that came as another block: it differs in values that vary at most, and each of those has its
    /// old place. `None` if it is not like this, or too hard to tell. Nothing may have been set in these.
    pub(super) fn resembling(&self, block: &Bytes) -> Option<Self> {
        let fits = self.layout.as_ref().is_some_and(|layout| layout.fits(&self.block, block));
        fits.then(|| Self { block: block.clone(), layout: self.layout.clone(), changes: Spare::none() })
    }

    /// Headers like these with other values where they vary. `change` appends one, and is told which it is and what was
    /// there before. Nothing may have been set in these.
    pub(super) fn revised<E>(
        &self,
        mut change: impl FnMut(Varying, &[u8], &mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut changes = Spare::none();
        for (at, place, varying) in self.layout().varying() {
            let old = &self.block[place.value()];
            changes.get_mut().push(at, |out| change(varying, old, out))?;
        }
        Ok(Self { block: self.block.clone(), layout: self.layout.clone(), changes })
    }

    /// Gives the values that vary to `each`, in order.
    pub(super) fn each_varying<'a>(&'a self, mut each: impl FnMut(Varying, &'a [u8])) {
        let mut moved_to = self.changes.in_order();
        for (at, place, varying) in self.layout().varying() {
            each(varying, moved_to(at).unwrap_or_else(|| &self.block[place.value()]));
        }
        for (key, value) in self.added() {
            // Of long keys, which none of them is, the marker is longer.
            if let Some(varying) = Varying::of(&key[1..]) {
                each(varying, value);
            }
        }
    }

    /// What does not vary: keys with their markers, and values where those stay.
    pub(super) fn steady(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let placed = self.parts().zip(self.places().iter().map(|place| place.varying));
        let added = self.added().map(|(key, value)| ((key, value), Varying::of(&key[1..])));
        placed.chain(added).map(|((key, value), varying)| (key, varying.is_none().then_some(value)))
    }

    /// Whether others are sure to have the same keys in the same order, and the same values where they do not vary:
    /// they share their layout, so only what was set can be different, and that usually is the same for all of a kind.
    pub(super) fn are_kin(&self, other: &Self) -> bool {
        let unusual = self.changes.are_unusual() || other.changes.are_unusual();
        matches!((&self.layout, &other.layout), (Some(one), Some(another)) if Arc::ptr_eq(one, another))
            && (!unusual
                || self.steady_changes().eq(other.steady_changes()) && self.added().eq(other.added()))
    }

    /// Whether others have the same keys in the same order, and the same values where they do not vary.
    pub(super) fn are_alike(&self, other: &Self) -> bool {
        self.len() == other.len() && self.steady().eq(other.steady())
    }

    /// What was set where values usually stay.
    fn steady_changes(&self) -> impl Iterator<Item = (usize, &[u8])> {
        self.moved().filter(|(at, _)| self.places()[*at].varying.is_none())
    }

    /// Keys with their markers, and values, in order.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let placed = self.places().iter().enumerate().map(|(at, place)| {
            let value = self.moved_to(at).unwrap_or_else(|| &self.block[place.value()]);
            (&self.block[place.head()], value)
        });
        placed.chain(self.added())
    }

    /// Keys that are text, with their values.
    fn readable(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.parts().filter_map(|(key, value)| {
            let key = &key[text_marker(key)?..];
            Some((str::from_utf8(key).expect("it was checked, or set as text"), value))
        })
    }

    fn places(&self) -> &[Place] {
        self.layout().places()
    }

    /// Where in the block the pairs are.
    fn pairs(&self) -> std::ops::Range<usize> {
        self.layout().pairs()
    }

    fn layout(&self) -> &Layout {
        static NONE: Layout = Layout::none();
        self.layout.as_deref().unwrap_or(&NONE)
    }

    fn moved_to(&self, at: usize) -> Option<&[u8]> {
        self.changes.at(at)
    }

    fn moved(&self) -> impl Iterator<Item = (usize, &[u8])> {
        self.changes.moved()
    }

    fn added(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.changes.added()
    }

    /// A piece of these headers, sharing memory with what arrived.
    fn shared(&self, piece: &[u8]) -> Bytes {
        let block = self.block.as_ptr_range();
        if block.contains(&piece.as_ptr()) {
            self.block.slice_ref(piece)
        } else {
            Bytes::copy_from_slice(piece)
        }
    }
}

/// Of a map with more than these, it is worth the while to make one block. They are looked for one by one.
const MOST_ADDED: usize = 32;

const TRUE: u8 = 0xc3;

/// The value of a piece, which is one.
fn decoded(piece: &Bytes) -> Value {
    Value::decode(piece, Limits::NONE).expect("it was encoded here, or checked when it arrived")
}

fn put_map_len(out: &mut impl BufMut, len: usize) {
    let len = u32::try_from(len).expect("each takes two bytes or more, and offsets have 32 bits");
    rmp::encode::write_map_len(&mut out.writer(), len).expect("a buffer in memory takes everything");
}

impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: AsRef<str>, V: Into<Value>> FromIterator<(K, V)> for Headers {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(pairs: T) -> Self {
        let mut headers = Self::new();
        pairs.into_iter().for_each(|(key, value)| headers.set(key, value));
        headers
    }
}

impl TryFrom<Value> for Headers {
    type Error = DecodeError;

    fn try_from(value: Value) -> Result<Self, DecodeError> {
        let Value::Map(_) = value else { return Err(DecodeError::Expected("a map of headers")) };
        let mut block = BytesMut::new();
        value.encode(&mut block);
        Self::decode(&block.freeze())
    }
}

#[cfg(test)]
mod tests;
