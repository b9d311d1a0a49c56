//! LEAF. The kinds: their names, types, defaults and rules. Pure data; it must never do IO, read a clock or draw a number.
//!
//! [`kind`] is the registry: what a kind is called and which columns show it is said there once. Each kind's own types are in the
//! file of its name. [`offer`] is what of them the API has in which group. [`admit`] is the door through which every object comes in.

pub mod access_token;
pub mod activity;
pub mod admit;
pub mod bay;
pub mod column;
pub mod condition;
pub mod core;
pub mod definition;
pub mod environment;
pub mod fields;
pub mod form;
pub mod hold;
pub mod hostname;
pub mod json;
pub mod kind;
pub mod lease;
pub mod manifest;
pub mod meta;
pub mod micro_time;
pub mod name;
pub mod offer;
pub mod openapi;
pub mod orphan;
pub mod pod;
pub mod pool;
pub mod quantity;
pub mod quota;
pub mod restored;
pub mod review;
pub mod rollout;
pub mod schema;
pub mod selector;
pub mod template;

pub use jiff::Timestamp;

/// Group of hangar's own kinds.
pub const GROUP: &str = "hangar.dev";
/// Their version.
pub const VERSION: &str = "v1alpha1";
/// Group and version, as `apiVersion` has it.
pub const API_VERSION: &str = "hangar.dev/v1alpha1";
/// Finalizer that keeps an environment until nothing of it is left at Fly.
pub const FINALIZER: &str = "hangar.dev/bay";
/// Finalizer that keeps a namespace until nothing is left in it.
pub const CONTENTS_FINALIZER: &str = "hangar.dev/contents";
