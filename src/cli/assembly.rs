//! The parts that the server commands are put together from: each function starts one part in a task set and says where it
//! listens. It must never hold a rule of its own.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use futures::{FutureExt as _, future::BoxFuture};
use serde::Serialize;

use crate::{
    api::{
        activity::{Report, SeenRequest, WantedLook},
        hold::HoldReason,
    },
    chance::{self, Chance},
    cli::{
        access::{self, Door},
        data_dir,
        exports::{self, Exports},
        failure::Failure,
        printer::Printer,
    },
    clock::{self, Clock},
    failpoint,
    fly::{
        Machines,
        http::{Config as FlyConfig, Http},
        token::Token,
    },
    local::{self, Backend, driver::Driver, front, norun::NoRun, process::Process},
    net,
    reconcile::{self, Address, calls::Calls, holds},
    router::{
        activity::{Activity, ActivitySink, Flusher, Seen, SinkError},
        feed::{Feed, Source},
        head::Place,
        index::Owner,
        saved::Shelf,
        serve::{Observer, Router},
        table::Table,
    },
    server::{self, Readiness, Server, reach::Reach, record_activity},
    store::{
        self,
        crypt::Cipher,
        handle::Store,
        sled::{Opened, Sled},
    },
    tasks::{Set, Shutdown, Trigger},
    telemetry::{journal::Journal, metrics::Metrics},
};

/// How long everything may take to end.
pub(super) const DRAIN: Duration = Duration::from_secs(10);
/// Prefixes of keys whose values are encrypted where they are stored.
pub(crate) const SEALED: &[&str] = &["secrets/"];

/// The key of the stored Secrets, if there is one yet.
pub(super) fn known_cipher(data_dir: &Path) -> anyhow::Result<Option<Cipher>> {
    if let Some(text) = std::env::var("HANGAR_SECRET_KEY").ok().filter(|it| !it.is_empty()) {
        return Ok(Some(Cipher::from_text(&text).context("HANGAR_SECRET_KEY cannot be used")?));
    }
    let file = data_dir.join(data_dir::SECRET_KEY);
    Ok(if file.exists() { Some(Cipher::from_file(&file)?) } else { None })
}

/// Says what is held back, to whoever starts it.
pub(super) async fn say_holds(store: &Store, printer: &mut Printer) -> anyhow::Result<()> {
    for hold in holds::all(store).await? {
        let (name, message) = (&hold.metadata.name, &hold.spec.message);
        printer.note(format_args!(
            "hold {name}: {message}; nothing is destroyed at Fly until `hangar resume`"
        ));
    }
    Ok(())
}

/// Where the parts of a process listen; what `--ready-file` gets.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Addresses {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) api: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fly: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) front: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) router: Option<SocketAddr>,
}

impl Addresses {
    /// Writes the file in one step, so that whoever waits for it never reads half of it.
    pub(super) fn write(&self, path: Option<&Path>) -> anyhow::Result<()> {
        let Some(path) = path else { return Ok(()) };
        let partial = partial(path);
        let bytes = serde_json::to_vec(self)?;
        let written = fs::write(&partial, bytes).and_then(|()| fs::rename(&partial, path));
        written.with_context(|| cannot_write(path))
    }
}

/// Removes the ready file of an earlier start, which whoever waits for it would believe, and finds out whether a new one can be
/// written, while nothing runs yet.
pub(super) fn clear_ready_file(path: Option<&Path>) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    let partial = partial(path);
    let removed = match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    removed
        .and_then(|()| fs::write(&partial, ""))
        .and_then(|()| fs::remove_file(&partial))
        .with_context(|| cannot_write(path))
}

fn partial(path: &Path) -> PathBuf {
    path.with_extension("partial")
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write the ready file {}", path.display())
}

/// What every part needs.
#[derive(Debug, Clone)]
pub(super) struct Core {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) chance: Arc<dyn Chance>,
    pub(super) journal: Journal,
    pub(super) metrics: Metrics,
    pub(super) readiness: Readiness,
}

