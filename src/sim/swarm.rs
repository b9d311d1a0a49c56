//! Many courses that nobody thought of: one seed draws how many environments there are, what their users do, what breaks
//! and when the controller dies; then everything heals and must come right. It must never draw from anything but the seed.

mod pools;

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use http::Method;
use serde_json::{Value, json};

use crate::fly::call::ALL;
use crate::local::faults::{Kind, Rule};
use crate::sim::{
    coverage,
    gate::Strikes,
    mistakes::Mistake,
    plans::CANARIES,
    universe::{Report, Setup, Universe, environment, template},
};

/// What a seed comes to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What is wrong; empty when all is well.
    pub wrong: Vec<String>,
    /// What happened.
    pub report: Report,
    /// How often each kind of fault fired.
    pub fired: BTreeMap<&'static str, u64>,
}

/// How long nothing may happen until a course counts as at rest.
const QUIET: Duration = Duration::from_secs(65);
/// How often a person looks, and how often until everything came right: a quarter of an hour in all.
const LOOK: Duration = Duration::from_secs(2 * 60);
const LOOKS_MAX: u32 = 8;
/// One seed in so many goes on for a day after it came to rest, in which nothing may be written.
const DAY_AFTER_ONE_IN: u64 = 200;
/// The same of those with pools, whose bays are looked at all day.
const DAY_AFTER_POOLS_ONE_IN: u64 = 2_000;

const IMAGES: [&str; 3] = ["1", "2", "3"];

/// The plan of a seed.
#[derive(Debug, Clone)]
struct Scope {
    environments: u64,
    events: u64,
    /// Longest pause between two events.
    pause_ms: u64,
    strikes: Vec<u64>,
    faults: Vec<Rule>,
    pools: bool,
    day_after: bool,
}

/// A fault that any seed may draw: limited in time, and often in number.
fn fault(draw: &impl Fn(u64) -> u64) -> Option<Rule> {
    let kinds: Vec<_> = coverage::drawable().collect();
    let limit = u64::try_from(kinds.len()).unwrap_or(1);
    let kind = *kinds.get(usize::try_from(draw(limit)).unwrap_or(0))?;
    let mut rule = Rule::new(kind);
    rule.from = Some(Duration::from_millis(draw(120_000)));
    rule.lasts = Some(Duration::from_secs(1 + draw(300)));
    if matches!(kind, Kind::ErrorRegions | Kind::ListOneRegion | Kind::RegionFull) {
        rule.regions = Some(vec![["ams", "fra"][usize::try_from(draw(2)).unwrap_or(0)].to_owned()]);
    }
    if kind.is_of_calls() {
        rule.per_mille = Some(u16::try_from(50 + draw(600)).unwrap_or(1_000));
    }
    if is_rare(kind) {
        rule.per_mille = rule.per_mille.map(|_| 500);
        rule.from = rule.from.map(|it| it / 8);
        rule.lasts = None;
    }
    Some(rule)
}

/// Whether few calls, or little that hosts do, is such that it could befall it: it must be there when that comes.
fn is_rare(kind: Kind) -> bool {
    let calls = ALL.iter().filter(|it| kind.befalls(it.name)).count();
    let of_work = [
        Kind::RegionFull,
        Kind::ReplacedButStopped,
        Kind::StuckDestroying,
        Kind::StuckReplacing,
        Kind::StuckStopping,
    ];
    (kind.is_of_calls() && calls <= 2) || of_work.contains(&kind)
}

impl Scope {
    fn draw(seed: u64) -> Self {
        let chance = crate::chance::Seeded::new(seed, "scope");
        let draw = |limit| crate::chance::below(&chance, limit);
        // Most are small, since what goes wrong goes wrong between few; some are as large as a team.
        let environments = if draw(25) == 0 { 20 + draw(31) } else { 5 + draw(4) };
        let events = 6 + draw(14);
        let pause_ms = [500, 5_000, 30_000, 180_000][usize::try_from(draw(4)).unwrap_or(0)];
        let strikes = (0..draw(4)).map(|_| draw(60 * environments)).collect();
        let faults = (0..draw(4)).filter_map(|_| fault(&draw)).collect();
        let pools = pools::has_pools(seed);
        let one_in = if pools { DAY_AFTER_POOLS_ONE_IN } else { DAY_AFTER_ONE_IN };
        Self {
            environments,
            events,
            pause_ms,
            strikes,
            faults,
            pools,
            day_after: seed.is_multiple_of(one_in),
        }
    }
}

/// A course under way.
struct Swarm {
    universe: Universe,
    scope: Scope,
    /// What is declared: name and specification.
    declared: BTreeMap<String, Value>,
    /// Environments whose data somebody destroyed: they stall, and say so.
    robbed: Vec<String>,
    /// Pools that are declared.
    pools: BTreeMap<String, Value>,
    made: u64,
}

