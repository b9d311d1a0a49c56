//! `hangar sample-app`: the program of the image `hangar.dev/sample-app`. PLACEHOLDER: the body is not final.

use crate::cli::{Exit, failure::Failure};

/// Nothing: it is configured by its environment variables, as any program in a machine.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs until it is told to end.
///
/// # Errors
/// Whatever keeps it from starting.
pub async fn run(args: &Args) -> anyhow::Result<Exit> {
    let _unused = args;
    Err(Failure::new("`hangar sample-app` is not wired up yet").into())
}