impl Core {
    pub(super) fn new(data_dir: &Path) -> anyhow::Result<Self> {
        let logs = data_dir.join("log");
        fs::create_dir_all(&logs)
            .with_context(|| format!("cannot make the data directory {}", data_dir.display()))?;
        let journal = Journal::in_dir(&logs)
            .with_context(|| format!("cannot open the log in {}", data_dir.display()))?;
        Ok(Self {
            clock: clock::System::shared(),
            chance: chance::System::shared(),
            journal,
            metrics: Metrics::new(),
            readiness: Readiness::default(),
        })
    }

    /// Opens the store of the data directory.
    pub(super) async fn store(&self, data_dir: &Path) -> anyhow::Result<Store> {
        let lost = data_dir::lost(data_dir)?;
        let sled = Sled::open(data_dir.join(data_dir::STORE)).await;
        let sled = sled.map_err(|error| data_dir::cannot_open(error, data_dir))?;
        let is_new = sled.opened() == Opened::Fresh;
        let cipher = match known_cipher(data_dir)? {
            Some(cipher) => cipher,
            None => Cipher::from_file(&data_dir.join(data_dir::SECRET_KEY))?,
        };
        let metrics = self.metrics.clone();
        let observer = Arc::new(move |took| metrics.store_commit(took));
        let sled = failpoint::around_commits(Arc::new(sled));
        let store = Store::new(sled, cipher, SEALED).observed(Arc::clone(&self.clock), observer);
        store.verify().await.map_err(|error| wrong_key(&error, data_dir))?;
        if let Some(why) = lost.filter(|_| is_new) {
            // The first commit of all: after any other the store would not be new.
            holds::raise(&store, HoldReason::OpenedEmpty, &why, (self.clock.now(), &*self.chance))
                .await?;
        }
        server::bootstrap(&store, &*self.clock, &*self.chance).await?;
        data_dir::remember(data_dir, &reconcile::instance(&store, &*self.chance).await?)?;
        data_dir::keep_room(data_dir);
        Ok(store)
    }

    /// Exports of the store, from now on every hour.
    pub(super) fn exports(&self, set: &mut Set, store: &Store, data_dir: &Path) -> Exports {
        let exports = Exports {
            store: store.clone(),
            backups: exports::of(data_dir),
            clock: Arc::clone(&self.clock),
            metrics: self.metrics.clone(),
        };
        set.spawn("the exports", exports.clone().run(set.shutdown()));
        exports
    }

    /// Who the API lets in.
    pub(super) fn door(
        &self,
        args: &access::AccessArgs,
        listen: SocketAddr,
        data_dir: &Path,
    ) -> anyhow::Result<Door> {
        args.open(listen, data_dir, (self.clock.now(), &*self.chance))
    }

    /// The API server and its cleaning up.
    pub(super) async fn api(
        &self,
        set: &mut Set,
        exports: &Exports,
        (listen, door): (SocketAddr, &Door),
        reach: Arc<dyn Reach>,
    ) -> anyhow::Result<SocketAddr> {
        let Exports { store, backups, .. } = exports;
        let (access, audit) = (door.access.clone(), door.audit.clone());
        let config = server::Config { listen, access, audit };
        let parts = server::Parts {
            store: store.clone(),
            clock: Arc::clone(&self.clock),
            chance: Arc::clone(&self.chance),
            journal: self.journal.clone(),
            metrics: self.metrics.clone(),
            readiness: self.readiness.clone(),
            backups: backups.clone(),
            reach,
        };
        let server = Server::bind(config, parts).await.map_err(|error| match error {
            server::Error::Listen(error) => taken(&error, "--listen").into(),
            other => anyhow::Error::new(other),
        })?;
        let address = server.address();
        set.spawn("the API server", server.serve(set.shutdown()));
        let collect = server::collect::run(store.clone(), Arc::clone(&self.clock), set.shutdown());
        set.spawn("the collector", collect);
        Ok(address)
    }

