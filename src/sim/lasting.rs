//! What never ends: something at Fly stays broken for one environment, one host or one region as long as the course goes on.
//! All others must come right and stay so, and nobody may storm. It must never heal anything.

use std::{collections::BTreeSet, fmt, time::Duration};

use anyhow::Context as _;
use serde_json::json;

use crate::local::faults::{Kind, Rule};
use crate::sim::{
    gate::Strikes,
    plans::CANARIES,
    universe::{Report, Setup, Universe, environment, template},
};

/// How long the others may take to come right.
const WITHIN: Duration = Duration::from_secs(15 * 60);
/// What was changed is over by then, also for those that fall asleep.
const AFTERWARDS: Duration = Duration::from_secs(30 * 60);
/// For how long it is then counted what is done, and how many calls an hour may change something of who is in trouble: two a
/// minute, since an order that was taken and has no effect is given again after 30 s.
const COUNTED_HOURS: u64 = 2;
const WRITES_PER_HOUR: u64 = 120;
/// An app is asked for so soon after its environment was declared.
const BIRTH_MS: u64 = 50;
/// Longer than any course.
const FOR_EVER: Duration = Duration::from_secs(1000 * 60 * 60);
const OTHERS: usize = 5;
const VICTIM: &str = "victim";

/// Whom it befalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whom {
    /// One environment's app.
    App,
    /// Whoever is on the host of one environment's machine.
    Host,
    /// The first of the regions.
    Region,
}

/// When it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begins {
    /// Before there is anything.
    Birth,
    /// While it serves.
    Service,
    /// When it is deleted.
    Deletion,
}

/// Something that never ends.
#[derive(Debug, Clone, Copy)]
pub struct Trouble {
    /// Its name on command lines.
    pub name: &'static str,
    kind: Kind,
    route: Option<&'static str>,
    whom: Whom,
    begins: Begins,
}

const fn of_app(name: &'static str, kind: Kind, begins: Begins) -> Trouble {
    Trouble { name, kind, route: None, whom: Whom::App, begins }
}

const fn on(route: &'static str, trouble: Trouble) -> Trouble {
    Trouble { route: Some(route), ..trouble }
}

/// All of them.
pub static TROUBLES: [Trouble; 26] = [
    of_app("storm-408", Kind::Storm408, Begins::Birth),
    of_app("unanswered", Kind::ResetAfter, Begins::Birth),
    on("create_machine", of_app("no-creation", Kind::Answer500NotDone, Begins::Birth)),
    on("create_volume", of_app("no-volume", Kind::Answer503NotDone, Begins::Birth)),
    of_app("host-full", Kind::HostFull, Begins::Birth),
    of_app("volume-host-full", Kind::VolumeHostFull, Begins::Birth),
    of_app("volume-claimed", Kind::VolumeClaimLingers, Begins::Birth),
    of_app("volume-not-found", Kind::VolumeNotFound, Begins::Birth),
    of_app("stuck-created", Kind::StuckCreated, Begins::Birth),
    of_app("stuck-starting", Kind::StuckStarting, Begins::Birth),
    of_app("never-ready", Kind::ChecksFail, Begins::Birth),
    of_app("unauthenticated", Kind::Unauthenticated, Begins::Service),
    of_app("forbidden", Kind::Forbidden, Begins::Service),
    of_app("rate-limited", Kind::RateLimited, Begins::Service),
    of_app("slow", Kind::Slow, Begins::Service),
    of_app("no-image", Kind::ManifestUnknown, Begins::Service),
    of_app("stuck-replacing", Kind::StuckReplacing, Begins::Service),
    of_app("stuck-stopping", Kind::StuckStopping, Begins::Service),
    of_app("lease", Kind::LeaseHeld, Begins::Service),
    of_app("flapping", Kind::ChecksFlap, Begins::Service),
    of_app("crash-loop", Kind::Crash, Begins::Service),
    of_app("app-never-goes", Kind::AppDeleteSlow, Begins::Deletion),
    on("delete_app", of_app("no-deletion", Kind::Answer500NotDone, Begins::Deletion)),
    of_app("deletion-forbidden", Kind::Forbidden, Begins::Deletion),
    Trouble {
        name: "dead-host",
        kind: Kind::HostUnreachable,
        route: None,
        whom: Whom::Host,
        begins: Begins::Service,
    },
    Trouble {
        name: "full-region",
        kind: Kind::RegionFull,
        route: None,
        whom: Whom::Region,
        begins: Begins::Birth,
    },
];

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// What came of a course.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What is wrong; empty when all is well.
    pub wrong: Vec<String>,
    /// What happened.
    pub report: Report,
}

