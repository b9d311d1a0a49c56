//! `hangar up`: everything in one process on the local backend, from manifests to addresses that answer. It must never do
//! anything that the other commands could not do one by one.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use futures::StreamExt as _;

use crate::{
    api::{kind::Kind, meta::ObjectRef},
    cli::{
        Exit, apply,
        assembly::{self, Addresses, Core, Fly, Follows, IntoStore, LocalFly},
        connection::Connection,
        exports::Exports,
        failure::Failure,
        files::FileArgs,
        printer::Printer,
        table,
        wait::{Goal, Verdict},
    },
    client::{Client, Query, WatchEvent},
    fly::token::Token,
    local::Backend,
    net,
    reconcile::Address,
    router::follow::Local,
    tasks::{Set, Shutdown},
    telemetry::journal::{Filter, Journal},
};

/// Where everything listens and is kept.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Manifests to apply at the start, again and again as `apply -f`: file or directory
    #[arg(short = 'f', long = "filename", env = "HANGAR_FILENAME", value_name = "PATH")]
    pub files: Vec<PathBuf>,
    /// Where everything is kept
    #[arg(long, env = "HANGAR_DATA_DIR", default_value = "./hangar-data", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Where the API listens
    #[arg(long, env = "HANGAR_LISTEN", default_value = "127.0.0.1:7070", value_name = "ADDRESS")]
    pub listen: SocketAddr,
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
    /// Start no programs: machines are only pretended
    #[arg(long, env = "HANGAR_NO_RUN")]
    pub no_run: bool,
}

/// Runs until it is told to end.
///
/// # Errors
/// Whatever keeps it from starting, or ends it.
pub async fn run(args: &Args, printer: &mut Printer) -> anyhow::Result<Exit> {
    let mut set = Set::new();
    assembly::end_on_signals(set.trigger())?;
    let core = Core::new(&args.data_dir)?;
    let Started { addresses, backend, exports } = start(args, &core, &mut set).await?;
    say_where(&addresses, printer);
    assembly::say_holds(&exports.store, printer).await?;
    let session =
        Session { args, journal: core.journal.clone(), addresses, shutdown: set.shutdown() };
    let trigger = set.trigger();
    let shown = async {
        let shown = session.run(printer).await;
        trigger.shut_down();
        shown
    };
    let (ended, shown) = tokio::join!(set.run(assembly::DRAIN), shown);
    printer.note("stopping the machines");
    backend.stop_all().await;
    backend.close();
    exports.make().await;
    ended?;
    shown
}

/// What is needed of the parts once they run.
struct Started {
    addresses: Addresses,
    backend: Arc<Backend>,
    exports: Exports,
}

/// Starts all parts.
async fn start(args: &Args, core: &Core, set: &mut Set) -> anyhow::Result<Started> {
    let store = core.store(&args.data_dir).await?;
    let exports = core.exports(set, &store, &args.data_dir);
    let local =
        LocalFly::open(&core.clock, args.data_dir.join("fly"), args.fly_listen, args.no_run)
            .await?;
    let front_listener = net::bind(args.front_listen).await?;
    let front = front_listener.local_addr()?;
    let sink = Arc::new(IntoStore { store: store.clone(), clock: Arc::clone(&core.clock) });
    let source = Box::new(Local::new(store.clone()));
    let follows = Follows { source, shelf: None, sink };
    let router = core.router(set, follows, args.router_listen, &args.domain).await?;
    let fly = local.fly;
    let backend = local.start(set, front_listener, router, Arc::clone(&core.clock));
    let stand_in = Fly {
        base_url: format!("http://{fly}"),
        token: Token::new(assembly::LOCAL_TOKEN),
        org: assembly::LOCAL_ORG.to_owned(),
    };
    let address = Address {
        scheme: "http".to_owned(),
        domain: args.domain.clone(),
        port: Some(front.port()).filter(|port| *port != 80),
    };
    core.controller(set, &store, stand_in, address)?;
    let api = core.api(set, &exports, args.listen).await?;
    let addresses =
        Addresses { api: Some(api), fly: Some(fly), front: Some(front), router: Some(router) };
    Ok(Started { addresses, backend, exports })
}

fn say_where(addresses: &Addresses, printer: &mut Printer) {
    let Addresses { api, fly, front, router } = addresses;
    for (what, address) in
        [("API", api), ("local Machines API", fly), ("proxy front", front), ("router", router)]
    {
        if let Some(address) = address {
            printer.note(format_args!("{what:<19} http://{address}"));
        }
    }
    printer.note(format_args!("note: {}", assembly::ISOLATION));
}