/// Walks a seed's course on a runtime of its own.
#[must_use]
pub fn walk(seed: u64) -> Outcome {
    walk_with(seed, None)
}

/// Walks a seed's course with a mistake in the controller.
#[must_use]
pub fn walk_with(seed: u64, plant: Option<Mistake>) -> Outcome {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let failed = |error: anyhow::Error, report| Outcome {
        seed,
        wrong: vec![format!("{error:#}")],
        report,
        fired: BTreeMap::new(),
    };
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return failed(error.into(), Report::default()),
    };
    runtime.block_on(async {
        let scope = Scope::draw(seed);
        let setup = Setup {
            seed,
            strikes: Strikes::at(scope.strikes.iter().copied()),
            canaries: CANARIES.map(str::to_owned).to_vec(),
            plant,
        };
        let universe = match Universe::begin(setup).await {
            Ok(universe) => universe,
            Err(error) => return failed(error, Report::default()),
        };
        let mut swarm = Swarm {
            universe,
            scope,
            declared: BTreeMap::new(),
            robbed: Vec::new(),
            pools: BTreeMap::new(),
            made: 0,
        };
        let walked = Box::pin(swarm.walk()).await;
        let report = swarm.universe.report();
        let mut wrong = report.violations.clone();
        if let Err(error) = walked {
            wrong.push(format!("{error:#}"));
        }
        let fired = swarm.universe.fly().faults().fired();
        Outcome { seed, wrong, report, fired }
    })
}

impl Swarm {
    async fn walk(&mut self) -> anyhow::Result<()> {
        self.templates().await?;
        if self.scope.pools {
            self.pools = pools::begin(&mut self.universe).await?;
        }
        for rule in self.scope.faults.clone() {
            self.universe.tell(format_args!("fault {rule:?}"));
            self.universe.fly().faults().add(rule).context("no such fault")?;
        }
        for _ in 0..self.scope.environments {
            self.declare().await?;
        }
        for _ in 0..self.scope.events {
            let pause = self.universe.draw(self.scope.pause_ms);
            self.universe.pass(Duration::from_millis(pause)).await?;
            if self.scope.pools && self.universe.draw(3) == 0 {
                self.pool_event().await?;
            } else {
                self.event().await?;
            }
        }
        self.settle().await
    }

    /// Everything heals, and must come right, and stay so.
    async fn settle(&mut self) -> anyhow::Result<()> {
        self.universe.fly().faults().clear();
        self.universe.tell(format_args!("all faults end"));
        for look in 1.. {
            let rested = self.universe.rest(QUIET, LOOK).await?.is_some();
            // Where much was lost at once, hangar waits for a person, who sees that all is well again.
            let resumed = self.universe.resume().await?;
            if rested && !resumed {
                break;
            }
            if look == LOOKS_MAX {
                anyhow::bail!("9: it does not come to rest: {:?}", self.universe.waits().await?);
            }
        }
        self.universe.finish();
        let summary = self.universe.report().summary;
        let beyond = self.beyond_hangar();
        let stalls = |it: &String| self.robbed.contains(it) || beyond.contains(it);
        for name in self.declared.keys().filter(|it| !stalls(it)) {
            let is = summary.get(name).map_or("missing", String::as_str);
            let well = is.starts_with("Ready") || is.starts_with("Asleep");
            if !well {
                anyhow::bail!("9: {name} ends as {is}: {}", self.universe.says(name).await?);
            }
        }
        self.check_pools()?;
        for (name, is) in summary.iter().filter(|(name, _)| !name.starts_with("pool ")) {
            anyhow::ensure!(self.declared.contains_key(name), "9: {name} was deleted and is {is}");
        }
        if self.scope.day_after {
            // Whatever is awake may fall asleep, once.
            self.universe.pass(Duration::from_secs(3600)).await?;
            let asleep = self.universe.report();
            self.universe.pass(Duration::from_secs(23 * 3600)).await?;
            let after = self.universe.report();
            anyhow::ensure!(
                after.writes == asleep.writes,
                "9: it writes at rest: {}",
                after.writes - asleep.writes
            );
        }
        Ok(())
    }

    /// Environments that stall, and say so: a stranger has a machine in their app, of a name that they may need; or Fly moved their
    /// volume, and somebody destroyed the machine, which alone tells which one it is now.
    fn beyond_hangar(&self) -> Vec<String> {
        let census = self.universe.census();
        let live = |app: &str| {
            let all = census.machines.values();
            all.filter(|it| it.app == app && it.destroyed_at.is_none()).collect::<Vec<_>>()
        };
        let stranger =
            |app: &str| live(app).iter().any(|it| !it.metadata.contains_key("hangar_bay"));
        let volumes = |app: &str, going: bool| {
            census.volumes.values().any(|it| it.app == app && it.destroy_at.is_some() == going)
        };
        let moved = |app: &str| live(app).is_empty() && volumes(app, true) && volumes(app, false);
        let apps = census.apps.keys().filter(|it| stranger(it) || moved(it));
        apps.filter_map(|it| self.universe.whose(it)).collect()
    }

