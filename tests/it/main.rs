//! The whole program, from manifests to pages: every test starts the real binary on a data directory of its own and looks at
//! it as people do, through the command line, through the proxy front and through the local Machines API.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed step fails the test")]
#![expect(clippy::print_stderr, reason = "a failed test shows what hangar wrote")]

mod apart;
mod change;
mod claim;
mod drift;
mod end;
mod expiry;
mod failing;
mod first_start;
mod fly;
mod harness;
mod manifest;
mod quota;
mod recovery;
mod refused;
mod removal;
mod restart;
mod rollout;
mod secret;
mod sleep;
mod until;
mod view;
