//! `kill -9` at moments that a seed chooses, and the same command again: what was declared is what there is, once each, and
//! nothing on a volume is lost. `HANGAR_KILLS=200` makes it longer, `HANGAR_TEST_SEED` makes a run again.

use std::{collections::BTreeMap, time::Duration};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Hangar, PATIENCE, eventually, host, until};

const TEMPLATE: &str = "{apiVersion: hangar.dev/v1alpha1, kind: Template, metadata: {name: kept}, spec: {machine: {image: \
'hangar.dev/sample-app:1'}, volume: {mountPath: /data, size: 1Gi}, services: [{name: web, internalPort: 8080}], \
regions: [ams], readiness: {http: {path: /healthz, port: 8080}}, sleep: {after: 1h}, update: {strategy: Rolling}}}\n";

/// A xorshift: good enough to choose moments.
struct Chance(u64);

impl Chance {
    /// From `HANGAR_TEST_SEED`, or a new one; printed, so that a failure can be had again.
    fn new() -> Self {
        let now = || {
            let now = hangar::clock::System::shared().now();
            u64::try_from(now.as_nanosecond() & i128::from(u64::MAX)).unwrap()
        };
        let given = std::env::var("HANGAR_TEST_SEED").ok().and_then(|it| it.parse().ok());
        let seed = given.unwrap_or_else(now) | 1;
        eprintln!("HANGAR_TEST_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

/// What is declared of an environment, and what was seen of its volume.
#[derive(Debug, Clone, Default)]
struct Wanted {
    greeting: u64,
    asleep: bool,
    visits: u64,
}

impl Wanted {
    fn manifest(&self, name: &str) -> String {
        let mode = if self.asleep { "Asleep" } else { "Auto" };
        format!(
            "---\n{{apiVersion: hangar.dev/v1alpha1, kind: Environment, metadata: {{name: {name}}}, spec: {{templateRef: \
             {{name: kept}}, owner: a@example.com, access: Public, operatingMode: {mode}, env: {{GREETING: 'g{}'}}}}}}\n",
            self.greeting
        )
    }
}

/// How often hangar is killed.
fn kills() -> u64 {
    std::env::var("HANGAR_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(12)
}

/// Draws one change, a creation, an update, a sleep or wake, or a deletion, and returns the command line that asks for it.
fn change(
    hangar: &Hangar,
    wanted: &mut BTreeMap<String, Wanted>,
    chance: &mut Chance,
    round: u64,
) -> Vec<String> {
    let line = |text: &str| text.split(' ').map(str::to_owned).collect();
    let names: Vec<_> = wanted.keys().cloned().collect();
    let choice = chance.below(4);
    if names.len() < 2 || (choice == 0 && names.len() < 4) {
        wanted.insert(format!("e{round}"), Wanted { greeting: round, ..Wanted::default() });
    } else {
        let name = &names[usize::try_from(chance.below(names.len() as u64)).unwrap()];
        let environment = wanted.get_mut(name).unwrap();
        match choice {
            0 | 1 => environment.greeting = round,
            2 => environment.asleep = !environment.asleep,
            _ => {
                wanted.remove(name);
                let name = format!("environment {name}");
                return line(&format!("delete {name} --wait=false --ignore-not-found"));
            }
        }
    }
    let manifests = wanted.iter().map(|(name, it)| it.manifest(name)).collect::<String>();
    std::fs::write(hangar.home.path().join("changed.yaml"), format!("{TEMPLATE}{manifests}"))
        .unwrap();
    line("apply -f changed.yaml")
}

/// Asks for a change, kills hangar at some moment after that, and starts it again. What was acknowledged is there then; what
/// was not is asked for once more.
async fn change_and_kill(
    mut hangar: Hangar,
    wanted: &mut BTreeMap<String, Wanted>,
    chance: &mut Chance,
    round: u64,
) -> Hangar {
    let line = change(&hangar, wanted, chance, round);
    let line: Vec<_> = line.iter().map(String::as_str).collect();
    let asking = hangar.spawn(&line);
    // Before it arrives, between the acknowledged change and its end, or just after that.
    tokio::time::sleep(Duration::from_millis(chance.below(900))).await;
    hangar.kill9();
    let acknowledged = asking.wait_with_output().await.unwrap().status.success();
    let hangar = hangar.again().await;
    if !acknowledged {
        hangar.cli(&line).await.good();
    }
    kept(&hangar, wanted).await;
    hangar
}

/// Asserts that all that is declared is what the store has.
async fn kept(hangar: &Hangar, wanted: &BTreeMap<String, Wanted>) {
    let list = hangar.object("environments").await;
    let items = list["items"].as_array().cloned().unwrap_or_default();
    // A deletion takes its time.
    let there: BTreeMap<_, _> = items
        .iter()
        .filter(|it| it["metadata"]["deletionTimestamp"].is_null())
        .map(|it| (it["metadata"]["name"].as_str().unwrap(), &it["spec"]))
        .collect();
    assert!(there.keys().eq(wanted.keys()), "{:?} instead of {:?}", there.keys(), wanted.keys());
    for (name, wanted) in wanted {
        let mode = if wanted.asleep { "Asleep" } else { "Auto" };
        let spec = there[name.as_str()];
        assert_eq!(spec["env"]["GREETING"], format!("g{}", wanted.greeting), "{name}");
        assert_eq!(spec["operatingMode"], mode, "{name}");
    }
}

/// Visits what is awake and in order; its counter must go on where it was.
async fn visit(hangar: &Hangar, wanted: &mut BTreeMap<String, Wanted>) {
    for (name, environment) in wanted.iter_mut().filter(|(_, it)| !it.asleep) {
        let answer = hangar.http(&host(name), "/?format=json").await;
        if answer.status == 200 {
            let visits = answer.json()["visits"].as_u64().unwrap();
            assert_eq!(visits, environment.visits + 1, "{name} lost or found visits");
            environment.visits = visits;
        }
    }
}

/// Waits until every environment is as declared and nothing else is left.
async fn converged(hangar: &Hangar, wanted: &BTreeMap<String, Wanted>) -> Vec<Value> {
    until("everything to be as declared", PATIENCE, async || {
        let list = hangar.object("environments").await;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let names: Vec<_> =
            items.iter().map(|it| it["metadata"]["name"].as_str().unwrap()).collect();
        if !names.iter().eq(wanted.keys()) {
            return Err(format!("{names:?} instead of {:?}", wanted.keys()));
        }
        for (item, (name, wanted)) in items.iter().zip(wanted) {
            let phase = &item["status"]["phase"];
            let same = item["status"]["observedGeneration"] == item["metadata"]["generation"];
            let there = if wanted.asleep {
                phase == "Asleep"
            } else {
                phase == "Ready" || phase == "Asleep"
            };
            if !there || !same {
                return Err(format!("{name}: {}", item["status"]));
            }
        }
        Ok(items)
    })
    .await
}

/// Apps, machines and volumes are those of the environments, and no more were ever made than their epochs tell.
async fn audit(hangar: &Hangar, environments: &[Value]) {
    let mut bays: BTreeMap<String, (String, u64)> = BTreeMap::new();
    for environment in environments {
        let bay = &environment["status"]["bay"];
        let app = bay["app"].as_str().unwrap().to_owned();
        let record = hangar.object(&format!("bay/{}", bay["name"].as_str().unwrap())).await;
        let machine = record["status"]["machine"]["id"].as_str().unwrap().to_owned();
        bays.insert(app, (machine, record["status"]["epoch"].as_u64().unwrap()));
    }
    eventually("the apps to be exactly those of the environments", PATIENCE, async || {
        let mut apps: Vec<_> = hangar
            .fly()
            .apps()
            .await
            .iter()
            .map(|it| it["name"].as_str().unwrap().to_owned())
            .collect();
        apps.sort();
        apps.iter().eq(bays.keys())
    })
    .await;
    let machines = hangar.fly().machines().await;
    let live: BTreeMap<_, _> = machines
        .iter()
        .map(|it| (it["app_name"].as_str().unwrap(), it["id"].as_str().unwrap()))
        .collect();
    assert_eq!(machines.len(), bays.len(), "{machines:?}");
    for (app, (machine, epoch)) in &bays {
        assert_eq!(live.get(app.as_str()), Some(&machine.as_str()), "of app {app}");
        let ever = hangar.fly().get("/v1/orgs/personal/machines?include_deleted=true").await;
        let made =
            ever["machines"].as_array().unwrap().iter().filter(|it| it["app_name"] == app.as_str());
        assert_eq!(made.count() as u64, *epoch, "machines ever made in app {app}");
        let volumes = hangar.fly().get(&format!("/v1/apps/{app}/volumes")).await;
        assert_eq!(volumes.as_array().unwrap().len(), 1, "{volumes}");
    }
    assert_eq!(hangar.fly().volumes().await.len(), bays.len());
}

#[tokio::test]
async fn killed_at_any_moment_it_goes_on_where_it_was() {
    let mut chance = Chance::new();
    let mut wanted = BTreeMap::new();
    let mut hangar = Hangar::empty().await;
    for round in 0..kills() {
        hangar = change_and_kill(hangar, &mut wanted, &mut chance, round).await;
        visit(&hangar, &mut wanted).await;
    }
    let environments = converged(&hangar, &wanted).await;
    audit(&hangar, &environments).await;
    for (name, environment) in &mut wanted {
        if environment.asleep {
            assert_eq!(hangar.http(&host(name), "/").await.status, 503);
            environment.asleep = false;
        }
    }
    let manifests = wanted.iter().map(|(name, it)| it.manifest(name)).collect::<String>();
    hangar.apply(&format!("{TEMPLATE}{manifests}")).await.good();
    for (name, environment) in &wanted {
        let page = until("a page", PATIENCE, async || {
            let answer = hangar.http(&host(name), "/?format=json").await;
            if answer.status == 200 { Ok(answer.json()) } else { Err(answer.text()) }
        })
        .await;
        assert_eq!(
            page["visits"].as_u64(),
            Some(environment.visits + 1),
            "{name} lost or found visits"
        );
        assert_eq!(page["env"]["GREETING"], format!("g{}", environment.greeting), "{name}");
    }
    let again = converged(&hangar, &wanted).await;
    audit(&hangar, &again).await;
}

#[tokio::test]
async fn machines_that_outlived_a_kill_are_taken_over_as_they_are() {
    let hangar = Hangar::up(&format!("{TEMPLATE}{}", Wanted::default().manifest("alice"))).await;
    let first = hangar.page("alice").await;
    let mut hangar = hangar.again().await;
    hangar.phase("alice", "Ready").await;
    let second = hangar.page("alice").await;
    assert_eq!(second["machine"], first["machine"]);
    assert_eq!(second["visits_since_start"], 2, "the program was started again: {second}");
    assert_eq!(hangar.mutating_calls().await, 0);

    // Twice in a row, the second time before it could do anything.
    hangar = hangar.again().await;
    hangar = hangar.again().await;
    let third = hangar.page("alice").await;
    assert_eq!((&third["visits"], &third["visits_since_start"]), (&3.into(), &3.into()));
}

#[tokio::test]
async fn after_an_orderly_end_the_same_command_brings_everything_back() {
    let mut hangar =
        Hangar::up(&format!("{TEMPLATE}{}", Wanted::default().manifest("alice"))).await;
    let first = hangar.page("alice").await;
    assert!(hangar.end_by(Signal::TERM).await.success());
    assert_eq!(hangar.processes(), Vec::<i32>::new(), "something was left behind");
    let hangar = hangar.again().await;
    let page = until("a page", PATIENCE, async || {
        let answer = hangar.http(&host("alice"), "/?format=json").await;
        if answer.status == 200 { Ok(answer.json()) } else { Err(answer.text()) }
    })
    .await;
    assert_eq!((&page["machine"], &page["visits"]), (&first["machine"], &2.into()));
    let environments =
        converged(&hangar, &BTreeMap::from([("alice".to_owned(), Wanted::default())])).await;
    audit(&hangar, &environments).await;
}
