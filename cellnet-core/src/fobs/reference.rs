//! Arrays that stay with their owner until somebody fetches them.
//!
//! In a payload all arrays of one kind share a datum that says who has them under which id, and each place has the name
//! of an item. Here each place says all of it, so that it can be taken out of one payload and put into another.
//!
//! ```
//! use cellnet_core::fobs::{self, Array, ArrayKind, Document, Object, Source};
//! # use cellnet_core::wire::Limits;
//!
//! // The owner keeps the arrays and sends references.
//! let mut object = Object::from_iter([("w", Array::from(vec![1.0, 2.0]))]);
//! let source = Source::new("site-1".parse()?, "some id");
//! let kept = object.refer(ArrayKind::Numpy, &source);
//! let payload = fobs::encode(&Document::new(object));
//!
//! // The receiver sees what there is to fetch, and fills it in.
//! let mut object = fobs::decode(&payload, Limits::PAYLOAD)?.into_object()?;
//! for download in object.downloads() {
//!     assert_eq!((&download.source, &download.items[..]), (&source, &["T0".into()][..]));
//!     object.fill(&download, |item| kept.iter().find(|(name, _)| name == item).map(|(_, array)| array.clone()))?;
//! }
//! assert_eq!(object.get("w"), Some(&Array::from(vec![1.0, 2.0]).into()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Source: `fuel/utils/fobs/decomposers/via_downloader.py`.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use bytestring::ByteString;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Array, Datum, DatumValue, Object, Tensor, TensorError,
    npz::{self, NpzError},
    safetensors::{self, SafetensorsError},
};
use crate::Fqcn;

/// Whose arrays they are: each kind has its own datum and its own format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ArrayKind {
    /// [`Object::Array`], which travels as `.npz`.
    Numpy,
    /// [`Object::Tensor`], which travels as safetensors.
    Torch,
}

/// Who has arrays, and under which id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Source {
    /// The cell that has them.
    pub owner: Fqcn,
    /// What it knows them by.
    pub ref_id: ByteString,
}

/// A place for an array that has not been fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrayRef {
    /// What kind of array.
    pub kind: ArrayKind,
    /// Its name at the source: `T0`.
    pub item: ByteString,
    /// Where it is. `None` only within a [`Document`](super::Document), whose datums say it.
    pub source: Option<Source>,
    /// Whether it was passed on by somebody who is not the owner.
    pub passed_on: bool,
}

/// What has to be fetched from one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// What kind of arrays.
    pub kind: ArrayKind,
    /// Who has them.
    pub source: Source,
    /// The names of those that are needed, each once, in the order of their places.
    pub items: Vec<ByteString>,
}

/// Why references do not make sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// A datum that should say where arrays are, and does not.
    #[error("datum {0} does not say where arrays are")]
    Source(Uuid),
    /// Several datums for the same kind of arrays.
    #[error("arrays of one kind are said to be in several places")]
    Sources,
    /// A reference without a datum.
    #[error("nothing says where array {0} is")]
    NoSource(ByteString),
    /// The source does not have it.
    #[error("array {0} is missing")]
    Missing(ByteString),
    /// It is no tensor.
    #[error("array {item} is no tensor")]
    Tensor {
        /// Which one.
        item: ByteString,
        /// Why not.
        source: TensorError,
    },
    /// Too many places refer to the same array: whoever encodes it in all of them needs many times its memory.
    #[error("too many places refer to array {0}")]
    Repeated(ByteString),
}

