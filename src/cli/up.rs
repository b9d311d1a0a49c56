//! `hangar up`: everything in one process on the local backend, from manifests to addresses that answer. It must never do
//! anything that the other commands could not do one by one.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, stream::BoxStream};
use tokio::sync::mpsc;

use crate::{
    api::{kind::Kind, meta::ObjectRef},
    cli::{
        Exit,
        access::{self, Door},
        apply,
        assembly::{self, Addresses, Core, Fly, Follows, IntoStore, LocalArgs, LocalFly},
        connection::Connection,
        exports::Exports,
        failure::Failure,
        files::{Bundle, FileArgs},
        printer::Printer,
        progress::{self, News, Stands},
        reach::Here,
        table, targets,
    },
    client::{Client, Query},
    fly::token::Token,
    local::Backend,
    reconcile::Address,
    router::follow::Local,
    store::handle::Store,
    tasks::{Set, Shutdown},
    telemetry::{
        Line,
        journal::{Filter, Journal},
    },
};

/// After this time with environments that are not Ready, a person wants to see why.
const LOG_AFTER: Duration = Duration::from_secs(30);

/// Where everything listens and is kept.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Manifests to apply once at the start, as `apply -f` does: file or directory, or - for stdin; may be repeated
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
    /// File that is written, with the addresses as JSON, once everything listens and, with -f, all its environments are
    /// Ready or asleep; an old one is removed at the start
    #[arg(long, env = "HANGAR_READY_FILE", value_name = "PATH")]
    pub ready_file: Option<PathBuf>,
    /// What the stand-in for Fly is told
    #[command(flatten)]
    pub local: LocalArgs,
    /// Who the API lets in
    #[command(flatten)]
    pub access: access::AccessArgs,
}

/// Runs until it is told to end.
///
/// # Errors
/// Whatever keeps it from starting, or ends it.
pub async fn run(args: &Args, printer: &mut Printer) -> anyhow::Result<Exit> {
    let declared = match declared(args, printer)? {
        Some(bundle) if !bundle.complaints.is_empty() => return Ok(Exit::Failed),
        declared => declared,
    };
    let ready_file = args.ready_file.as_deref();
    assembly::clear_ready_file(ready_file)?;
    let mut set = Set::new();
    assembly::end_on_signals(set.trigger())?;
    let core = Core::new(&args.data_dir)?;
    let data_dir = args.data_dir.join("fly");
    let local = LocalFly::open(&core.clock, data_dir, args.fly_listen, &args.local);
    let controller =
        |set: &mut Set, store: &Store, fly, address| core.controller(set, store, fly, address);
    let Started { addresses, door, backend, exports, controller: _ } =
        start(args, &core, &mut set, local, controller).await?;
    say_where(&addresses, &door, printer);
    if let Some(api) = addresses.api {
        door.say(api, &args.data_dir, (&exports.store, printer)).await?;
    }
    assembly::say_holds(&exports.store, printer).await?;
    let shutdown = set.shutdown();
    let session =
        Session { declared, ready_file, journal: core.journal.clone(), addresses, door, shutdown };
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
pub(super) struct Started<T> {
    pub(super) addresses: Addresses,
    pub(super) door: Door,
    pub(super) backend: Arc<Backend>,
    pub(super) exports: Exports,
    pub(super) controller: T,
}

/// What the manifests say, read before anything starts: a mistake in them should cost nothing.
fn declared(args: &Args, printer: &mut Printer) -> anyhow::Result<Option<Bundle>> {
    if args.files.is_empty() {
        return Ok(None);
    }
    let files = FileArgs::of(&args.files);
    Ok(Some(apply::read(&files, &Connection::to(args.listen), printer)?))
}

/// Starts all parts, the store before all others; the controller as it is told.
pub(super) async fn start<T>(
    args: &Args,
    core: &Core,
    set: &mut Set,
    local: impl Future<Output = anyhow::Result<LocalFly>>,
    controller: impl FnOnce(&mut Set, &Store, Fly, Address) -> anyhow::Result<T>,
) -> anyhow::Result<Started<T>> {
    let store = core.store(&args.data_dir).await?;
    let door = core.door(&args.access, args.listen, &args.data_dir)?;
    if !args.files.is_empty() {
        door.check_own()?;
    }
    let exports = core.exports(set, &store, &args.data_dir);
    let local = local.await?;
    let front_listener = assembly::bind(args.front_listen, "--front-listen").await?;
    let front = front_listener.local_addr()?;
    let sink = Arc::new(IntoStore { store: store.clone(), clock: Arc::clone(&core.clock) });
    let source = Box::new(Local::new(store.clone()));
    let follows = Follows { source, shelf: None, sink };
    let router =
        core.router(set, follows, (args.router_listen, "--router-listen"), &args.domain).await?;
    let fly = local.fly;
    let stand_in = Fly {
        base_url: format!("http://{fly}"),
        token: Token::new(assembly::LOCAL_TOKEN),
        org: assembly::LOCAL_ORG.to_owned(),
        limited: true,
    };
    let address = Address {
        scheme: "http".to_owned(),
        domain: args.domain.clone(),
        port: Some(front.port()).filter(|port| *port != 80),
    };
    let controller = controller(set, &store, stand_in, address)?;
    let reach = Arc::new(Here(Arc::clone(&local.backend)));
    let api = core.api(set, &exports, (args.listen, &door), reach).await?;
    // Last: from here on machines run, and whatever happens must stop them.
    let backend = local.start(set, front_listener, router, Arc::clone(&core.clock));
    let addresses =
        Addresses { api: Some(api), fly: Some(fly), front: Some(front), router: Some(router) };
    Ok(Started { addresses, door, backend, exports, controller })
}

fn say_where(addresses: &Addresses, door: &Door, printer: &mut Printer) {
    let Addresses { api, fly, front, router } = addresses;
    if let Some(api) = api {
        printer.note(format_args!("{:<19} {}", "API", door.url(*api)));
    }
    for (what, address) in [("local Machines API", fly), ("proxy front", front), ("router", router)]
    {
        if let Some(address) = address {
            printer.note(format_args!("{what:<19} http://{address}"));
        }
    }
    printer.note(format_args!("note: {}", assembly::ISOLATION));
}

/// What a person sees of it.
struct Session<'a> {
    declared: Option<Bundle>,
    ready_file: Option<&'a Path>,
    journal: Journal,
    addresses: Addresses,
    door: Door,
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
        let mut log = self.journal.follow(Filter::default(), 0);
        if let Some(bundle) = self.declared.take() {
            let client = self.door.connection(api).client()?;
            let (exit, applied) = apply::declare(&bundle, &client, printer).await?;
            printer.flush()?;
            if exit != Exit::Success {
                return Ok(exit);
            }
            let wanted: Vec<_> =
                applied.into_iter().filter(|it| it.kind == Kind::Environment).collect();
            Settling::default().wait(&client, &wanted, &mut log, printer).await?;
            urls(&client, printer).await?;
        }
        self.addresses.write(self.ready_file)?;
        printer.note("following the reconciliation log; Ctrl-C stops everything");
        printer.flush()?;
        while let Some(line) = log.next().await {
            printer.line(&line)?;
            printer.flush()?;
        }
        Ok(Exit::Success)
    }
}

