//! `hangar router`: a router that follows a server. PLACEHOLDER: the arguments are final, the body is not.

use std::{net::SocketAddr, path::PathBuf};

use crate::cli::{Exit, failure::Failure, printer::Printer};

/// Whom it follows, and where it listens.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The server to follow
    #[arg(long, env = "HANGAR_FROM", value_name = "URL")]
    pub from: String,
    /// Where everything is kept
    #[arg(long, env = "HANGAR_DATA_DIR", default_value = "./hangar-data", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Where the router listens
    #[arg(
        long,
        env = "HANGAR_ROUTER_LISTEN",
        default_value = "127.0.0.1:8081",
        value_name = "ADDRESS"
    )]
    pub listen: SocketAddr,
    /// Domain under which environments have their hostnames
    #[arg(long, env = "HANGAR_DOMAIN", default_value = "dev.localhost", value_name = "DOMAIN")]
    pub domain: String,
    /// File that is written, with the addresses as JSON, once everything listens
    #[arg(long, env = "HANGAR_READY_FILE", value_name = "PATH")]
    pub ready_file: Option<PathBuf>,
}

/// Runs until it is told to end.
///
/// # Errors
/// Whatever keeps it from starting, or ends it.
pub async fn run(args: &Args, printer: &mut Printer) -> anyhow::Result<Exit> {
    let _unused = (args, printer);
    Err(Failure::new("`hangar router` is not wired up yet").into())
}