/// Walks a course in which a trouble never ends, on a runtime of its own.
#[must_use]
pub fn walk(trouble: &Trouble, seed: u64) -> Outcome {
    let failed = |error: anyhow::Error| Outcome {
        wrong: vec![format!("{error:#}")],
        report: Report::default(),
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return failed(error.into()),
    };
    runtime.block_on(async {
        let canaries = CANARIES.map(str::to_owned).to_vec();
        let universe =
            match Universe::begin(Setup { seed, strikes: Strikes::at([]), canaries, plant: None })
                .await
            {
                Ok(universe) => universe,
                Err(error) => return failed(error),
            };
        let mut course = Lasting {
            universe,
            trouble: *trouble,
            seed,
            hit: BTreeSet::new(),
            gone: BTreeSet::new(),
        };
        let walked = Box::pin(course.walk()).await;
        let report = course.universe.report();
        let mut wrong = report.violations.clone();
        wrong.extend(walked.err().map(|error| format!("{error:#}")));
        let fired = course.universe.fly().faults().fired();
        if !fired.contains_key(trouble.kind.name()) {
            wrong.push("it was never met".to_owned());
        }
        Outcome { wrong, report }
    })
}

/// A course under way.
struct Lasting {
    universe: Universe,
    trouble: Trouble,
    seed: u64,
    /// Who may stay in trouble.
    hit: BTreeSet<String>,
    /// Who was deleted.
    gone: BTreeSet<String>,
}

impl Lasting {
    async fn walk(&mut self) -> anyhow::Result<()> {
        let plain = json!({"volume": null, "sleep": {"after": "2m", "mode": "Stop"}, "update": {"strategy": "Rolling"}});
        let node =
            json!({"sleep": {"after": "5m", "mode": "Stop"}, "update": {"strategy": "Rolling"}});
        self.universe.apply(&template("node", &node)).await?;
        self.universe.apply(&template("plain", &plain)).await?;
        if self.trouble.whom == Whom::Region {
            self.begin()?;
        }
        self.declare(VICTIM, usize::try_from(self.seed)?).await?;
        for _ in 0..BIRTH_MS {
            if self.universe.apps_of(VICTIM).is_empty() {
                self.universe.pass(Duration::from_millis(1)).await?;
            }
        }
        if self.trouble.begins == Begins::Birth && self.trouble.whom == Whom::App {
            self.begin()?;
        }
        for number in 0..OTHERS {
            self.declare(&format!("env-{number}"), number).await?;
        }
        self.universe.pass(WITHIN).await?;
        self.check("after its creation")?;
        if self.trouble.begins == Begins::Service {
            self.universe.visit(VICTIM).await;
            self.universe.pass(Duration::from_secs(30)).await?;
            self.begin()?;
        }
        self.change().await?;
        self.universe.pass(WITHIN).await?;
        self.check("after what was changed")?;
        self.count().await
    }

    async fn declare(&mut self, name: &str, number: usize) -> anyhow::Result<()> {
        let template = if number.is_multiple_of(2) { "plain" } else { "node" };
        let mode = if number.is_multiple_of(3) { "Running" } else { "Auto" };
        let spec = json!({"operatingMode": mode});
        self.universe.apply(&environment(name, template, &spec)).await
    }

