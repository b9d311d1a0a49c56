//! Sequences of specifications: declared one after the other, at any pace, they must end as the first and the last alone
//! would; and one that cannot be, here or at Fly, must touch nothing that runs. It must never draw from anything but the
//! seed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    chance::{self, Seeded},
    local::faults::{Kind, Rule},
    sim::{
        gate::Strikes,
        mistakes::Mistake,
        plans::CANARIES,
        swarm::Outcome,
        universe::{ENVIRONMENTS, Report, Setup, Universe, environment, template},
    },
};

const QUIET: Duration = Duration::from_secs(40);
const LIMIT: Duration = Duration::from_secs(15 * 60);
/// How long something impossible is asked for.
const IN_VAIN: Duration = Duration::from_secs(5 * 60);
/// Longer than any of the drawn specifications lets an environment be awake without a request.
const IDLE: Duration = Duration::from_secs(20 * 60);

/// All that a user declares at one time. Fields that are `null` are not there.
#[derive(Debug, Clone)]
struct Declared {
    template: Value,
    secret: String,
    environments: BTreeMap<String, Value>,
}

/// Something that cannot be.
#[derive(Debug, Clone, Copy)]
enum Impossible {
    /// Fields that no template has, or not so.
    Field(usize),
    /// An image that is not there.
    Image,
    /// A region that is full.
    Region,
    /// A size that its host has no room for.
    Size,
}

/// What is wrong with these fields is found before they are stored.
fn refused() -> [Value; 5] {
    [
        json!({"machine": {"guest": {"memory": "100Mi"}}}),
        json!({"machine": {"env": {"A": 1}}}),
        json!({"machine": {"env": {"A": "a\u{7}b"}}}),
        json!({"sleep": {"after": "soon"}}),
        json!({"volume": {"sise": "1Gi"}}),
    ]
}

type Draw<'a> = &'a dyn Fn(u64) -> u64;