/// What a person sees of it.
struct Session<'a> {
    args: &'a Args,
    journal: Journal,
    addresses: Addresses,
    shutdown: Shutdown,
}

impl Session<'_> {
    async fn run(mut self, printer: &mut Printer) -> anyhow::Result<Exit> {
        let mut shutdown = self.shutdown.clone();
        tokio::select! {
            () = shutdown.wait() => Ok(Exit::Success),
            shown = self.show(printer) => shown,
        }
    }

    async fn show(&mut self, printer: &mut Printer) -> anyhow::Result<Exit> {
        let Some(api) = self.addresses.api else {
            return Err(Failure::new("the API has no address").into());
        };
        let connection = Connection::to(api);
        let client = connection.client()?;
        if !self.args.files.is_empty() {
            let files = FileArgs::of(&self.args.files);
            let (exit, applied) = apply::files(&files, &connection, printer).await?;
            printer.flush()?;
            if exit != Exit::Success {
                return Ok(exit);
            }
            let wanted: Vec<_> =
                applied.into_iter().filter(|it| it.kind == Kind::Environment).collect();
            progress(&client, &wanted, printer).await?;
            urls(&client, printer).await?;
        }
        self.addresses.write(self.args.ready_file.as_deref())?;
        printer.note("following the reconciliation log; Ctrl-C stops everything");
        printer.flush()?;
        let mut lines = self.journal.follow(Filter::default(), 0);
        while let Some(line) = lines.next().await {
            printer.line(&line)?;
            printer.flush()?;
        }
        Ok(Exit::Success)
    }
}

/// Shows how far each environment is until all of them serve or sleep.
async fn progress(
    client: &Client,
    wanted: &[ObjectRef],
    printer: &mut Printer,
) -> anyhow::Result<()> {
    let mut open: BTreeMap<ObjectRef, String> =
        wanted.iter().map(|it| (it.clone(), String::new())).collect();
    while !open.is_empty() {
        let list =
            client.list::<serde_json::Value>(Kind::Environment, None, &Query::default()).await?;
        for object in &list.items {
            judge(object, &mut open, printer);
        }
        if open.is_empty() {
            break;
        }
        let after = Some(list.metadata.resource_version.as_str());
        let mut changes = client
            .watch::<serde_json::Value>(Kind::Environment, None, &Query::default(), after)
            .await?;
        while !open.is_empty() {
            match changes.next().await {
                Ok(Some(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                    judge(&object, &mut open, printer);
                }
                Ok(Some(WatchEvent::Deleted(_) | WatchEvent::Bookmark(_))) => {}
                Ok(None) | Err(_) => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    break;
                }
            }
        }
    }
    Ok(())
}

fn judge(
    object: &serde_json::Value,
    open: &mut BTreeMap<ObjectRef, String>,
    printer: &mut Printer,
) {
    let text = |path| table::plain(crate::api::kind::at_path(object, path).unwrap_or_default());
    let key =
        ObjectRef::new(Kind::Environment, &text("metadata.namespace"), &text("metadata.name"));
    let Some(said) = open.get_mut(&key) else { return };
    let (word, done) = match Goal::Settled.judge(Some(object)) {
        Verdict::Met(word) => (word, true),
        Verdict::NotYet(reason) => (reason, false),
        // A person may mend it while this waits.
        Verdict::Failed(reason) => (format!("stuck: {reason}"), false),
    };
    if *said != word {
        printer.note(format_args!("  {:<20} {word}", key.name));
        said.clone_from(&word);
    }
    if done {
        open.remove(&key);
    }
}

/// The environments there are, with their addresses.
async fn urls(client: &Client, printer: &mut Printer) -> anyhow::Result<()> {
    let list = client.list::<serde_json::Value>(Kind::Environment, None, &Query::default()).await?;
    let rows = list
        .items
        .iter()
        .map(|object| {
            ["metadata.namespace", "metadata.name", "status.phase", "status.url"]
                .map(|path| {
                    table::plain(crate::api::kind::at_path(object, path).unwrap_or_default())
                })
                .to_vec()
        })
        .collect();
    for line in table::lines(&["NAMESPACE", "NAME", "PHASE", "URL"], rows) {
        printer.line(line)?;
    }
    Ok(printer.flush()?)
}
