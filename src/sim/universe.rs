//! One world: a Fly, a disk, a user and whichever life of the controller is under way, on the runtime's paused time. It must
//! never judge what happens: the oracle does.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};

use crate::{
    chance::{self, Chance, Seeded},
    clock::{Clock, Paused, Timestamp},
    local::{
        Backend, Config, Delivered, Keep, Timings, census::Census, fleet::Fleet as _, norun::NoRun,
    },
    router::{
        decide::{Decision, decide},
        head::{Head, Replayed},
        packed::Label,
    },
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

/// When every course begins.
const START: &str = "2026-09-01T00:00:00Z";
/// How often somebody else tries a call.
const MEDDLES_MAX: u32 = 200;
/// How long a request of the user may take.
const PATIENCE: Duration = Duration::from_secs(60);

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
            Arc::clone(&fly),
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

    /// Changes a template.
    ///
    /// # Errors
    /// As [`Self::ask`], and when the API refuses.
    pub async fn change_template(&mut self, name: &str, spec: &Value) -> anyhow::Result<()> {
        let path = format!("{}/{name}", ENVIRONMENTS.replace("environments", "templates"));
        let (status, answer) = self.ask(Method::PATCH, &path, &json!({"spec": spec})).await?;
        anyhow::ensure!(status.is_success(), "{status}: {answer}");
        Ok(())
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

    /// Asks the API, again after each crash, until there is an answer.
    ///
    /// # Errors
    /// As [`Self::pass`], and when there is no answer for a minute.
    pub async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<(StatusCode, Value)> {
        loop {
            let Some(life) = &self.life else { anyhow::bail!("there is no controller to ask") };
            let (api, gate) = (life.api.clone(), Arc::clone(&life.gate));
            let media = if method == Method::PATCH {
                "application/merge-patch+json"
            } else {
                "application/json"
            };
            let bytes = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
            let request = Request::builder()
                .method(method.clone())
                .uri(path)
                .header(header::HOST, "localhost")
                .header(header::CONTENT_TYPE, media)
                .body(Full::new(bytes))?;
            let answered = async {
                let response = api.answer(request).await;
                let status = response.status();
                let body = response.into_body().collect().await?.to_bytes();
                anyhow::Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
            };
            tokio::select! {
                biased;
                () = gate.struck() => {}
                answer = tokio::time::timeout(PATIENCE, answered) => {
                    let (status, body) = answer??;
                    self.tell(format_args!("user {method} {path} -> {}", status.as_u16()));
                    self.oracle.read("an answer of the API", &public(path, &body));
                    return Ok((status, body));
                }
            }
            self.crash_and_restart(Duration::from_secs(1)).await?;
        }
    }

    /// Makes an object, or merges it into the one that is there.
    ///
    /// # Errors
    /// As [`Self::ask`], and when the API refuses.
    pub async fn apply(&mut self, object: &Value) -> anyhow::Result<()> {
        let collection = collection(object)?;
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        loop {
            let (status, answer) = self.ask(Method::POST, &collection, object).await?;
            if status.is_success() {
                return Ok(());
            }
            anyhow::ensure!(status == StatusCode::CONFLICT, "{status}: {answer}");
            let one = format!("{collection}/{name}");
            let (status, answer) = self.ask(Method::PATCH, &one, object).await?;
            match status {
                // It went meanwhile, or it was changed meanwhile.
                StatusCode::NOT_FOUND | StatusCode::CONFLICT => {}
                status if status.is_success() => return Ok(()),
                status => anyhow::bail!("{status}: {answer}"),
            }
            self.pass(Duration::from_millis(100)).await?;
        }
    }

    /// Orders the deletion of an environment.
    ///
    /// # Errors
    /// As [`Self::ask`], and when the API refuses.
    pub async fn delete(&mut self, environment: &str) -> anyhow::Result<()> {
        let path = format!("{ENVIRONMENTS}/{environment}");
        let (status, answer) = self.ask(Method::DELETE, &path, &Value::Null).await?;
        let fine = status.is_success() || status == StatusCode::NOT_FOUND;
        anyhow::ensure!(fine, "{status}: {answer}");
        Ok(())
    }

    /// What the environments that are on their way somewhere wait for.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn waits(&mut self) -> anyhow::Result<Vec<String>> {
        let (_, list) = self.ask(Method::GET, ENVIRONMENTS, &Value::Null).await?;
        let items = list.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
        let waits = |it: &Value| {
            let phase = it.pointer("/status/phase")?.as_str()?;
            let settled = ["Ready", "Asleep", "Stalled"].contains(&phase);
            let why = it.pointer("/status/conditions")?.as_array()?;
            let why = why.iter().find(|it| it["status"] == "False" && it["type"] != "Stalled");
            let why = why.map(|it| it["message"].to_string()).unwrap_or_default();
            (!settled).then(|| format!("{} is {phase}: {why}", it["metadata"]["name"]))
        };
        Ok(items.iter().filter_map(waits).collect())
    }

    /// Lets go on what waits for a person's word. Says whether there was anything.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn resume(&mut self) -> anyhow::Result<bool> {
        let (_, holds) = self.ask(Method::GET, HOLDS, &Value::Null).await?;
        let holds = holds.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
        let names = holds.iter().filter_map(|it| it.pointer("/metadata/name")?.as_str());
        for name in names {
            self.ask(Method::DELETE, &format!("{HOLDS}/{name}"), &Value::Null).await?;
        }
        Ok(!holds.is_empty())
    }

    /// Somebody else than hangar makes a call to Fly, and again if Fly is what fails.
    ///
    /// # Errors
    /// When Fly refuses.
    pub async fn meddle(
        &mut self,
        method: &Method,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<Value> {
        let mut said = String::new();
        for _ in 0..MEDDLES_MAX {
            let bytes = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header(header::AUTHORIZATION, "Bearer somebody")
                .body(bytes)?;
            let answer = self.fly.answer(request).await;
            if let Delivered::Whole(answer) = answer {
                self.tell(format_args!("somebody {method} {path} -> {}", answer.status().as_u16()));
                if answer.status().is_success() {
                    return Ok(serde_json::from_slice(answer.body()).unwrap_or(Value::Null));
                }
                said = String::from_utf8_lossy(answer.body()).into_owned();
            }
            self.pass(Duration::from_secs(1)).await?;
        }
        anyhow::bail!("{method} {path}: {said}")
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

    /// A browser asks for a host. True when a machine answered.
    pub async fn visit(&mut self, label: &str) -> bool {
        let Some(life) = &self.life else { return false };
        let head = Head { label: Label::of_name(label), failed: false, replayed: Replayed::No };
        let decision = decide(&head, &life.table);
        self.oracle.look();
        let Decision::Replay(route) = decision else {
            self.tell(format_args!("visit {label}: {}", decision.name()));
            return false;
        };
        let (seen, table) = (Arc::clone(&life.seen), Arc::clone(&life.table));
        seen.touch(route.slot());
        let (app, machine) = (route.app().text().as_str().to_owned(), route.machine().to_string());
        let there = self.fly.target(&machine).is_some_and(|it| it.app == app);
        let woken = tokio::time::timeout(Duration::from_secs(10), self.fly.wake(&machine)).await;
        let served = there && matches!(woken, Ok(Ok(())));
        if !served {
            // The proxy brings the request back to the router.
            if let Decision::Failed(route) = decide(&Head { failed: true, ..head }, &table) {
                seen.fail(route.slot());
            }
        }
        self.tell(format_args!("visit {label}: {}", if served { "served" } else { "failed" }));
        served
    }
}

/// Where environments are.
pub(crate) const ENVIRONMENTS: &str = "/apis/hangar.dev/v1alpha1/namespaces/default/environments";

const HOLDS: &str = "/apis/hangar.dev/v1alpha1/holds";

/// An answer without what only its owner may read.
fn public(path: &str, body: &Value) -> String {
    if path.contains("/secrets") { String::new() } else { body.to_string() }
}

/// Where objects of this kind are made.
fn collection(object: &Value) -> anyhow::Result<String> {
    Ok(match object.get("kind").and_then(Value::as_str) {
        Some("Environment") => ENVIRONMENTS.to_owned(),
        Some("Template") => ENVIRONMENTS.replace("environments", "templates"),
        Some("Secret") => "/api/v1/namespaces/default/secrets".to_owned(),
        other => anyhow::bail!("no collection for {other:?}"),
    })
}

/// A template in the shape that most courses use.
#[must_use]
pub fn template(name: &str, spec: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "hangar.dev/v1alpha1",
        "kind": "Template",
        "metadata": {"name": name},
        "spec": {
            "machine": {"image": "registry.fly.io/app@sha256:1111111111111111111111111111111111111111111111111111111111111111",
                "guest": {"cpuKind": "shared", "cpus": 1, "memory": "256Mi"}},
            "volume": {"mountPath": "/data", "size": "1Gi"},
            "services": [{"name": "web", "internalPort": 8080}],
            "regions": ["ams", "fra"],
            "readiness": {"http": {"path": "/healthz", "port": 8080}},
            "sleep": {"after": "5m", "mode": "Suspend"},
        }
    });
    json_patch::merge(&mut object["spec"], spec);
    object
}

/// An environment of a template.
#[must_use]
pub fn environment(name: &str, template: &str, spec: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "hangar.dev/v1alpha1",
        "kind": "Environment",
        "metadata": {"name": name},
        "spec": {"templateRef": {"name": template}, "owner": format!("{name}@example.com"), "access": "Public"},
    });
    json_patch::merge(&mut object["spec"], spec);
    object
}
