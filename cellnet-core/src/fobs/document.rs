//! A payload: a main value and the datums it refers to.

use std::collections::HashMap;

use uuid::Uuid;

use super::{
    ArrayKind, Datum, DatumRef, DatumValue, FobsError, Object,
    convert::{native_in, recognise},
    npy, safetensors,
};

/// Text of so many characters, or so many bytes of data, leave the main value for a section of their own. The
/// reference's default, 10 MiB. Source: `fuel/utils/fobs/datum.py`.
pub const EXTERNAL_THRESHOLD: usize = 10 << 20;

/// A decoded payload, or one to be encoded. Decoding and encoding changes nothing in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    main: Object,
    datums: Vec<Datum>,
}

impl Document {
    /// Prepares a value for sending, with [`EXTERNAL_THRESHOLD`].
    pub fn new(object: Object) -> Self {
        Self::with_threshold(object, EXTERNAL_THRESHOLD)
    }

    /// Prepares a value for sending.
    ///
    /// Text of `threshold` characters and more, and data of `threshold` bytes and more, become datums; keys of dicts do
    /// not. Arrays are data in the form they travel in. [`Object::Datum`] always does. Counts from 1 to 1 GiB, as nothing
    /// else fits. Where referenced arrays are is said in datums too, as [`reference`](super::reference) explains.
    pub fn with_threshold(object: Object, threshold: usize) -> Self {
        let mut document = Self { main: object, datums: Vec::new() };
        let threshold = threshold.clamp(1, MAX_THRESHOLD);
        let mut external = External { threshold, datums: &mut document.datums };
        external.value(&mut document.main);
        document.datums.extend(document.main.detach());
        document
    }

    pub(super) fn from_parts(main: Object, datums: Vec<Datum>) -> Self {
        Self { main, datums }
    }

    /// The main value, with references in it.
    pub fn main(&self) -> &Object {
        &self.main
    }

    /// The datums in the order of their sections.
    pub fn datums(&self) -> &[Datum] {
        &self.datums
    }

    /// Adds a datum for a handler at the receiver.
    pub fn push(&mut self, datum: Datum) {
        self.datums.push(datum);
    }

    /// Takes out the datums of one object type, for whoever handles them.
    pub fn take(&mut self, dot: u8) -> Vec<Datum> {
        self.datums.extract_if(.., |datum| datum.dot() == dot).collect()
    }

    /// The value with all references followed; text and bytes are shared, not copied.
    ///
    /// References to arrays stay, and know their source from then on. Fails if a datum is missing, if one is left for a
    /// handler and nobody [took](Self::take) it, if references lack a source, or if more than 16 places refer to the same one: whoever copies the value then needs many times the memory of the payload. The
    /// reference makes a new datum for every place. A datum that nothing refers to is dropped, as in the reference.
    pub fn into_object(self) -> Result<Object, FobsError> {
        let Self { mut main, datums } = self;
        let known = |datum: &Datum| datum.dot() == 0 || ArrayKind::from_dot(datum.dot()).is_some();
        if let Some(datum) = datums.iter().find(|datum| !known(datum)) {
            return Err(FobsError::NoHandler(datum.dot()));
        }
        let mut places = datums.iter().map(|datum| (datum.id(), (datum, 0))).collect();
        main.visit_mut(&mut |object| resolve(object, &mut places))?;
        main.attach(&datums)?;
        Ok(main)
    }
}

/// Datums and how many places they took.
type Places<'a> = HashMap<Uuid, (&'a Datum, usize)>;

