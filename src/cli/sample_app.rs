//! `hangar sample-app`: the program of the image `hangar.dev/sample-app`. It makes a runtime of its own, so it must never be
//! run inside one.

use crate::{cli::Exit, sample};

/// Nothing: it is configured by its environment variables, as any program in a machine.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub(super) fn run() -> anyhow::Result<Exit> {
    sample::run(sample::Options::from_env()?)?;
    Ok(Exit::Success)
}