    /// The controller, against the Machines API at this address; the same client is for others to use.
    pub(super) fn controller(
        &self,
        set: &mut Set,
        store: &Store,
        fly: Fly,
        address: Address,
    ) -> anyhow::Result<Arc<dyn Machines>> {
        let calls = Calls::new(Arc::clone(&self.clock), self.journal.clone(), self.metrics.clone());
        let config = FlyConfig { limited: fly.limited, ..FlyConfig::new(&fly.base_url, fly.token) };
        let http = Http::new(config, Arc::clone(&self.clock), Arc::new(calls.clone()))?
            .carried(failpoint::around_calls);
        let parts = reconcile::Parts {
            store: store.clone(),
            spare_fly: Arc::new(http.giving_way()),
            fly: Arc::new(http.clone()),
            org: fly.org,
            address,
            clock: Arc::clone(&self.clock),
            chance: Arc::clone(&self.chance),
            journal: self.journal.clone(),
            metrics: self.metrics.clone(),
            calls,
        };
        let gate = self.readiness.gate("controller");
        let shutdown = set.shutdown();
        set.spawn("the controller", reconcile::run(parts, move || gate.open(), shutdown));
        Ok(Arc::new(http))
    }

    /// A router that follows a source; with its address the flag that gave it.
    pub(super) async fn router(
        &self,
        set: &mut Set,
        follows: Follows,
        (listen, flag): (SocketAddr, &'static str),
        domain: &str,
    ) -> anyhow::Result<SocketAddr> {
        let machine = std::env::var("FLY_MACHINE_ID").ok();
        let place = Arc::new(Place::new(domain, machine.as_deref())?);
        let seen = Arc::new(Seen::new(Arc::clone(&self.clock)));
        let feed = Feed::new(Arc::clone(&seen));
        let (table, index) = (feed.table(), feed.index());
        if let Some(shelf) = &follows.shelf {
            let known = shelf.load(&mut index.lock().unwrap_or_else(PoisonError::into_inner))?;
            tracing::info!(known, "hostnames from the router's own copy of its table");
        }
        let flusher = Flusher::new(Arc::clone(&seen), index, follows.sink);
        let listener = bind(listen, flag).await?;
        let address = listener.local_addr()?;
        set.spawn("the router's gauge", self.clone().gauge(Arc::clone(&table), set.shutdown()));
        let router =
            Router { table, seen, place, observer: Arc::new(Replies(self.metrics.clone())) };
        set.spawn("the router's feed", feed.run(follows.source, follows.shelf, set.shutdown()));
        set.spawn("the router's activity", flusher.run(set.shutdown()));
        let serving = crate::router::serve::serve(
            listener,
            net::Limits::default(),
            DRAIN / 2,
            set.shutdown(),
            router,
        );
        set.spawn("the router", serving);
        Ok(address)
    }
}

/// The secrets are there, and the key is another one.
fn wrong_key(error: &store::Error, data_dir: &Path) -> Failure {
    let file = data_dir.join(data_dir::SECRET_KEY);
    let hint = if std::env::var("HANGAR_SECRET_KEY").is_ok_and(|it| !it.is_empty()) {
        format!(
            "set HANGAR_SECRET_KEY to the key of before; without it, {} is the key",
            file.display()
        )
    } else {
        format!(
            "{} is not the key of before: put that one back, or set HANGAR_SECRET_KEY if it was set then",
            file.display()
        )
    };
    let error = crate::retry::chain(error);
    Failure::hinted(format!("the secrets cannot be read with this key: {error}"), hint)
}

/// Binds the address that a flag gave.
pub(super) async fn bind(
    address: SocketAddr,
    flag: &'static str,
) -> Result<tokio::net::TcpListener, Failure> {
    net::bind(address).await.map_err(|error| taken(&error, flag))
}

fn taken(error: &io::Error, flag: &'static str) -> Failure {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => "another program has it; choose another address with",
        io::ErrorKind::PermissionDenied => "ports below 1024 are for root; choose another with",
        _ => "choose another address with",
    };
    Failure::hinted(error.to_string(), format!("{hint} {flag}"))
}

impl Core {
    /// Counts routes, and says when the router has read its first ones.
    async fn gauge(self, table: Arc<Table>, mut shutdown: Shutdown) -> anyhow::Result<()> {
        let gate = self.readiness.gate("router");
        loop {
            self.metrics.routes(table.len());
            if table.ready() {
                gate.open();
            }
            tokio::select! {
                () = shutdown.wait() => return Ok(()),
                () = tokio::time::sleep(Duration::from_millis(500)) => {}
            }
        }
    }
}