/// Waits until all environments serve or sleep. The log is shown meanwhile only if that takes long, or does not come without
/// help: otherwise it would hide how far they are.
#[derive(Debug, Default)]
struct Settling {
    /// What was said last of each environment that is not done.
    open: BTreeMap<ObjectRef, String>,
    follows_log: bool,
}

impl Settling {
    async fn wait(
        &mut self,
        client: &Client,
        wanted: &[ObjectRef],
        log: &mut BoxStream<'static, Line>,
        printer: &mut Printer,
    ) -> anyhow::Result<()> {
        let (tell, mut told) = mpsc::unbounded_channel();
        let mut progress = std::pin::pin!(progress::follow(client, wanted, tell));
        let mut late = std::pin::pin!(tokio::time::sleep(LOG_AFTER));
        let mut ended = None;
        loop {
            tokio::select! {
                biased;
                Some(news) = told.recv() => self.hear(news, printer)?,
                outcome = &mut progress, if ended.is_none() => ended = Some(outcome),
                () = &mut late, if !self.follows_log => self.follow_log(printer)?,
                Some(line) = log.next() => {
                    if self.follows_log {
                        printer.line(&line)?;
                        printer.flush()?;
                    }
                }
            }
            if let Some(outcome) = ended.take_if(|_| told.is_empty()) {
                return Ok(outcome?);
            }
        }
    }

    fn hear(&mut self, news: News, printer: &mut Printer) -> anyhow::Result<()> {
        let News { object, word, stands } = news;
        printer.note(format_args!("  {:<20} {word}", object.name));
        match stands {
            Stands::Done => {
                self.open.remove(&object);
            }
            Stands::Open | Stands::InTrouble => {
                self.open.insert(object, word);
            }
        }
        if stands == Stands::InTrouble && !self.follows_log {
            self.follow_log(printer)?;
        }
        Ok(())
    }

    fn follow_log(&mut self, printer: &mut Printer) -> anyhow::Result<()> {
        self.follows_log = true;
        for (object, word) in &self.open {
            printer.note(format_args!("{} is waited for: {word}", targets::label(object)));
        }
        printer.note("following the reconciliation log meanwhile; Ctrl-C stops everything");
        Ok(printer.flush()?)
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
                    table::plain(crate::api::column::at_path(object, path).unwrap_or_default())
                })
                .to_vec()
        })
        .collect();
    for line in table::lines(&["NAMESPACE", "NAME", "PHASE", "URL"], rows) {
        printer.line(line)?;
    }
    Ok(printer.flush()?)
}
