//! Who owns which field of an object, as Kubernetes' server-side apply has it: sets of paths, how lists and maps of a kind
//! merge, and what an apply or an update does to the sets of all managers. Pure; it must never keep a value of a field
//! but the keys by which lists find their items.
//!
//! [`set`] is a set of paths and its `FieldsV1` form, [`shape`] what a schema says of merging, [`walk`] which paths a value has
//! and which differ between two, [`merge`] an applied configuration put into an object, [`managers`] the sets of one object.

pub mod kept;
pub mod managers;
pub mod merge;
pub mod set;
pub mod shape;
pub mod walk;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use kept::Kept;
pub use managers::{Conflict, Manager, Managers, Operation};
pub use set::{Element, Set};
pub use shape::Shape;
