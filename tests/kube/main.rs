//! Stock Kubernetes clients against the real program, each in a directory of its own. Where a client is not on this computer, its test
//! says so and is skipped.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed step fails the test")]
#![expect(clippy::print_stderr, reason = "a skipped test says why")]

mod access;
mod agree;
mod apply;
mod figures;
mod files;
mod kubectl;
mod matrix;
mod pods;
mod python;
mod server;
mod together;
mod watch;
