//! hangar against a world in which everything fails: the real API, planner, reconciler, router and client of Fly, on paused
//! time and one thread, against the local backend and a store whose disk forgets. One seed is one course. It must never be
//! part of a process that serves anybody.

mod careless;
mod chronicle;
pub mod course;
pub mod coverage;
mod disk;
pub mod gate;
pub mod hunt;
pub mod lasting;
mod life;
pub mod mistakes;
mod oracle;
pub mod places;
pub mod plans;
pub mod sequence;
pub mod swarm;
mod universe;
mod wire;

pub use universe::{Report, Setup, Universe, environment, pool, template};