/// Puts a datum in the place of its reference. An object that was not known without it may be known now.
fn resolve(object: &mut Object, datums: &mut Places<'_>) -> Result<(), FobsError> {
    match object {
        Object::DatumRef(DatumRef { id, unwrap }) => {
            let (datum, places) = datums.get_mut(id).ok_or(FobsError::NoDatum(*id))?;
            *places += 1;
            if *places > MAX_PLACES {
                return Err(FobsError::Repeated(*id));
            }
            *object = match (*unwrap, datum.value()) {
                (true, DatumValue::Text(text)) => Object::Str(text.clone()),
                (true, DatumValue::Blob(bytes) | DatumValue::File(bytes)) => Object::Bin(bytes.clone()),
                (false, _) => Datum::clone(datum).into(),
            };
        }
        Object::Opaque(opaque) => {
            if let Some(known) = recognise(opaque) {
                *object = known;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Moves large data out of a value.
struct External<'a> {
    threshold: usize,
    datums: &'a mut Vec<Datum>,
}

impl External<'_> {
    fn value(&mut self, object: &mut Object) {
        match object {
            Object::Str(text) if self.is_long(text) => {
                self.unwrapped(DatumValue::Text(text.clone()), object);
            }
            Object::Bin(bytes) if bytes.len() >= self.threshold => {
                self.unwrapped(DatumValue::Blob(bytes.clone()), object);
            }
            Object::Array(_) | Object::Tensor(_) => self.array(object),
            Object::Datum(datum) => {
                let reference = DatumRef { id: datum.id(), unwrap: false };
                if !self.datums.iter().any(|known| known.id() == reference.id) {
                    self.datums.push(Datum::clone(datum));
                }
                *object = Object::DatumRef(reference);
            }
            Object::List(items) | Object::Tuple(items) | Object::Set(items) => {
                items.iter_mut().for_each(|item| self.value(item));
            }
            Object::Map(pairs) => pairs.iter_mut().for_each(|(key, value)| {
                self.key(key);
                self.value(value);
            }),
            // Its pairs travel as tuples, so the reference sees no keys here.
            Object::OrderedDict(pairs) => pairs.iter_mut().for_each(|(key, value)| {
                self.value(key);
                self.value(value);
            }),
            Object::Opaque(opaque) => self.value(opaque.data_mut()),
            _ => {}
        }
    }

    /// A key keeps its data, long or not; only the application's own datums have to leave.
    fn key(&mut self, key: &mut Object) {
        External { threshold: usize::MAX, datums: self.datums }.value(key);
    }

    /// Its size as a file is its data's and a little more; the file is only made where that may be enough.
    fn array(&mut self, object: &mut Object) {
        const HEADER: usize = 128 << 10;
        let large = object.as_array().is_some_and(|array| array.data().len() + HEADER >= self.threshold);
        let file = match object {
            Object::Array(array) if large => npy::encode(array),
            Object::Tensor(tensor) if large => safetensors::encode(safetensors::NATIVE, tensor),
            _ => return,
        };
        if file.len() >= self.threshold {
            let mut place = Object::Nil;
            self.unwrapped(DatumValue::Blob(file), &mut place);
            if let Object::DatumRef(datum) = place {
                *object = native_in(datum, object).expect("it is an array");
            }
        }
    }

    fn unwrapped(&mut self, value: DatumValue, place: &mut Object) {
        let datum = Datum::new(value).expect("the threshold is above 0");
        *place = Object::DatumRef(DatumRef { id: datum.id(), unwrap: true });
        self.datums.push(datum);
    }

    /// Characters count, and there are never more of them than bytes.
    fn is_long(&self, text: &str) -> bool {
        text.len() >= self.threshold && text.chars().count() >= self.threshold
    }
}

/// Text with so many characters still has a length of 32 bits in bytes.
const MAX_THRESHOLD: usize = 1 << 30;

/// More than any application has a reason for.
const MAX_PLACES: usize = 16;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        fobs::{self, Opaque},
        wire::Limits,
    };

    #[test]
    fn large_values_leave_and_come_back() {
        let object = Object::from_iter([
            (Object::text("text"), Object::text("äöüß")),
            (Object::text("small"), Object::text("abc")),
            (Object::text("long key"), Opaque::new("a.B", Bytes::from_static(b"1234"), "c.D").into()),
            (Object::Tuple(vec![Object::text("long key")]), Object::Tuple(vec![Object::text("1234")])),
        ]);
        let document = Document::with_threshold(object.clone(), 4);
        assert_eq!(document.datums().len(), 3);
        let bytes = fobs::encode(&document);
        assert_eq!(fobs::decode(&bytes, Limits::PAYLOAD).unwrap().into_object(), Ok(object));
    }

    #[test]
    fn the_applications_datums_stay_datums() {
        let datum = Datum::new(DatumValue::File(Bytes::from_static(b"x"))).unwrap();
        let object = Object::from(vec![datum.clone().into(), datum.into()]);
        let document = Document::new(object.clone());
        assert_eq!(document.datums().len(), 1);
        let bytes = fobs::encode(&document);
        assert_eq!(fobs::decode(&bytes, Limits::PAYLOAD).unwrap().into_object(), Ok(object));
    }

    #[test]
    fn a_missing_datum_is_an_error() {
        let id = Uuid::nil();
        let main = Object::List(vec![Object::DatumRef(DatumRef { id, unwrap: true })]);
        assert_eq!(Document::from_parts(main, Vec::new()).into_object(), Err(FobsError::NoDatum(id)));
    }

    #[test]
    fn a_datum_does_not_multiply() {
        let datum = Datum::new(DatumValue::Blob(Bytes::from_static(b"x"))).unwrap();
        let object = |places| Object::List(vec![datum.clone().into(); places]);
        assert_eq!(Document::new(object(16)).into_object(), Ok(object(16)));
        assert_eq!(Document::new(object(17)).into_object(), Err(FobsError::Repeated(datum.id())));
    }

    #[test]
    fn a_datum_for_a_handler_has_to_be_taken() {
        let value = DatumValue::Text("x".into());
        let mut document = Document::new(Object::Nil);
        document.push(Datum::with_id(Uuid::nil(), 1, value).unwrap());
        assert_eq!(document.clone().into_object(), Err(FobsError::NoHandler(1)));
        assert_eq!(document.take(1).len(), 1);
        assert_eq!(document.into_object(), Ok(Object::Nil));
    }
}
