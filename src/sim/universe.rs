//! One world: a Fly, a disk and whichever life of the controller is under way, on the runtime's paused time. It must never
//! judge what happens: the oracle does. What people do in it is in [`user`].

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use crate::{
    chance::{self, Chance, Seeded},
    clock::{Clock, Paused, Timestamp},
    local::{Backend, Config, Keep, Timings, census::Census, norun::NoRun},
    sim::{
        careless,
        chronicle::Chronicle,
        disk::Disk,
        gate::{Gate, Strikes},
        life::{Birth, Life, ORG},
        mistakes::Mistake,
        oracle::Oracle,
        wire::Wire,
    },
    store::Txn,
    tasks::{self, Trigger},
    telemetry::journal::Filter,
};

mod user;

pub(crate) use self::user::ENVIRONMENTS;
pub use self::user::{environment, pool, template};

/// When every course begins.
const START: &str = "2026-09-01T00:00:00Z";

/// What a course is given.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The one source of chance.
    pub seed: u64,
    /// Where the controller dies.
    pub strikes: Arc<Strikes>,
    /// Texts that nobody but their object may hold.
    pub canaries: Vec<String>,
    /// What the controller does wrong.
    pub plant: Option<Mistake>,
}

/// What came of a course.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Rules that were broken.
    pub violations: Vec<String>,
    /// What was made, changed and destroyed, by environment.
    pub counts: BTreeMap<(String, &'static str), u64>,
    /// What there is, by environment, without ids and times.
    pub summary: BTreeMap<String, String>,
    /// Calls by name.
    pub calls: BTreeMap<&'static str, u64>,
    /// Calls that change something.
    pub writes: u64,
    /// The same, by environment.
    pub writes_by: BTreeMap<String, u64>,
    /// Commits that became durable.
    pub commits: u64,
    /// Calls that Fly refused for their number.
    pub rate_limited: u64,
    /// A hash of all that happened.
    pub hash: String,
    /// The last lines of what happened.
    pub lines: Vec<String>,
}

/// A world.
#[derive(Debug)]
pub struct Universe {
    clock: Arc<dyn Clock>,
    chance: Arc<dyn Chance>,
    fly: Arc<Backend>,
    driver: Arc<NoRun>,
    disk: Arc<Disk>,
    oracle: Arc<Oracle>,
    chronicle: Arc<Chronicle>,
    setup: Setup,
    life: Option<Life>,
    lives: u64,
    _fly_runs: Trigger,
}