    /// Begins the trouble.
    fn begin(&mut self) -> anyhow::Result<()> {
        let trouble = self.trouble;
        let mut rule = Rule::new(trouble.kind);
        rule.route = trouble.route.map(str::to_owned);
        match trouble.kind {
            Kind::StuckCreated
            | Kind::StuckStarting
            | Kind::StuckReplacing
            | Kind::StuckStopping
            | Kind::LeaseHeld
            | Kind::AppDeleteSlow => rule.takes = Some(FOR_EVER),
            Kind::Crash => rule.every = Some(Duration::from_secs(5)),
            _ => {}
        }
        let app = || {
            let apps = self.universe.apps_of(VICTIM);
            apps.first().cloned().context("the environment has no app yet")
        };
        match trouble.whom {
            Whom::App => {
                rule.app = Some(app()?);
                self.hit.insert(VICTIM.to_owned());
            }
            Whom::Host => {
                let (app, census) = (app()?, self.universe.census());
                let machine = census.machines.values().find(|it| it.app == app);
                let host = machine.context("the environment has no machine yet")?.host.clone();
                let machines = census.machines.values().map(|it| (&it.host, &it.app));
                let volumes = census.volumes.values().map(|it| (&it.host, &it.app));
                let on_it = machines.chain(volumes).filter(|(it, _)| **it == host);
                self.hit.extend(on_it.filter_map(|(_, app)| self.universe.whose(app)));
                rule.host = Some(host);
            }
            Whom::Region => rule.regions = Some(vec!["ams".to_owned()]),
        }
        self.universe.tell(format_args!("for ever: {rule:?}"));
        self.universe.fly().faults().add(rule).context("no such fault")?;
        Ok(())
    }

    /// What the users do meanwhile.
    async fn change(&mut self) -> anyhow::Result<()> {
        let image = format!("registry.fly.io/app@sha256:{}", "2".repeat(64));
        for name in ["node", "plain"] {
            let spec = json!({"machine": {"image": image}});
            self.universe.change_template(name, &spec).await?;
        }
        self.delete("env-0").await?;
        if self.trouble.begins == Begins::Deletion {
            self.begin()?;
            self.delete(VICTIM).await?;
        }
        self.declare("late", 1).await?;
        for name in ["env-1", "env-2", VICTIM] {
            self.universe.visit(name).await;
        }
        Ok(())
    }

    async fn delete(&mut self, name: &str) -> anyhow::Result<()> {
        self.universe.delete(name).await?;
        self.gone.insert(name.to_owned());
        Ok(())
    }

    /// All others are as they should be.
    fn check(&self, when: &str) -> anyhow::Result<()> {
        for (name, is) in &self.universe.report().summary {
            if self.hit.contains(name) {
                continue;
            }
            let well = is.starts_with("Ready") || is.starts_with("Asleep");
            anyhow::ensure!(!self.gone.contains(name), "10: {when} {name}, deleted, is {is}");
            anyhow::ensure!(well, "10: {when} {name} is {is}");
        }
        Ok(())
    }

    /// What is in trouble is tried now and then, the others not at all.
    async fn count(&mut self) -> anyhow::Result<()> {
        self.universe.pass(AFTERWARDS).await?;
        let before = self.universe.report().writes_by;
        self.universe.pass(Duration::from_secs(COUNTED_HOURS * 60 * 60)).await?;
        self.check("much later")?;
        for (name, after) in self.universe.report().writes_by {
            let writes = after - before.get(&name).copied().unwrap_or(0);
            let limit = if self.hit.contains(&name) { COUNTED_HOURS * WRITES_PER_HOUR } else { 0 };
            anyhow::ensure!(
                writes <= limit,
                "10: {name} is written {writes} times in {COUNTED_HOURS} h"
            );
        }
        Ok(())
    }
}
