//! `hangar machine-shim`: the process that owns one machine of the local backend. PLACEHOLDER: the arguments are final, the
//! body is not.

use std::path::PathBuf;

use crate::cli::{Exit, failure::Failure};

/// Which machine.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The machine's directory
    pub dir: PathBuf,
}

/// Runs as long as the machine lives.
///
/// # Errors
/// Whatever keeps it from starting.
pub async fn run(args: &Args) -> anyhow::Result<Exit> {
    let _unused = args;
    Err(Failure::new("`hangar machine-shim` is not wired up yet").into())
}