impl Universe {
    /// A world in which nothing happened yet. Must be called on a runtime of one thread whose time is paused.
    ///
    /// # Errors
    /// What keeps hangar from starting.
    pub async fn begin(setup: Setup) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(Paused::at(START.parse()?));
        let chance = |name: &str| -> Arc<dyn Chance> { Arc::new(Seeded::new(setup.seed, name)) };
        let mut config = Config::new(PathBuf::new());
        config.orgs = vec![ORG.to_owned()];
        config.keep = Keep::Nothing;
        config.no_run = true;
        config.timings = Timings { prepare: Duration::from_secs(2), ..Timings::as_on_fly() };
        let driver = Arc::new(NoRun::new());
        let fly =
            Backend::open(config, Arc::clone(&driver) as _, (Arc::clone(&clock), chance("fly")))?;
        let (fly_runs, shutdown) = tasks::shutdown();
        let running = Arc::clone(&fly);
        tasks::detached(async move {
            // It ends with the course.
            let _ended = running.run(shutdown).await;
        });
        let chronicle = Arc::new(Chronicle::new());
        let oracle = Oracle::new(
            (Arc::clone(&fly), Arc::clone(&driver)),
            Arc::clone(&clock),
            Arc::clone(&chronicle),
            setup.canaries.clone(),
        );
        let watcher = Arc::clone(&oracle);
        let unsynced = careless::unsynced(setup.plant);
        let watcher = Arc::new(move |txn: &Txn| watcher.committed(txn));
        let disk = Disk::new(chance("disk"), watcher, unsynced);
        let mut universe = Self {
            clock,
            chance: chance("user"),
            fly,
            driver,
            disk,
            oracle,
            chronicle,
            setup,
            life: None,
            lives: 0,
            _fly_runs: fly_runs,
        };
        universe.wake_controller().await?;
        Ok(universe)
    }

    /// What the course's user, and whatever else is free, decides by.
    #[must_use]
    pub fn chance(&self) -> &dyn Chance {
        &*self.chance
    }

    /// A number below `limit`.
    #[must_use]
    pub fn draw(&self, limit: u64) -> u64 {
        chance::below(&*self.chance, limit)
    }

    /// The course's time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Fly.
    #[must_use]
    pub fn fly(&self) -> &Arc<Backend> {
        &self.fly
    }

    /// What ends programs.
    #[must_use]
    pub fn driver(&self) -> &Arc<NoRun> {
        &self.driver
    }

    pub(crate) fn tell(&self, what: std::fmt::Arguments<'_>) {
        self.chronicle.tell(self.clock.now(), what);
    }

    /// What there really is at Fly.
    #[must_use]
    pub fn census(&self) -> Census {
        self.fly.census()
    }

    /// How often the controller was started.
    #[must_use]
    pub fn lives(&self) -> u64 {
        self.lives
    }

    async fn wake_controller(&mut self) -> anyhow::Result<()> {
        // A life may end before it has begun.
        loop {
            self.lives += 1;
            let gate = Gate::new(Arc::clone(&self.setup.strikes));
            let name = format!("controller {}", self.lives);
            let birth = Birth {
                disk: Arc::clone(&self.disk),
                fly: Arc::clone(&self.fly),
                wire: Arc::new(Wire {
                    gate: Arc::clone(&gate),
                    listener: Arc::clone(&self.oracle) as _,
                }),
                gate: Arc::clone(&gate),
                clock: Arc::clone(&self.clock),
                chance: Arc::new(Seeded::new(self.setup.seed, &name)),
                plant: self.setup.plant,
            };
            tokio::select! {
                biased;
                () = gate.struck() => {}
                life = Life::begin(birth) => {
                    let life = life?;
                    self.oracle.routes(Some(Arc::clone(&life.table)));
                    self.life = Some(life);
                    self.tell(format_args!("the controller starts"));
                    return Ok(());
                }
            }
            self.cut().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn cut(&self) {
        self.disk.cut().await;
        self.oracle.kept(&self.disk.all().await);
    }

    /// Ends the controller as a power cut does.
    pub async fn crash(&mut self) {
        let Some(life) = self.life.take() else { return };
        self.tell(format_args!("the controller dies"));
        self.oracle.routes(None);
        self.read_logs(&life);
        life.kill().await;
        self.cut().await;
    }

    /// Ends the controller as a signal does, and starts it again.
    ///
    /// # Errors
    /// What a part of it ended with, and what keeps it from starting.
    pub async fn stop_and_restart(&mut self) -> anyhow::Result<()> {
        let Some(life) = self.life.take() else { return Ok(()) };
        let gate = Arc::clone(&life.gate);
        self.read_logs(&life);
        tokio::select! {
            biased;
            () = gate.struck() => self.cut().await,
            stopped = life.stop() => stopped?,
        }
        self.oracle.routes(None);
        self.tell(format_args!("the controller was stopped"));
        self.wake_controller().await
    }

    /// Everything that a life told others must be free of secrets.
    fn read_logs(&self, life: &Life) {
        for line in life.journal.recent(&Filter::default(), usize::MAX) {
            self.oracle.read("the reconciliation log", &line.to_string());
        }
        self.oracle.read("the metrics", &life.metrics.render());
    }

    /// Ends the controller as a power cut does, and starts it again after a while.
    ///
    /// # Errors
    /// What keeps it from starting.
    pub async fn crash_and_restart(&mut self, after: Duration) -> anyhow::Result<()> {
        self.crash().await;
        tokio::time::sleep(after).await;
        self.wake_controller().await
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// When the controller fails, which a power cut is not.
    pub async fn pass(&mut self, time: Duration) -> anyhow::Result<()> {
        let until = tokio::time::Instant::now() + time;
        loop {
            let Some(life) = &mut self.life else {
                tokio::time::sleep_until(until).await;
                return Ok(());
            };
            if let Some(failed) = life.failed() {
                anyhow::bail!(failed);
            }
            let gate = Arc::clone(&life.gate);
            tokio::select! {
                biased;
                () = gate.struck() => self.crash_and_restart(Duration::from_secs(1)).await?,
                () = tokio::time::sleep_until(until) => return Ok(()),
            }
        }
    }

    /// Passes time until no environment waits for anything, nothing was written and no call changed anything for `quiet`, at
    /// most for `limit`. Says how long
    /// it took until the last change; `None` when it did not come to rest.
    ///
    /// # Errors
    /// As [`Self::pass`].
    pub async fn rest(
        &mut self,
        quiet: Duration,
        limit: Duration,
    ) -> anyhow::Result<Option<Duration>> {
        let start = tokio::time::Instant::now();
        let mut last = (self.oracle.totals(), start);
        loop {
            self.pass(Duration::from_secs(5)).await?;
            let (totals, now) = (self.oracle.totals(), tokio::time::Instant::now());
            if (totals.0, totals.1) != (last.0.0, last.0.1) || self.oracle.is_waiting() {
                last = (totals, now);
            } else if now - last.1 >= quiet && self.oracle.is_settled() {
                return Ok(Some(last.1 - start));
            }
            if now - start >= limit {
                return Ok(None);
            }
        }
    }

    /// What happens to the data in this app from now on is not hangar's doing. Gives the environment it belongs to.
    pub fn excuse(&self, app: &str) -> Option<String> {
        self.oracle.excuse(app)
    }

    /// Apps that were made for an environment of this name.
    #[must_use]
    pub fn apps_of(&self, environment: &str) -> Vec<String> {
        self.oracle.apps_of(environment)
    }

    /// The environment that an app was made for.
    #[must_use]
    pub fn whose(&self, app: &str) -> Option<String> {
        self.oracle.whose(app)
    }

    /// Checks what must hold when all is quiet.
    pub fn finish(&self) {
        self.oracle.rest();
        if let Some(life) = &self.life {
            self.read_logs(life);
        }
    }

    /// What came of it.
    #[must_use]
    pub fn report(&self) -> Report {
        let (writes, commits, rate_limited) = self.oracle.totals();
        Report {
            violations: self.oracle.violations(),
            counts: self.oracle.counts(),
            summary: self.oracle.summary(),
            calls: self.oracle.calls(),
            writes,
            writes_by: self.oracle.writes_by(),
            commits,
            rate_limited,
            hash: self.chronicle.hash(),
            lines: self.chronicle.lines(),
        }
    }
}