/// Which Fly.
#[derive(Debug)]
pub(super) struct Fly {
    pub(super) base_url: String,
    pub(super) token: Token,
    pub(super) org: String,
    /// Whether its rate limits are kept.
    pub(super) limited: bool,
}

/// Whom a router follows, where it keeps its table, and whom it tells.
pub(super) struct Follows {
    pub(super) source: Box<dyn Source>,
    pub(super) shelf: Option<Shelf>,
    pub(super) sink: Arc<dyn ActivitySink>,
}

/// Counts a router's replies.
#[derive(Debug)]
struct Replies(Metrics);

impl Observer for Replies {
    fn on_reply(&self, decision: &'static str) {
        self.0.router_reply(decision);
    }
}

/// Takes a router's word straight into the store of this process.
pub(crate) struct IntoStore {
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
}

impl IntoStore {
    async fn take(&self, report: Report) -> Result<(), SinkError> {
        record_activity(&self.store, report, self.clock.now()).await.map_err(SinkError::from)
    }
}

impl ActivitySink for IntoStore {
    fn record(&self, batch: Vec<Activity>) -> BoxFuture<'_, Result<(), SinkError>> {
        self.take(requests(batch)).boxed()
    }

    fn nudge(&self, environments: Vec<Owner>) -> BoxFuture<'_, Result<(), SinkError>> {
        self.take(nudges(environments)).boxed()
    }
}

/// A batch as the API takes it.
pub(super) fn requests(batch: Vec<Activity>) -> Report {
    let requests = batch
        .into_iter()
        .map(|it| SeenRequest {
            namespace: it.owner.namespace.to_string(),
            name: it.owner.name.to_string(),
            uid: it.owner.uid.to_string(),
            at_ms: it.at_unix_ms,
        })
        .collect();
    Report { requests, nudges: Vec::new() }
}

/// Nudges as the API takes them.
pub(super) fn nudges(environments: Vec<Owner>) -> Report {
    let nudges = environments
        .into_iter()
        .map(|it| WantedLook {
            namespace: it.namespace.to_string(),
            name: it.name.to_string(),
            uid: it.uid.to_string(),
        })
        .collect();
    Report { requests: Vec::new(), nudges }
}

/// What the stand-in for Fly is told beside its addresses.
#[derive(Debug, clap::Args)]
pub struct LocalArgs {
    /// Start no programs: machines are only pretended
    #[arg(long, env = "HANGAR_NO_RUN")]
    pub no_run: bool,
    /// Let --fly-listen be an address that others reach. It believes any token: whoever reaches it runs programs as this user
    #[arg(long, env = "HANGAR_INSECURE")]
    pub insecure: bool,
    /// Faults on purpose, as YAML: the stand-in fails as Fly was seen to fail (docs/fly.md)
    #[arg(long, env = "HANGAR_FAULTS", value_name = "FILE")]
    pub faults: Option<PathBuf>,
}

impl LocalArgs {
    fn rules(&self) -> anyhow::Result<Vec<local::faults::Rule>> {
        let Some(path) = &self.faults else { return Ok(Vec::new()) };
        let cannot = || format!("cannot use the faults in {}", path.display());
        let text = std::fs::read(path).with_context(cannot)?;
        local::faults::read(&text).with_context(cannot)
    }
}

/// The stand-in for Fly.
pub(super) struct LocalFly {
    pub(super) backend: Arc<Backend>,
    pub(super) fly: SocketAddr,
    listener: tokio::net::TcpListener,
}

/// The organisation of the stand-in.
pub(super) const LOCAL_ORG: &str = "personal";
/// The token that `up` shows the stand-in, which believes any.
pub(super) const LOCAL_TOKEN: &str = "local";

