//! hangar: per-user environments on Fly.io, kept the way a manifest says.
//!
//! In reading order: [`api`] the kinds, `plan` what to do about them, [`store`] where they are kept, [`fly`] the outside,
//! `reconcile` the loop around the plan, [`router`] and `server` the two faces, [`local`] a stand-in for Fly on one's
//! own computer, `client` and `cli` the command line. The rest are small leaves.

pub mod api;
pub mod chance;
pub mod cli;
pub mod client;
pub mod clock;
pub mod failpoint;
pub mod fly;
pub mod local;
pub mod net;
pub mod plan;
pub mod reconcile;
pub mod retry;
pub mod router;
pub mod sample;
pub mod server;
pub mod sim;
pub mod store;
pub mod tasks;
pub mod telemetry;
