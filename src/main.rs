//! The `hangar` program: parse, run, exit code. Everything else is in the library.

use std::process::ExitCode;

use clap::Parser as _;
use hangar::cli::{self, Cli, Printer};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut printer = Printer::standard();
    let result = cli::start(cli, &mut printer);
    cli::finish(result, &mut printer)
}