/// Why an array cannot be packed for a download, or what was downloaded not be unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// In the format of numpy.
    #[error(transparent)]
    Npz(#[from] NpzError),
    /// In the format of torch.
    #[error(transparent)]
    Safetensors(#[from] SafetensorsError),
    /// No tensor can be made of it.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

impl ArrayKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Numpy, Self::Torch];

    /// The datum object type that stands for it. Source: `fuel/utils/fobs/dots.py`.
    pub fn dot(self) -> u8 {
        match self {
            Self::Numpy => 3,
            Self::Torch => 6,
        }
    }

    /// The kind that a datum object type stands for.
    pub fn from_dot(dot: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.dot() == dot)
    }

    /// One array in the form in which an owner sends it.
    pub fn pack(self, item: &str, array: &Array) -> Result<Bytes, PackError> {
        Ok(match self {
            Self::Numpy => npz::encode([(item, array)])?,
            Self::Torch => safetensors::encode(item, &array.clone().try_into()?),
        })
    }

    /// The arrays that an owner sent in one piece, sharing its bytes; at most `max`.
    pub fn unpack(self, piece: &Bytes, max: usize) -> Result<Vec<(ByteString, Array)>, PackError> {
        Ok(match self {
            Self::Numpy => npz::decode(piece, max)?,
            Self::Torch => {
                let tensors = safetensors::decode(piece, max)?;
                tensors.into_iter().map(|(name, tensor)| (name, tensor.into())).collect()
            }
        })
    }
}

impl Source {
    /// A source.
    pub fn new(owner: Fqcn, ref_id: impl Into<ByteString>) -> Self {
        Self { owner, ref_id: ref_id.into() }
    }

    pub(super) fn from_datum(datum: &Datum) -> Result<Self, ReferenceError> {
        let parse = |text: &str| {
            let Place { fqcn, ref_id } = serde_json::from_str(text).ok()?;
            Some(Self { owner: fqcn.parse().ok()?, ref_id: ref_id.into() })
        };
        match datum.value() {
            DatumValue::Text(text) => parse(text),
            _ => None,
        }
        .ok_or(ReferenceError::Source(datum.id()))
    }

