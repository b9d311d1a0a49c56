//! The Machines API: wire types, errors, limits, and the calls that hangar makes. It must never know `api` or `plan`.

pub mod wire;
