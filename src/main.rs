//! The `hangar` program: parse, run, exit code. Everything else is in the library.

use std::process::ExitCode;

use clap::Parser as _;
use hangar::cli::{self, Cli, Printer};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut printer = Printer::standard();
    let mut builder = if cli.command.is_server() {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    let result = builder
        .enable_all()
        .build()
        .map_err(anyhow::Error::new)
        .and_then(|runtime| runtime.block_on(cli::run(cli, &mut printer)));
    cli::finish(result, &mut printer)
}