    /// With a new id, and the spaces of Python's `json`.
    pub(super) fn to_datum(&self, kind: ArrayKind) -> Datum {
        let text = |text: &str| serde_json::to_string(text).expect("text is JSON");
        let (owner, ref_id) = (text(self.owner.as_text()), text(&self.ref_id));
        let value = DatumValue::Text(format!(r#"{{"fqcn": {owner}, "ref_id": {ref_id}}}"#).into());
        Datum::with_id(Uuid::new_v4(), kind.dot(), value).expect("it has text")
    }
}

#[derive(Serialize, Deserialize)]
struct Place {
    fqcn: String,
    ref_id: String,
}

impl Object {
    /// What has to be fetched before every array is there: one entry for each kind and source, in the order of their
    /// first places.
    pub fn downloads(&self) -> Vec<Download> {
        let mut found = Found::default();
        self.visit(&mut |object| {
            if let Self::ArrayRef(reference) = object {
                found.add(reference);
            }
        });
        found.downloads
    }

    /// Puts the arrays of a download in their places; clones share memory. Stops at the first error, half-way.
    ///
    /// If more than 16 places refer to one array, all places but the first may add up to no more than 64 MiB.
    pub fn fill(
        &mut self,
        download: &Download,
        mut array: impl FnMut(&str) -> Option<Array>,
    ) -> Result<(), ReferenceError> {
        let mut taken = HashMap::<ByteString, (Self, usize, usize)>::new();
        self.visit_mut(&mut |object| {
            let Self::ArrayRef(reference) = object else { return Ok(()) };
            if reference.kind != download.kind || reference.source.as_ref() != Some(&download.source) {
                return Ok(());
            }
            let item = reference.item.clone();
            let (filled, places, bytes) = match taken.get_mut(&item) {
                Some(known) => known,
                None => {
                    let array = array(&item).ok_or_else(|| ReferenceError::Missing(item.clone()))?;
                    let bytes = array.data().len();
                    let filled = match download.kind {
                        ArrayKind::Numpy => Self::Array(array),
                        ArrayKind::Torch => match Tensor::try_from(array) {
                            Ok(tensor) => Self::Tensor(tensor),
                            Err(source) => return Err(ReferenceError::Tensor { item, source }),
                        },
                    };
                    taken.entry(item.clone()).or_insert((filled, 0, bytes))
                }
            };
            *places += 1;
            if *places > MAX_PLACES && bytes.saturating_mul(*places - 1) > MAX_REPEATED {
                return Err(ReferenceError::Repeated(item));
            }
            *object = filled.clone();
            Ok(())
        })
    }

    /// Puts references in the place of all arrays of a kind, and gives the arrays with the names they got: `T0`, `T1`, …
    /// Clones of one array get one name.
    ///
    /// A payload can only name one source for each kind. So if there are already references of this kind, nothing is
    /// changed, and the arrays will travel as they are.
    pub fn refer(&mut self, kind: ArrayKind, source: &Source) -> Vec<(ByteString, Array)> {
        let mut arrays = Vec::new();
        if self.downloads().iter().any(|download| download.kind == kind) {
            return arrays;
        }
        let mut names = HashMap::new();
        let outcome = self.visit_mut(&mut |object| {
            let array = match (kind, &*object) {
                (ArrayKind::Numpy, Self::Array(array)) => array,
                (ArrayKind::Torch, Self::Tensor(tensor)) => tensor.array(),
                _ => return Ok::<_, std::convert::Infallible>(()),
            };
            let item = names.entry(array.address()).or_insert_with(|| {
                let item = ByteString::from(format!("T{}", arrays.len()));
                arrays.push((item.clone(), array.clone()));
                item
            });
            let (item, source) = (item.clone(), Some(source.clone()));
            *object = Self::ArrayRef(Box::new(ArrayRef { kind, item, source, passed_on: false }));
            Ok(())
        });
        let Ok(()) = outcome;
        arrays
    }

    /// Says of each place where the datums say its array is.
    pub(super) fn attach(&mut self, datums: &[Datum]) -> Result<(), ReferenceError> {
        let mut sources = HashMap::new();
        for datum in datums {
            let Some(kind) = ArrayKind::from_dot(datum.dot()) else { continue };
            let source = Source::from_datum(datum)?;
            if sources.insert(kind, source.clone()).is_some_and(|other| other != source) {
                return Err(ReferenceError::Sources);
            }
        }
        self.visit_mut(&mut |object| {
            if let Self::ArrayRef(reference) = object {
                let source = sources.get(&reference.kind);
                reference.source =
                    Some(source.ok_or_else(|| ReferenceError::NoSource(reference.item.clone()))?.clone());
                reference.passed_on = true;
            }
            Ok(())
        })
    }

    /// The reverse of [`attach`](Self::attach): the datums that say it.
    ///
    /// References to a second source of the same kind cannot be said. They get a name that no source has, so that
    /// whoever follows them fails instead of getting another array.
    pub(super) fn detach(&mut self) -> Vec<Datum> {
        let (mut sources, mut datums) = (HashMap::new(), Vec::new());
        let outcome = self.visit_mut(&mut |object| {
            if let Self::ArrayRef(reference) = object
                && let Some(source) = reference.source.take()
            {
                let first = sources.entry(reference.kind).or_insert_with(|| {
                    datums.push(source.to_datum(reference.kind));
                    source.clone()
                });
                if *first != source {
                    reference.item =
                        format!("{} of {} {}", reference.item, source.owner, source.ref_id).into();
                }
            }
            Ok::<_, std::convert::Infallible>(())
        });
        let Ok(()) = outcome;
        datums
    }
}

#[derive(Default)]
struct Found {
    downloads: Vec<Download>,
    places: HashMap<(ArrayKind, Source), usize>,
    items: HashSet<(usize, ByteString)>,
}

impl Found {
    fn add(&mut self, reference: &ArrayRef) {
        let ArrayRef { kind, item, source: Some(source), .. } = reference else { return };
        let at = *self.places.entry((*kind, source.clone())).or_insert_with(|| {
            self.downloads.push(Download { kind: *kind, source: source.clone(), items: Vec::new() });
            self.downloads.len() - 1
        });
        if self.items.insert((at, item.clone())) {
            self.downloads[at].items.push(item.clone());
        }
    }
}

/// More than most models share; small arrays may be shared by more.
const MAX_PLACES: usize = 16;
const MAX_REPEATED: usize = 64 << 20;