impl LocalFly {
    /// Opens the backend and takes its address, which only this computer may reach unless `insecure`.
    pub(super) async fn open(
        clock: &Arc<dyn Clock>,
        data_dir: PathBuf,
        listen: SocketAddr,
        settings: &LocalArgs,
    ) -> anyhow::Result<Self> {
        if !listen.ip().is_loopback() && !settings.insecure {
            let message = format!(
                "refusing to listen on {listen}: any token is believed there, so whoever reaches it runs programs as this user"
            );
            return Err(Failure::hinted(message, INSECURE).into());
        }
        let driver = Self::driver(&data_dir, settings.no_run)?;
        let config = Self::config(data_dir, settings.no_run);
        let this = Self::over(config, driver, clock, listen).await?;
        for rule in settings.rules()? {
            this.backend.faults().add(rule)?;
        }
        Ok(this)
    }

    /// What runs the machines of this directory, or pretends to.
    pub(super) fn driver(data_dir: &Path, no_run: bool) -> anyhow::Result<Arc<dyn Driver>> {
        Ok(if no_run {
            Arc::new(NoRun::new())
        } else {
            Arc::new(Process::with_this_program(&data_dir.join("machines"))?)
        })
    }

    /// The usual settings: one organisation, room in every region of Fly's.
    pub(super) fn config(data_dir: PathBuf, no_run: bool) -> local::Config {
        let mut config = local::Config::new(data_dir);
        config.regions = crate::api::name::REGIONS.iter().map(|it| (*it).to_owned()).collect();
        config.no_run = no_run;
        config
    }

    /// The same over a driver of one's own.
    pub(super) async fn over(
        config: local::Config,
        driver: Arc<dyn Driver>,
        clock: &Arc<dyn Clock>,
        listen: SocketAddr,
    ) -> anyhow::Result<Self> {
        let backend = Backend::open(config, driver, (Arc::clone(clock), chance::System::shared()))?;
        let listener = bind(listen, "--fly-listen").await?;
        let fly = listener.local_addr()?;
        Ok(Self { backend, fly, listener })
    }

    /// Starts the Machines API, the machines' supervision and the proxy front.
    pub(super) fn start(
        self,
        set: &mut Set,
        front_listener: tokio::net::TcpListener,
        upstream: SocketAddr,
        clock: Arc<dyn Clock>,
    ) -> Arc<Backend> {
        let Self { backend, listener, .. } = self;
        set.spawn("the machines", Arc::clone(&backend).run(set.shutdown()));
        let api = local::serve(Arc::clone(&backend), listener, set.shutdown());
        set.spawn("the local Machines API", api);
        let config = front::Config::new(upstream);
        let fleet = Arc::clone(&backend);
        let served = front::serve(front_listener, config, fleet, clock, set.shutdown());
        set.spawn("the local proxy front", served);
        backend
    }
}

/// Whoever ends a process may signal it and its group, or a terminal and a supervisor both do: those are one request.
const ONE_REQUEST: Duration = Duration::from_secs(1);

/// Asks for shutdown at SIGINT or SIGTERM; a second one ends the process at once and leaves its machines running.
pub(super) fn end_on_signals(trigger: Trigger) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    crate::tasks::detached(async move {
        for first in [true, false] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            trigger.shut_down();
            if !first {
                end_now();
            }
            tokio::time::sleep(ONE_REQUEST).await;
            let _same = (interrupt.recv().now_or_never(), terminate.recv().now_or_never());
        }
    });
    Ok(())
}

#[expect(clippy::exit, reason = "somebody asked twice")]
fn end_now() {
    std::process::exit(130);
}

const INSECURE: &str = "let --fly-listen be a loopback address, or say --insecure if everybody who reaches it may do that";

/// What must be said wherever machines run without walls between them.
pub(super) const ISOLATION: &str = "machines run as plain processes of this user: no isolation at all between environments, \
or between them and this computer. For trying things out and for tests, never for other people's code";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_file_of_an_earlier_start_goes_and_one_that_cannot_be_written_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ready.json");
        clear_ready_file(Some(&file)).unwrap();
        Addresses::default().write(Some(&file)).unwrap();
        clear_ready_file(Some(&file)).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let error = clear_ready_file(Some(&dir.path().join("missing/ready.json"))).unwrap_err();
        assert!(error.to_string().starts_with("cannot write the ready file "), "{error}");
    }
}
