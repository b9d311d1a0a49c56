//! One life of a controller: API, reconciler, router and collector as `hangar serve` has them, over a disk and a Fly that
//! outlive it. It must never do anything that the real process does not.

use std::{fmt, path::Path, sync::Arc};

use tokio::task::JoinSet;

use crate::{
    chance::Chance,
    cli::assembly::{IntoStore, SEALED},
    clock::Clock,
    fly::{
        http::{Config, Http},
        token::Token,
    },
    local::{Backend, InProcess},
    reconcile::{self, Address, calls::Calls},
    router::{
        activity::{Flusher, Seen},
        feed::Feed,
        follow::Local,
        table::Table,
    },
    server::{self, Api, Readiness},
    sim::{
        careless,
        disk::{Disk, Mounted},
        gate::Gate,
        mistakes::Mistake,
        wire::Wire,
    },
    store::{backup::Backups, crypt::Cipher, handle::Store},
    tasks::{self, Trigger},
    telemetry::{journal::Journal, metrics::Metrics},
};

/// The organisation, the domain and the key of every simulated controller.
pub(crate) const ORG: &str = "personal";
const DOMAIN: &str = "dev.example.com";
const SECRET_KEY: &str = "a passphrase that every life of this controller is given";
const TOKEN: &str = "fm2_simulated_organisation_token";

/// A controller that runs.
pub(crate) struct Life {
    pub(crate) gate: Arc<Gate>,
    pub(crate) api: Api,
    pub(crate) table: Arc<Table>,
    pub(crate) seen: Arc<Seen>,
    pub(crate) journal: Journal,
    pub(crate) metrics: Metrics,
    tasks: JoinSet<anyhow::Result<()>>,
    trigger: Trigger,
}

/// What a life begins with.
#[derive(Debug, Clone)]
pub(crate) struct Birth {
    pub(crate) disk: Arc<Disk>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) fly: Arc<Backend>,
    pub(crate) wire: Arc<Wire>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) chance: Arc<dyn Chance>,
    pub(crate) plant: Option<Mistake>,
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Life").field("gate", &self.gate).finish_non_exhaustive()
    }
}

impl Life {
    /// Starts everything.
    ///
    /// # Errors
    /// What keeps the real process from starting.
    pub(crate) async fn begin(birth: Birth) -> anyhow::Result<Self> {
        let Birth { disk, gate, fly, wire, clock, chance, plant } = birth;
        let (trigger, shutdown) = tasks::shutdown();
        let (journal, metrics) = (Journal::in_memory(), Metrics::new());
        let mounted = Arc::new(Mounted::new(disk, Arc::clone(&gate)));
        let mounted = careless::store(plant, mounted, Arc::clone(&clock));
        let store = Store::new(mounted, Cipher::from_text(SECRET_KEY)?, SEALED);
        server::bootstrap(&store, &*clock, &*chance).await?;
        let parts = server::Parts {
            store: store.clone(),
            clock: Arc::clone(&clock),
            chance: Arc::clone(&chance),
            journal: journal.clone(),
            metrics: metrics.clone(),
            readiness: Readiness::default(),
            // Nobody asks for an export here; one could not be written.
            backups: Backups::in_dir(Path::new("/dev/null")),
            reach: Arc::new(server::reach::Nowhere),
        };
        let api = Api::in_process(parts, shutdown.clone()).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(server::collect::run(store.clone(), Arc::clone(&clock), shutdown.clone()));
        let seen = Arc::new(Seen::new(Arc::clone(&clock)));
        let feed = Feed::new(Arc::clone(&seen));
        let (table, index) = (feed.table(), feed.index());
        let sink = Arc::new(IntoStore { store: store.clone(), clock: Arc::clone(&clock) });
        let source = careless::source(plant, Box::new(Local::new(store.clone())));
        tasks.spawn(feed.run(source, None, shutdown.clone()));
        tasks.spawn(Flusher::new(Arc::clone(&seen), index, sink).run(shutdown.clone()));
        let calls = Calls::new(Arc::clone(&clock), journal.clone(), metrics.clone());
        let config = Config::new("http://fly.invalid", Token::new(TOKEN));
        let carrier = Arc::new(InProcess::new(fly, &config.token, wire)?);
        let carrier = careless::transport(plant, carrier, Arc::clone(&clock), journal.clone());
        let fly = Http::over(carrier, config, Arc::clone(&clock), Arc::new(calls.clone()))?;
        let parts = reconcile::Parts {
            store,
            spare_fly: Arc::new(fly.giving_way()),
            fly: Arc::new(fly),
            org: ORG.to_owned(),
            address: Address { scheme: "https".to_owned(), domain: DOMAIN.to_owned(), port: None },
            clock,
            chance,
            journal: journal.clone(),
            metrics: metrics.clone(),
            calls,
        };
        tasks.spawn(reconcile::run(parts, || {}, shutdown));
        Ok(Self { gate, api, table, seen, journal, metrics, tasks, trigger })
    }

    /// Ends it as `kill -9` does: nothing more is written, sent or answered.
    pub(crate) async fn kill(mut self) {
        self.gate.kill();
        self.tasks.shutdown().await;
    }

    /// Ends it as a signal does.
    ///
    /// # Errors
    /// What a part ended with.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.trigger.shut_down();
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(())
    }

    /// A part that ended although nobody asked it to.
    pub(crate) fn failed(&mut self) -> Option<String> {
        match self.tasks.try_join_next()? {
            Ok(Ok(())) => Some("a part of the controller ended".to_owned()),
            Ok(Err(error)) => Some(format!("a part of the controller failed: {error:#}")),
            Err(died) => Some(format!("a part of the controller died: {died}")),
        }
    }
}
