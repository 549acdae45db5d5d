//! What FLARE puts into messages, and the client with which a program is a trainer of a FLARE job.
//!
//! The types here are views: each is made from an [`Object`](cellnet_core::fobs::Object) that came in a payload, and is
//! made an object again to be sent. They keep what they do not know, and what the reference sends comes back byte for
//! byte. Arrays may still be references; see [`cellnet_core::fobs::reference`].
//!
//! ```
//! use cellnet_core::fobs::{Array, Object};
//! use cellnet_pipe::flare::{FlModel, Shareable, header};
//!
//! // A task, as the server sends it.
//! let mut model = FlModel::full(Object::from_iter([("w", Array::from(vec![1.0, 2.0]))]));
//! model.current_round = Some(3);
//! let mut task = model.to_shareable()?;
//! task.set_header(header::TASK_NAME, "train");
//!
//! // What a trainer sees of it.
//! let task = Shareable::try_from(Object::from(task))?;
//! assert_eq!((task.task_name(), task.current_round()), (Some("train"), Some(3)));
//! let model = FlModel::from_shareable(&task)?;
//! assert_eq!(model.arrays()[0].1.to_vec::<f64>()?, [1.0, 2.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod client;
mod dict;
mod dxo;
mod fl_context;
mod fl_model;
mod kinds;
mod learnable;
mod names;
mod shareable;
#[cfg(test)]
mod testdata;
mod transform;

pub use dict::Dict;
pub use dxo::Dxo;
pub use fl_context::{FlContext, Prop};
pub use fl_model::FlModel;
pub use kinds::{DataKind, ParamsType};
pub use learnable::{Learnable, ModelLearnable};
pub use names::{code, header, meta};
pub use shareable::Shareable;

use bytestring::ByteString;

/// Why an object is not what FLARE would take for a model, or a model not what it would send.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// Another type of object.
    #[error("expected {expected}, got {got}")]
    Type {
        /// What it should have been.
        expected: &'static str,
        /// What it is.
        got: ByteString,
    },
    /// An object of the right type with content that it never has.
    #[error("{0} is malformed")]
    Malformed(&'static str),
    /// A task or result without a DXO.
    #[error("there is no DXO in the shareable")]
    NoDxo,
    /// A DXO of a kind that does not fit here.
    #[error("a DXO of {0} is no model")]
    Kind(DataKind),
    /// A type of parameters without parameters.
    #[error("parameters are missing")]
    NoParams,
    /// A model that says nothing.
    #[error("neither parameters nor metrics")]
    Empty,
}
