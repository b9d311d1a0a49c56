//! `hangar serve`: API, controller and router against Fly. PLACEHOLDER: the arguments are final, the body is not.

use std::{net::SocketAddr, path::PathBuf};

use crate::cli::{Exit, failure::Failure, printer::Printer};

/// Which organisation, and where everything listens and is kept.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Organisation at Fly. Its token is read from FLY_API_TOKEN, another API base from FLY_FLAPS_BASE_URL
    #[arg(long, env = "HANGAR_ORG", value_name = "SLUG")]
    pub org: String,
    /// Where everything is kept
    #[arg(long, env = "HANGAR_DATA_DIR", default_value = "./hangar-data", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Where the API listens
    #[arg(long, env = "HANGAR_LISTEN", default_value = "127.0.0.1:7070", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Where the router listens
    #[arg(
        long,
        env = "HANGAR_ROUTER_LISTEN",
        default_value = "127.0.0.1:8081",
        value_name = "ADDRESS"
    )]
    pub router_listen: SocketAddr,
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
    Err(Failure::new("`hangar serve` is not wired up yet").into())
}