    async fn templates(&mut self) -> anyhow::Result<()> {
        let plain = json!({"volume": null, "sleep": {"after": "2m", "mode": "Stop"}, "update": {"strategy": "Rolling"}});
        let probed =
            json!({"readiness": {"exec": {"command": ["true"]}, "http": null}, "sleep": null});
        self.universe.apply(&template("node", &json!({}))).await?;
        self.universe.apply(&template("plain", &plain)).await?;
        self.universe.apply(&template("probed", &probed)).await
    }

    async fn declare(&mut self) -> anyhow::Result<()> {
        let template = if self.scope.pools && self.universe.draw(2) == 0 {
            self.pick(&["warm", "warm", "bare"])
        } else {
            self.pick(&["node", "node", "plain", "probed"])
        };
        let template = template.to_owned();
        self.declare_of(&template).await
    }

    async fn declare_of(&mut self, template: &str) -> anyhow::Result<()> {
        let name = format!("env-{}", self.made);
        self.made += 1;
        let spec = json!({"operatingMode": self.pick(&["Auto", "Auto", "Running"])});
        let object = environment(&name, template, &spec);
        self.universe.apply(&object).await?;
        self.declared.insert(name, object);
        Ok(())
    }

    async fn event(&mut self) -> anyhow::Result<()> {
        match self.universe.draw(14) {
            0..=3 => {
                if let Some(name) = self.any() {
                    self.universe.visit(&name).await;
                }
            }
            4 => self.declare().await?,
            5 => {
                if let Some(name) = self.any() {
                    self.universe.delete(&name).await?;
                    self.declared.remove(&name);
                    self.robbed.retain(|it| *it != name);
                }
            }
            6 | 7 => self.edit().await?,
            8 => {
                let number = self.pick(&IMAGES);
                let image = format!("registry.fly.io/app@sha256:{}", number.repeat(64));
                let spec = json!({"machine": {"image": image}});
                let name = self.pick(&["node", "plain", "probed"]);
                self.universe.change_template(name, &spec).await?;
            }
            9 => {
                let after = Duration::from_millis(self.universe.draw(30_000));
                self.universe.crash_and_restart(after).await?;
            }
            10 => self.universe.stop_and_restart().await?,
            _ => self.meddle().await,
        }
        Ok(())
    }

    /// Changes an environment.
    async fn edit(&mut self) -> anyhow::Result<()> {
        let Some(name) = self.any() else { return Ok(()) };
        let value = self.universe.draw(3).to_string();
        let spec = match self.universe.draw(3) {
            0 => json!({"operatingMode": self.pick(&["Auto", "Running", "Asleep"])}),
            1 => json!({"env": {"A": value}}),
            _ => json!({"hostnames": [name, format!("{name}-{value}")]}),
        };
        let Some(object) = self.declared.get_mut(&name) else { return Ok(()) };
        json_patch::merge(&mut object["spec"], &spec);
        let object = object.clone();
        self.universe.apply(&object).await
    }

    /// Somebody else does something to a machine. Fly may refuse it, which is no matter.
    async fn meddle(&mut self) {
        let machines = self.universe.census().machines.into_iter();
        let machines: Vec<_> = machines.filter(|(_, it)| it.destroyed_at.is_none()).collect();
        if machines.is_empty() {
            return;
        }
        let limit = u64::try_from(machines.len()).unwrap_or(1);
        let index = usize::try_from(self.universe.draw(limit)).unwrap_or(0);
        let Some((id, machine)) = machines.get(index) else { return };
        let path = format!("/v1/apps/{}/machines/{id}", machine.app);
        let (method, path) = match self.universe.draw(6) {
            0 => (Method::DELETE, format!("{path}?force=true")),
            1 => (Method::POST, format!("{path}/stop")),
            2 => (Method::POST, format!("{path}/suspend")),
            3 => (Method::POST, format!("{path}/start")),
            4 => {
                self.universe.driver().end(id, 1);
                return;
            }
            _ => {
                // All of it, with the data: what had a volume stalls for ever.
                self.robbed.extend(self.universe.excuse(&machine.app));
                (Method::DELETE, format!("/v1/apps/{}", machine.app))
            }
        };
        // A refusal is as good.
        let _refused = self.universe.meddle(&method, &path, &Value::Null).await;
    }

    fn any(&self) -> Option<String> {
        let limit = u64::try_from(self.declared.len()).unwrap_or(0);
        let index = usize::try_from(self.universe.draw(limit)).unwrap_or(0);
        self.declared.keys().nth(index).cloned()
    }

    fn pick<'a>(&self, from: &[&'a str]) -> &'a str {
        let limit = u64::try_from(from.len()).unwrap_or(1);
        let index = usize::try_from(self.universe.draw(limit)).unwrap_or(0);
        from.get(index).copied().unwrap_or_default()
    }
}