fn pick<'a>(draw: Draw<'_>, from: &[&'a str]) -> &'a str {
    let index = usize::try_from(draw(u64::try_from(from.len()).unwrap_or(1))).unwrap_or(0);
    from.get(index).copied().unwrap_or_default()
}

fn or_null(draw: Draw<'_>) -> Value {
    match draw(3) {
        0 => Value::Null,
        number => json!(number.to_string()),
    }
}

impl Declared {
    fn draw(draw: Draw<'_>, gib: u64, last: bool) -> Self {
        // What waits for a sleep that never comes would end as its predecessor.
        let strategies: &[&str] = if last { &["Rolling"] } else { &["Rolling", "WhenAsleep"] };
        let image = pick(draw, &["1", "2", "3"]).repeat(64);
        let spec = json!({
            "machine": {
                "image": format!("registry.fly.io/app@sha256:{image}"),
                "env": {"T": or_null(draw), "A": or_null(draw)},
                "guest": {"memory": pick(draw, &["256Mi", "512Mi"])},
            },
            "volume": {"size": format!("{gib}Gi")},
            "update": {"strategy": pick(draw, strategies)},
            "sleep": {"after": pick(draw, &["2m", "5m"]), "mode": pick(draw, &["Suspend", "Stop"])},
        });
        let mut environments = BTreeMap::new();
        for name in ["alice", "bob"] {
            if draw(5) == 0 {
                continue;
            }
            let other = format!("{name}-{}", draw(2));
            let spec = json!({
                "operatingMode": pick(draw, &["Auto", "Auto", "Running", "Asleep"]),
                "env": {"A": or_null(draw), "B": or_null(draw)},
                "hostnames": if draw(2) == 0 { vec![name] } else { vec![name, &other] },
                "secrets": if draw(2) == 0 { json!([{"name": "keys"}]) } else { Value::Null },
            });
            environments
                .insert(name.to_owned(), environment(name, "node", &json!({})).merged(&spec));
        }
        let template = template("node", &json!({})).merged(&spec);
        let secret = pick(draw, &CANARIES).to_owned();
        Self { template, secret, environments }
    }
}

/// Objects whose specification is put together.
trait Merged {
    fn merged(self, spec: &Value) -> Self;
}

impl Merged for Value {
    /// As a merge does, but nulls stay.
    fn merged(mut self, spec: &Value) -> Self {
        fn merge(into: &mut Value, from: &Value) {
            match (into.as_object_mut(), from) {
                (Some(fields), Value::Object(from)) => {
                    for (key, value) in from {
                        merge(fields.entry(key.clone()).or_insert(json!({})), value);
                    }
                }
                (_, from) => *into = from.clone(),
            }
        }
        merge(&mut self["spec"], spec);
        self
    }
}

/// Walks a seed's sequence, and the first and the last of it alone.
#[must_use]
pub fn walk_with(seed: u64, plant: Option<Mistake>) -> Outcome {
    let chance = Seeded::new(seed, "sequence");
    let draw = |limit| chance::below(&chance, limit);
    let count = 2 + draw(5);
    let mut gib = 1;
    let all: Vec<_> = (0..=count)
        .map(|it| {
            gib += draw(2);
            Declared::draw(&draw, gib, it == count)
        })
        .collect();
    let strikes: Vec<u64> = (0..draw(3)).map(|_| draw(200)).collect();
    let setup = |strikes: Vec<u64>| Setup {
        seed,
        strikes: Strikes::at(strikes),
        canaries: CANARIES.map(str::to_owned).to_vec(),
        plant,
    };
    let ends = [all.first().cloned(), all.last().cloned()].into_iter().flatten().collect();
    let mut straight = None;
    let alone = outcome(setup(Vec::new()), async |universe| {
        straight = Some(Sequence { universe, draw: &|_| 0 }.walk(ends).await?);
        Ok(())
    });
    let mut whole = outcome(setup(strikes), async |universe| {
        let end = Sequence { universe, draw: &draw }.walk(all).await?;
        let Some(straight) = &straight else { return Ok(()) };
        let (mut should, mut is) = (BTreeMap::new(), BTreeMap::new());
        leaves("", &json!(straight), &mut should);
        leaves("", &json!(end), &mut is);
        let paths: BTreeSet<_> = should.keys().chain(is.keys()).collect();
        for path in paths {
            let (is, should) = (is.get(path), should.get(path));
            anyhow::ensure!(is == should, "13: {path} ends as {is:?} instead of {should:?}");
        }
        Ok(())
    });
    whole.wrong.extend(alone.wrong.into_iter().map(|it| format!("the first and the last: {it}")));
    whole
}

/// A course on a runtime of its own.
fn outcome(setup: Setup, course: impl AsyncFnOnce(&mut Universe) -> anyhow::Result<()>) -> Outcome {
    let mut outcome = Outcome {
        seed: setup.seed,
        wrong: Vec::new(),
        report: Report::default(),
        fired: BTreeMap::new(),
    };
    let walked = async {
        let mut universe = Universe::begin(setup).await?;
        let walked = course(&mut universe).await;
        outcome.report = universe.report();
        outcome.fired = universe.fly().faults().fired();
        walked
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let walked = runtime.map_err(Into::into).and_then(|it| it.block_on(Box::pin(walked)));
    outcome.wrong.clone_from(&outcome.report.violations);
    outcome.wrong.extend(walked.err().map(|error| format!("{error:#}")));
    outcome
}

/// A sequence under way.
struct Sequence<'a> {
    universe: &'a mut Universe,
    draw: Draw<'a>,
}

impl Sequence<'_> {
    /// Declares all of it, and gives what there is in the end.
    async fn walk(mut self, all: Vec<Declared>) -> anyhow::Result<BTreeMap<String, Value>> {
        let last = all.len().saturating_sub(1);
        let mut there = BTreeMap::new();
        for (number, declared) in all.iter().enumerate() {
            self.declare(declared, &there).await?;
            there.clone_from(&declared.environments);
            match (self.draw)(4) {
                // Without a pause nothing impossible comes either: where nothing goes wrong, zero is drawn.
                0 if number > 0 => {}
                0 | 1 => self.rest().await?,
                2 => self.universe.pass(Duration::from_millis((self.draw)(20_000))).await?,
                _ if number < last => self.in_vain(declared).await?,
                _ => {}
            }
        }
        self.rest().await?;
        for name in there.keys() {
            self.universe.visit(name).await;
        }
        self.universe.pass(IDLE).await?;
        self.rest().await?;
        self.universe.finish();
        let mut end = BTreeMap::new();
        for name in there.keys() {
            end.insert(name.clone(), self.state(name).await?);
        }
        Ok(end)
    }

    async fn rest(&mut self) -> anyhow::Result<()> {
        let rested = self.universe.rest(QUIET, LIMIT).await?;
        rested.context("9: it does not come to rest")?;
        Ok(())
    }

    async fn declare(
        &mut self,
        declared: &Declared,
        there: &BTreeMap<String, Value>,
    ) -> anyhow::Result<()> {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"},
            "stringData": {"KEY": declared.secret}});
        self.universe.apply(&secret).await?;
        self.apply(&declared.template).await?;
        let gone: Vec<_> =
            there.keys().filter(|it| !declared.environments.contains_key(*it)).collect();
        for name in &gone {
            self.universe.delete(name).await?;
        }
        if !gone.is_empty() {
            // Until then its name is not free.
            self.rest().await?;
        }
        for environment in declared.environments.values() {
            self.apply(environment).await?;
        }
        Ok(())
    }

    /// Makes an object, or changes the one that is there; nulls take away.
    async fn apply(&mut self, object: &Value) -> anyhow::Result<()> {
        let (status, answer) = self.patch(object).await?;
        if status != StatusCode::NOT_FOUND {
            anyhow::ensure!(status.is_success(), "{status}: {answer}");
            return Ok(());
        }
        let mut whole = json!({});
        json_patch::merge(&mut whole, object);
        self.universe.apply(&whole).await
    }

    async fn patch(&mut self, object: &Value) -> anyhow::Result<(StatusCode, Value)> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let path = match object["kind"].as_str() {
            Some("Template") => {
                format!("{}/{name}", ENVIRONMENTS.replace("environments", "templates"))
            }
            _ => format!("{ENVIRONMENTS}/{name}"),
        };
        self.universe.ask(Method::PATCH, &path, object).await
    }

    /// Asks for something impossible, and for what was before again.
    async fn in_vain(&mut self, good: &Declared) -> anyhow::Result<()> {
        let now = json!({"update": {"strategy": "Rolling"}});
        let good = good.template.clone().merged(&now);
        // Nothing that waits for a sleep may be taken for what follows.
        self.apply(&good).await?;
        self.rest().await?;
        let before = self.running();
        let impossible = match (self.draw)(4) {
            0 => Impossible::Image,
            1 => Impossible::Region,
            2 => Impossible::Size,
            _ => Impossible::Field(usize::try_from((self.draw)(5)).unwrap_or(0)),
        };
        self.universe.tell(format_args!("now {impossible:?}"));
        self.ask_for(impossible, &good).await?;
        self.universe.pass(IN_VAIN).await?;
        let meanwhile = self.running();
        for (id, version) in &before {
            let is = meanwhile.get(id);
            anyhow::ensure!(
                is == Some(version),
                "13: {impossible:?} made {id} {is:?} of {version}"
            );
        }
        if let Impossible::Region = impossible {
            let extra = self.state("extra").await?;
            anyhow::ensure!(extra["phase"] != "Ready", "16: it is Ready where there is no room");
            self.apply(&template("far", &json!({"volume": null, "regions": ["ams"]}))).await?;
            self.rest().await?;
            let extra = self.state("extra").await?;
            let well = extra["phase"] == "Ready" || extra["phase"] == "Asleep";
            anyhow::ensure!(well, "9: there is room, and it is {extra}");
            self.universe.delete("extra").await?;
        }
        self.apply(&good).await?;
        // What was planned before that may still be under way.
        self.rest().await?;
        self.universe.fly().faults().clear();
        self.rest().await?;
        let after = self.running();
        anyhow::ensure!(
            after == before,
            "13: after {impossible:?} {after:?} runs, before {before:?}"
        );
        Ok(())
    }

    async fn ask_for(&mut self, impossible: Impossible, good: &Value) -> anyhow::Result<()> {
        let fly = Arc::clone(self.universe.fly());
        let faults = fly.faults();
        let changed = |spec: Value| good.clone().merged(&spec);
        match impossible {
            Impossible::Field(number) => {
                let spec = refused().into_iter().nth(number).unwrap_or_default();
                let (status, _) = self.patch(&changed(spec.clone())).await?;
                anyhow::ensure!(status.is_client_error(), "13: {spec} is {status}");
            }
            Impossible::Image => {
                faults.add(Rule::new(Kind::ManifestUnknown))?;
                let image = "registry.fly.io/app:never-pushed";
                self.apply(&changed(json!({"machine": {"image": image}}))).await?;
            }
            Impossible::Size => {
                faults.add(Rule::new(Kind::HostFull).on("update_machine"))?;
                let guest = json!({"guest": {"memory": "2Gi"}});
                self.apply(&changed(json!({"machine": guest}))).await?;
            }
            Impossible::Region => {
                let mut full = Rule::new(Kind::RegionFull);
                full.regions = Some(vec!["fra".to_owned()]);
                faults.add(full)?;
                self.apply(
                    &template("far", &json!({"regions": ["fra"]})).merged(&json!({"volume": null})),
                )
                .await?;
                self.apply(&environment("extra", "far", &json!({"operatingMode": "Running"})))
                    .await?;
            }
        }
        Ok(())
    }

    /// Machines there are, and their versions.
    fn running(&self) -> BTreeMap<String, String> {
        let machines = self.universe.census().machines.into_values();
        let live = machines.filter(|it| it.destroyed_at.is_none());
        live.map(|it| (it.id, it.version)).collect()
    }

    /// An environment and what it has at Fly, without ids, times and counts.
    async fn state(&mut self, name: &str) -> anyhow::Result<Value> {
        let (_, object) =
            self.universe.ask(Method::GET, &format!("{ENVIRONMENTS}/{name}"), &Value::Null).await?;
        let status = &object["status"];
        let app = status["bay"]["app"].as_str().unwrap_or_default().to_owned();
        // What sleeps by order was perhaps seen serving before that, and perhaps not.
        let history = object["spec"]["operatingMode"] == "Asleep";
        let conditions = status["conditions"].as_array().into_iter().flatten();
        let conditions = conditions.filter(|it| !(history && it["type"] == "Routed"));
        let conditions: Vec<_> = conditions.map(|it| json!([it["type"], it["status"]])).collect();
        let census = self.universe.census();
        let mut machines = Vec::new();
        for machine in census.machines.values() {
            if machine.app != app || machine.destroyed_at.is_some() {
                continue;
            }
            let path = format!("/v1/apps/{app}/machines/{}", machine.id);
            let mut config =
                self.universe.meddle(&Method::GET, &path, &Value::Null).await?["config"].take();
            without_ids(&mut config);
            // How it fell asleep hangs on what was declared at the time.
            let state = if machine.state == "suspended" { "stopped" } else { machine.state };
            machines.push(json!([machine.region, state, config]));
        }
        let volumes = census.volumes.values();
        let volumes = volumes.filter(|it| it.app == app && it.destroy_at.is_none());
        let volumes: Vec<_> = volumes.map(|it| json!([it.region, it.size_gib])).collect();
        Ok(json!({"spec": object["spec"], "phase": status["phase"], "conditions": conditions,
            "machines": machines, "volumes": volumes}))
    }
}

/// All that is in it, by path.
fn leaves(path: &str, value: &Value, all: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| leaves(&format!("{path}/{key}"), value, all));
        }
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items.for_each(|(index, value)| leaves(&format!("{path}/{index}"), value, all));
        }
        leaf => drop(all.insert(path.to_owned(), leaf.to_string())),
    }
}

fn without_ids(config: &mut Value) {
    for mount in config["mounts"].as_array_mut().into_iter().flatten() {
        mount["volume"] = Value::Null;
        mount["name"] = Value::Null;
    }
    if let Some(env) = config["env"].as_object_mut() {
        env.retain(|key, _| !key.starts_with("HANGAR_"));
    }
    if let Some(metadata) = config["metadata"].as_object_mut() {
        metadata.retain(|key, _| key == "hangar_environment" || key == "hangar_slot");
    }
}
