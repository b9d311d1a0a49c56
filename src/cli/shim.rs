//! `hangar machine-shim`: the process that owns one machine of the local backend. It makes a runtime of its own, so it must
//! never be run inside one.

use std::path::PathBuf;

use crate::cli::Exit;

/// Which machine.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The machine's directory
    pub dir: PathBuf,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    crate::local::process::machine_shim(&args.dir)?;
    Ok(Exit::Success)
}
