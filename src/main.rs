//! The `hangar` program: parse, run, exit code. Everything else is in the library.

use std::process::ExitCode;

use clap::Parser as _;
use hangar::cli::{self, Cli, Printer};

/// Objects are read and written as JSON, so that small pieces of memory are what most of the time goes into.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut printer = Printer::standard();
    let result = cli::start(cli, &mut printer);
    cli::finish(result, &mut printer)
}
