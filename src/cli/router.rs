//! `hangar router`: a router that follows a server's watch and keeps its table in a database of its own, so that it answers
//! while the server is gone. It must never open the server's store.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};

use crate::{
    api::activity::Report,
    cli::{
        Exit,
        assembly::{self, Addresses, Core, Follows},
        connection::Connection,
        failure::Failure,
        printer::Printer,
    },
    client,
    router::{
        activity::{Activity, ActivitySink, SinkError},
        index::Owner,
        remote::Remote,
        saved::Shelf,
    },
    tasks::Set,
};

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
    /// File that is written, with the addresses as JSON, once everything listens; an old one is
    /// removed at the start
    #[arg(long, env = "HANGAR_READY_FILE", value_name = "PATH")]
    pub ready_file: Option<PathBuf>,
}

/// Runs until it is told to end.
///
/// # Errors
/// Whatever keeps it from starting, or ends it.
pub async fn run(
    args: &Args,
    connection: &Connection,
    printer: &mut Printer,
) -> anyhow::Result<Exit> {
    let from = args.from.trim_end_matches('/').to_owned();
    if !from.starts_with("http://") && !from.starts_with("https://") {
        let hint = "write http://host:port or https://host";
        return Err(Failure::usage(format!("--from {from} is not a URL"), hint).into());
    }
    let token = connection.token();
    let authority = connection.authority()?;
    let (_, client) = client::transport(&from, token.is_some(), authority.as_deref())?;
    let client = client.tcp_keepalive(Duration::from_secs(20)).build()?;
    assembly::clear_ready_file(args.ready_file.as_deref())?;
    let mut set = Set::new();
    assembly::end_on_signals(set.trigger())?;
    let core = Core::new(&args.data_dir)?;
    let follows = Follows {
        source: Box::new(Remote::new(client.clone(), &from, token.clone())),
        shelf: Some(Shelf::open(&args.data_dir.join("routes"))?),
        sink: Arc::new(ToServer { client, from, token }),
    };
    let router = core.router(&mut set, follows, (args.listen, "--listen"), &args.domain).await?;
    let addresses = Addresses { router: Some(router), ..Addresses::default() };
    addresses.write(args.ready_file.as_deref())?;
    printer.note(format_args!("router: http://{router}"));
    set.run(assembly::DRAIN).await.map(|()| Exit::Success)
}

/// Tells a server what this router saw.
#[derive(Clone)]
struct ToServer {
    client: reqwest::Client,
    from: String,
    token: Option<String>,
}

/// A report that the server does not take in time is told again later.
const TELL_TIMEOUT: Duration = Duration::from_secs(10);

impl ToServer {
    async fn tell(&self, report: Report) -> Result<(), SinkError> {
        let request = self
            .client
            .post(format!("{}/router/activity", self.from))
            .timeout(TELL_TIMEOUT)
            .json(&report);
        let request = match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        request.send().await?.error_for_status()?;
        Ok(())
    }
}

impl ActivitySink for ToServer {
    fn record(&self, batch: Vec<Activity>) -> BoxFuture<'_, Result<(), SinkError>> {
        self.tell(assembly::requests(batch)).boxed()
    }

    fn nudge(&self, environments: Vec<Owner>) -> BoxFuture<'_, Result<(), SinkError>> {
        self.tell(assembly::nudges(environments)).boxed()
    }
}
