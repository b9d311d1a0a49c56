//! `hangar local`: the stand-in for Fly alone. It must never know of a store, a controller or a manifest.

use std::{net::SocketAddr, path::PathBuf};

use crate::{
    cli::{
        Exit,
        assembly::{self, Addresses, LocalArgs, LocalFly},
        printer::Printer,
    },
    clock,
    tasks::Set,
};

/// Where it listens and keeps its machines.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where everything is kept
    #[arg(long, env = "HANGAR_DATA_DIR", default_value = "./hangar-data", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Where the stand-in for Fly's Machines API listens
    #[arg(
        long,
        env = "HANGAR_FLY_LISTEN",
        default_value = "127.0.0.1:4280",
        value_name = "ADDRESS"
    )]
    pub fly_listen: SocketAddr,
    /// Where the stand-in for Fly Proxy listens: what browsers talk to
    #[arg(
        long,
        env = "HANGAR_FRONT_LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "ADDRESS"
    )]
    pub front_listen: SocketAddr,
    /// The router that the proxy asks first
    #[arg(
        long,
        env = "HANGAR_FRONT_UPSTREAM",
        default_value = "127.0.0.1:8081",
        value_name = "ADDRESS"
    )]
    pub front_upstream: SocketAddr,
    /// File that is written, with the addresses as JSON, once everything listens; an old one is
    /// removed at the start
    #[arg(long, env = "HANGAR_READY_FILE", value_name = "PATH")]
    pub ready_file: Option<PathBuf>,
    /// What the stand-in for Fly is told
    #[command(flatten)]
    pub local: LocalArgs,
}

/// Runs until it is told to end.
///
/// # Errors
/// Whatever keeps it from starting, or ends it.
pub async fn run(args: &Args, printer: &mut Printer) -> anyhow::Result<Exit> {
    let clock = clock::System::shared();
    assembly::clear_ready_file(args.ready_file.as_deref())?;
    let mut set = Set::new();
    assembly::end_on_signals(set.trigger())?;
    let data_dir = args.data_dir.join("fly");
    let fly = LocalFly::open(&clock, data_dir, args.fly_listen, &args.local).await?;
    let front_listener = assembly::bind(args.front_listen, "--front-listen").await?;
    let addresses = Addresses {
        fly: Some(fly.fly),
        front: Some(front_listener.local_addr()?),
        ..Addresses::default()
    };
    addresses.write(args.ready_file.as_deref())?;
    // Last: from here on machines run, and whatever happens must stop them.
    let backend = fly.start(&mut set, front_listener, args.front_upstream, clock);
    for (what, address) in [("Machines API", addresses.fly), ("proxy front", addresses.front)] {
        if let Some(address) = address {
            printer.note(format_args!("{what}: http://{address}"));
        }
    }
    printer.note(format_args!("note: {}", assembly::ISOLATION));
    let ended = set.run(assembly::DRAIN).await;
    backend.stop_all().await;
    backend.close();
    ended.map(|()| Exit::Success)
}
