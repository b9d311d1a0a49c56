//! Environments that get a bay of a pool: claimed while it runs, made theirs without a restart, never anybody else's.

use http::StatusCode;
use serde_json::Value;

use crate::harness::{Hangar, PATIENCE, until};
use crate::manifest;

/// A template whose running machines can be made somebody's.
fn template(more: &str) -> String {
    let personalize = "personalize: {file: /data/hangar/env.json}\n";
    manifest::template("node", manifest::SAMPLE, &format!("{personalize}{more}"))
}

fn pool(more: &str) -> String {
    format!(
        "---
apiVersion: hangar.dev/v1alpha1
kind: WarmPool
metadata: {{name: warm}}
spec: {{templateRef: {{name: node}}, {more}}}
"
    )
}

/// What the tests ask of a pool.
impl Hangar {
    async fn pool(&self) -> Value {
        self.object("pool/warm").await["status"].take()
    }

    /// Waits until so many bays can be had and none is on its way.
    async fn stocked(&self, ready: u64) {
        until(&format!("{ready} bays that can be had"), PATIENCE, async || {
            let status = self.pool().await;
            let full = status["ready"] == ready && status["replicas"] == ready;
            if full { Ok(()) } else { Err(status.to_string()) }
        })
        .await;
    }

    /// An environment's bay and machine.
    async fn bay_of(&self, environment: &str) -> (String, String) {
        let bay = self.object(&format!("environment/{environment}")).await["status"]["bay"].take();
        let text = |field: &str| bay[field].as_str().unwrap().to_owned();
        (text("name"), text("machine"))
    }

    /// Since when an environment is Ready without a break.
    async fn ready_since(&self, environment: &str) -> String {
        let status = self.object(&format!("environment/{environment}")).await["status"].take();
        let conditions = status["conditions"].as_array().unwrap();
        let ready = conditions.iter().find(|it| it["type"] == "Ready").unwrap();
        assert_eq!(ready["status"], "True", "{ready}");
        ready["lastTransitionTime"].as_str().unwrap().to_owned()
    }

    async fn machine_ids(&self) -> Vec<String> {
        let machines = self.fly().machines().await;
        machines.iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect()
    }
}

fn alice(greeting: &str) -> String {
    let secret = "---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {WORD: hush}
";
    let more = format!("env: {{GREETING: {greeting}}}\nsecrets: [{{name: keys}}]\n");
    secret.to_owned() + &manifest::environment("alice", "node", &more)
}

#[tokio::test]
async fn a_claimed_bay_is_its_environments_without_a_restart() {
    let hangar = Hangar::up(&(template("") + &pool("replicas: 2"))).await;
    hangar.stocked(2).await;
    let waiting = hangar.machine_ids().await;
    let calls = hangar.mutating_calls().await;
    hangar.apply(&alice("hello")).await.good();
    hangar.phase("alice", "Ready").await;
    let (bay, machine) = hangar.bay_of("alice").await;
    assert!(waiting.contains(&machine), "{machine} was not of the stock: {waiting:?}");

    let page = hangar.page("alice").await;
    assert_eq!(page["environment"], "alice");
    assert_eq!(page["env"]["GREETING"], "hello");
    assert_eq!(page["machine"], machine.as_str());
    let read = async |name: &str| {
        let object = hangar.object(name).await;
        object["metadata"]["uid"].as_str().unwrap().to_owned()
    };
    let described = hangar.run("describe env alice").await;
    assert!(described.contains("Personalized"), "{described}");
    assert!(described.contains(&format!("it serves, in bay {bay} of pool warm")), "{described}");
    // What it lacks until it sleeps, its file has.
    assert_eq!(
        hangar.run("wait --for=condition=Updated env/alice --timeout 10s").await,
        "environment.hangar.dev/alice condition met\n"
    );
    let bound = hangar.object(&format!("bay/{bay}")).await;
    assert_eq!(bound["spec"]["environmentRef"]["uid"], read("environment/alice").await);

    // What changes is written again; the program goes on, and is Ready all the while.
    let ready_since = hangar.ready_since("alice").await;
    hangar.apply(&alice("again")).await.good();
    until("the change", PATIENCE, async || {
        let page = hangar.page("alice").await;
        let there = page["env"]["GREETING"] == "again" && page["machine"] == machine.as_str();
        if there { Ok(()) } else { Err(page.to_string()) }
    })
    .await;
    hangar.run("wait --for=condition=Updated env/alice --timeout 10s").await;
    hangar.run("wait --for=condition=Ready env/alice --timeout 10s").await;
    assert_eq!(hangar.ready_since("alice").await, ready_since);

    // The pool is filled up again: an app, a volume and a machine, and nothing else was made.
    hangar.stocked(2).await;
    let now = hangar.machine_ids().await;
    assert_eq!(now.len(), 3);
    assert!(waiting.iter().all(|it| now.contains(it)), "{waiting:?} {now:?}");
    let made = hangar.mutating_calls().await - calls;
    // App, secrets, volume and machine of the bay that took its place.
    assert_eq!(made, 4);
    let status = hangar.pool().await;
    let counted =
        (&status["claimedLastHour"], &status["missedLastHour"], &status["hitRatePercent"]);
    assert_eq!(counted, (&1.into(), &0.into(), &100.into()));
}

#[tokio::test]
async fn what_a_restart_took_of_a_machine_without_a_volume_is_written_again() {
    // Nor has it a check, for which it would be read now and then.
    let template = template("")
        .replace("  volume: {mountPath: /data, size: 1Gi}\n", "")
        .replace("  readiness: {http: {path: /healthz, port: 8080}, timeout: 3s}\n", "");
    let hangar = Hangar::up(&(template + &pool("replicas: 1"))).await;
    hangar.stocked(1).await;
    hangar.apply(&alice("hello")).await.good();
    hangar.phase("alice", "Ready").await;
    let (_, machine) = hangar.bay_of("alice").await;
    let greets = async |hangar: &Hangar| {
        until("the greeting", PATIENCE, async || {
            let answer = hangar.http("alice.dev.localhost", "/?format=json").await;
            let greets =
                answer.status == StatusCode::OK && answer.json()["env"]["GREETING"] == "hello";
            if greets { Ok(()) } else { Err(answer.text()) }
        })
        .await;
    };
    greets(&hangar).await;
    hangar.kill_programs("sample-app");
    greets(&hangar).await;
    assert_eq!(hangar.bay_of("alice").await.1, machine);
}

#[tokio::test]
async fn where_nothing_is_added_a_claim_takes_no_call_and_who_adds_something_has_a_bay_of_its_own()
{
    let template = manifest::template("node", manifest::SAMPLE, "");
    let hangar = Hangar::up(&(template + &pool("replicas: 1"))).await;
    hangar.stocked(1).await;
    let waiting = hangar.machine_ids().await;
    hangar.apply(&manifest::environment("bob", "node", "")).await.good();
    hangar.phase("bob", "Ready").await;
    let (_, machine) = hangar.bay_of("bob").await;
    assert_eq!(waiting, [machine.as_str()]);
    assert_eq!(hangar.page("bob").await["machine"], machine.as_str());
    hangar.stocked(1).await;
    let waiting = hangar.machine_ids().await;
    hangar.apply(&alice("hello")).await.good();
    hangar.phase("alice", "Ready").await;
    assert!(!waiting.contains(&hangar.bay_of("alice").await.1));
    assert_eq!(hangar.page("alice").await["env"]["GREETING"], "hello");
    hangar.stocked(1).await;
    assert_eq!(hangar.pool().await["missedLastHour"], 0);
    let events = hangar.run("events").await;
    assert!(events.contains("PoolUnfit"), "{events}");

    // What is added later comes with a restart, at the next sleep or when the template says.
    let awake = "operatingMode: Running\nenv: {GREETING: late}\n";
    hangar.apply(&manifest::environment("bob", "node", awake)).await.good();
    until("the variable", PATIENCE, async || {
        let page = hangar.page("bob").await;
        if page["env"]["GREETING"] == "late" { Ok(()) } else { Err(page.to_string()) }
    })
    .await;
    assert_eq!(hangar.bay_of("bob").await.1, machine);
}

#[tokio::test]
async fn an_environment_is_ready_once_its_program_took_over_what_was_written() {
    let example =
        include_str!("../../examples/personalize.yaml").replace("name: worker", "name: warm");
    let hangar = Hangar::up(&example).await;
    hangar.stocked(1).await;
    let waiting = hangar.machine_ids().await;
    let calls = hangar.mutating_calls().await;
    hangar
        .apply(&manifest::environment("alice", "warm", "env: {WORD: it's \"so\"}\n"))
        .await
        .good();
    hangar.phase("alice", "Ready").await;
    assert_eq!(waiting, [hangar.bay_of("alice").await.1]);
    hangar.stocked(1).await;
    // Writing and seeing is one call; the others make the next bay.
    assert_eq!(hangar.mutating_calls().await - calls, 4);
}

#[tokio::test]
async fn a_bay_whose_program_never_takes_over_what_was_written_is_given_up_for_another() {
    let readiness = "personalize:
  file: /data/hangar/env.json
  readiness: {exec: {command: [sh, -c, echo it is a riddle >&2; exit 3]}, timeout: 1s}
";
    let template = manifest::template("node", manifest::SAMPLE, readiness);
    let hangar = Hangar::up(&(template + &pool("replicas: 1"))).await;
    hangar.stocked(1).await;
    let waiting = hangar.machine_ids().await;
    hangar.apply(&alice("hello")).await.good();
    until("the reason", PATIENCE, async || {
        let events = hangar.run("events").await;
        let why = "the command of its readiness did not end with 0 in time";
        if events.contains(why) { Ok(()) } else { Err(events) }
    })
    .await;
    let (events, logs) = (hangar.run("events").await, hangar.run("logs").await);
    // It could have said a secret in any form.
    assert!(!events.contains("riddle") && !logs.contains("riddle"), "{events}\n{logs}");
    hangar.phase("alice", "Ready").await;
    assert_ne!(waiting, [hangar.bay_of("alice").await.1]);
    assert_eq!(hangar.page("alice").await["env"]["GREETING"], "hello");
    let log = hangar.run("logs env/alice --json").await;
    let failed = |it: &&str| it.contains("personalize") && it.contains("Failed");
    assert!(log.lines().any(|it| failed(&it)), "{log}");
    // The pool was not empty, and its bay is not a pool's.
    let events = hangar.run("events").await;
    assert!(!events.contains("PoolEmpty") && !events.contains("was deleted"), "{events}");
    let status = hangar.pool().await;
    assert_eq!((&status["missedLastHour"], &status["claimedLastHour"]), (&0.into(), &1.into()));
    let conditions = hangar.object("environment/alice").await["status"]["conditions"].to_string();
    assert!(!conditions.contains("Personalized"), "{conditions}");
}

#[tokio::test]
async fn a_deleted_environments_bay_never_comes_back() {
    let hangar = Hangar::up(&(template("") + &pool("replicas: 1"))).await;
    hangar.stocked(1).await;
    hangar.apply(&alice("hello")).await.good();
    hangar.phase("alice", "Ready").await;
    let (_, machine) = hangar.bay_of("alice").await;
    hangar.stocked(1).await;
    hangar.run("delete env alice").await;
    hangar.apply(&alice("hello")).await.good();
    hangar.phase("alice", "Ready").await;
    assert_ne!(hangar.bay_of("alice").await.1, machine);
    assert!(!hangar.machine_ids().await.contains(&machine));
}

#[tokio::test]
async fn an_empty_pool_keeps_nobody_waiting_and_says_so() {
    let hangar = Hangar::up(&(template("") + &pool("replicas: 0"))).await;
    hangar.apply(&alice("hello")).await.good();
    hangar.phase("alice", "Ready").await;
    let page = hangar.page("alice").await;
    assert_eq!(
        (&page["environment"], &page["env"]["GREETING"]),
        (&"alice".into(), &"hello".into())
    );
    let events = hangar.run("events").await;
    assert!(events.contains("PoolEmpty"), "{events}");
    until("the miss to be counted", PATIENCE, async || {
        let status = hangar.pool().await;
        if status["missedLastHour"] == 1 { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
}

#[tokio::test]
async fn suspended_and_stopped_stock_is_started_for_its_claim() {
    for state in ["Suspended", "Stopped"] {
        let hangar =
            Hangar::up(&(template("") + &pool(&format!("replicas: 1, warmState: {state}")))).await;
        hangar.stocked(1).await;
        let machines = hangar.fly().machines().await;
        assert_eq!(machines[0]["state"], state.to_lowercase());
        hangar.apply(&alice("hello")).await.good();
        hangar.phase("alice", "Ready").await;
        let page = hangar.page("alice").await;
        assert_eq!(
            (&page["env"]["GREETING"], &page["machine"]),
            (&"hello".into(), &machines[0]["id"])
        );
    }
}

#[tokio::test]
async fn a_new_template_replaces_the_stock_and_never_empties_it() {
    let hangar = Hangar::up(&(template("") + &pool("replicas: 2, maxInFlight: 1"))).await;
    hangar.stocked(2).await;
    let before = hangar.machine_ids().await;
    hangar.apply(&template("").replace("timeout: 3s", "timeout: 4s")).await.good();
    until("the stock to be another", PATIENCE, async || {
        let status = hangar.pool().await;
        assert!(status["ready"].as_u64().unwrap() >= 2, "{status}");
        let now = hangar.machine_ids().await;
        let new = now.len() == 2 && now.iter().all(|it| !before.contains(it));
        if new && status["outdated"] == 0 { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    let told = hangar.run("describe pool/warm").await;
    let told = told.lines().find(|it| it.contains("Normal") && it.contains("RollingOut"));
    assert!(told.is_some_and(|it| it.contains("are to be replaced")), "{told:?}");
}

#[tokio::test]
async fn a_pool_that_is_deleted_leaves_nothing_and_keeps_what_was_claimed() {
    let hangar = Hangar::up(&(template("") + &pool("replicas: 2"))).await;
    hangar.stocked(2).await;
    hangar.apply(&alice("hello")).await.good();
    hangar.phase("alice", "Ready").await;
    let (_, machine) = hangar.bay_of("alice").await;
    hangar.run("delete pool warm").await;
    until("the stock to go", PATIENCE, async || {
        let left = hangar.machine_ids().await;
        if left == [machine.clone()] { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    assert_eq!(hangar.fly().apps().await.len(), 1);
    assert_eq!(hangar.page("alice").await["machine"], machine.as_str());
}

#[tokio::test]
async fn a_pool_is_scaled_by_number_and_by_region() {
    let hangar = Hangar::up(&(template("") + &pool("replicas: 1"))).await;
    hangar.stocked(1).await;
    assert_eq!(
        hangar.run("scale pool/warm --replicas 2").await,
        "warmpool.hangar.dev/warm scaled\n"
    );
    hangar.stocked(2).await;
    // The same in other words replaces nothing.
    let before = hangar.machine_ids().await;
    hangar.run("scale pool warm --replicas ams=2").await;
    until("the pool to be looked at", PATIENCE, async || {
        let pool = hangar.object("pool/warm").await;
        let looked = pool["status"]["observedGeneration"] == pool["metadata"]["generation"];
        if looked { Ok(()) } else { Err(pool.to_string()) }
    })
    .await;
    hangar.stocked(2).await;
    assert_eq!(hangar.machine_ids().await, before);
    hangar.run("scale pool warm --replicas ams=1,fra=1").await;
    let number = hangar.cli(&["scale", "pool/warm", "--replicas", "3"]).await;
    let why = "spec.replicas: it has a number for each region";
    assert!(number.code != 0 && number.stderr.contains(why), "{}", number.stderr);
    hangar.run("scale pool warm --replicas fra=1").await;
    let spec = hangar.object("pool/warm").await["spec"].take();
    assert_eq!(spec["replicas"], serde_json::json!({"fra": 1}));
    hangar.stocked(1).await;
    let refused = hangar.cli(&["scale", "template/node", "--replicas", "1"]).await;
    assert!(refused.code == 1 && refused.stderr.contains("pools can"), "{}", refused.stderr);
}

/// What a plan says of one environment: the bay that it claims, the calls, and the rest.
impl Hangar {
    async fn foretold(&self, manifests: &str) -> Vec<(Value, Vec<Value>, String)> {
        let object = |it: &Value| {
            let calls = it["actions"].as_array().unwrap().iter().map(|it| it["call"].clone());
            (it["claims"].clone(), calls.collect(), it["notes"].to_string())
        };
        let planned = self.plan(manifests, &["-o", "json"]).await;
        let planned: Value = serde_json::from_str(&planned).unwrap();
        planned["objects"].as_array().unwrap().iter().map(object).collect()
    }

    pub(crate) async fn plan(&self, manifests: &str, more: &[&str]) -> String {
        std::fs::write(self.home.path().join("planned.yaml"), manifests).unwrap();
        let output = self.cli(&[&["plan", "-f", "planned.yaml"], more].concat()).await;
        assert_eq!((output.code, output.stderr.as_str()), (2, ""), "{}", output.stdout);
        output.stdout
    }
}

#[tokio::test]
async fn a_plan_foretells_which_bay_is_claimed_and_no_bay_twice() {
    let hangar = Hangar::up(&(template("") + &pool("replicas: 2"))).await;
    hangar.stocked(2).await;
    let calls = hangar.mutating_calls().await;
    let names = ["zoe", "alice", "bob"];
    let all = names.map(|it| manifest::environment(it, "node", "")).concat();
    let foretold = hangar.foretold(&all).await;
    let [(zoes, zoe, _), (alices, alice, _), (bobs, bob, bob_says)] = foretold.as_slice() else {
        panic!("{foretold:?}")
    };
    assert_eq!((zoe, alice), (&vec!["personalize".into()], &vec!["personalize".into()]));
    assert_eq!(
        (&zoes["pool"], &alices["pool"], bobs),
        (&"warm".into(), &"warm".into(), &Value::Null)
    );
    assert_ne!(zoes["bay"], alices["bay"]);
    let own: Vec<Value> = ["create-app", "write-secrets", "create-volume", "create-machine"]
        .map(Value::from)
        .to_vec();
    assert_eq!(bob, &own, "what a bay of its own making takes");
    assert!(bob_says.contains("pool warm has no bay ready, so one is made"), "{bob_says}");
    assert_eq!(hangar.mutating_calls().await, calls, "nothing was done");
    // The plan comes true.
    hangar.apply(&manifest::environment("zoe", "node", "")).await.good();
    hangar.phase("zoe", "Ready").await;
    assert_eq!(hangar.bay_of("zoe").await.0, zoes["bay"].as_str().unwrap());
}

#[tokio::test]
async fn a_plan_says_what_a_bay_that_rests_takes_and_which_revision_it_has() {
    let hangar = Hangar::up(&(template("") + &pool("replicas: 1, warmState: Stopped"))).await;
    hangar.stocked(1).await;
    let named = hangar.run("get bays -o name").await;
    let name = named.trim().strip_prefix("bay.hangar.dev/").unwrap();
    let environment = manifest::environment("alice", "node", "");
    let planned = hangar.plan(&environment, &[]).await;
    let lines: Vec<_> = planned.lines().filter(|it| it.contains("    > ")).collect();
    let bind =
        format!("    > bind bay/{name}: bay {name} of pool warm is claimed [no call to Fly]");
    let [first, start, exec] = lines.as_slice() else { panic!("{planned}") };
    assert_eq!(*first, bind);
    assert!(start.starts_with("    > start-machine ") && exec.starts_with("    > personalize "));
    assert!(
        planned.contains("calls to Fly: 2, of which restart a running machine: 0"),
        "{planned}"
    );
    let newer = template("").replace("timeout: 3s", "timeout: 4s");
    let planned = hangar.plan(&(newer + &environment), &[]).await;
    let other = format!("bay {name} of pool warm, made from another revision of the template, is");
    assert!(planned.contains(&other) && !planned.contains("> create-app"), "{planned}");
}

#[tokio::test]
async fn a_plan_says_which_bays_come_and_go_and_what_a_quota_refuses() {
    let hangar = Hangar::up(&(template("") + &pool("replicas: 2"))).await;
    hangar.stocked(2).await;
    let sum = async |manifests: &str| {
        let planned = hangar.plan(manifests, &[]).await;
        let sum = planned.lines().find_map(|it| it.strip_prefix("bays of pools: "));
        sum.unwrap_or(&planned).to_owned()
    };
    for (replicas, expected) in [
        ("replicas: 5", "3 to make, 0 to remove, with calls of their own"),
        ("replicas: 1", "0 to make, 1 to remove, with calls of their own"),
        ("replicas: {fra: 1}", "1 to make, 2 to remove, with calls of their own"),
    ] {
        assert_eq!(sum(&pool(replicas)).await, expected, "{replicas}");
    }
    let newer = template("").replace("timeout: 3s", "timeout: 4s");
    assert_eq!(sum(&newer).await, "2 to make, 2 to remove, with calls of their own");
    let rests = hangar.plan(&pool("replicas: 2, warmState: Stopped"), &[]).await;
    assert!(rests.contains("put to rest, and cannot be had meanwhile: 2"), "{rests}");

    let hard = "{count/environments.hangar.dev: 2, count/bays.hangar.dev: 1}";
    let quota = format!(
        "---\napiVersion: v1\nkind: ResourceQuota\nmetadata: {{name: small}}\nspec: {{hard: {hard}}}\n"
    );
    hangar.apply(&quota).await.good();
    let all = ["zoe", "alice", "bob"].map(|it| manifest::environment(it, "node", "")).concat();
    let foretold = hangar.foretold(&all).await;
    let refused: Vec<_> = foretold.iter().map(|(.., notes)| notes.contains("refused")).collect();
    assert_eq!(refused, [false, false, true], "{foretold:?}");
    let more = quota.replace("environments.hangar.dev: 2", "environments.hangar.dev: 3");
    let planned = hangar.plan(&(more + &all), &[]).await;
    assert!(planned.contains("3 to create, 1 to change, 0 to delete"), "{planned}");
    let none = quota.replace("environments.hangar.dev: 2", "environments.hangar.dev: 0");
    hangar.apply(&none).await.good();
    let planned = hangar.plan(&(all + &pool("replicas: 1")), &[]).await;
    assert!(planned.contains("! env/zoe refused") && planned.contains("3 refused"), "{planned}");
    assert!(planned.contains("bays that go: 1"), "the rest is planned all the same: {planned}");
    hangar.apply(&quota).await.good();
    hangar.run("scale pool warm --replicas 1").await;
    hangar.stocked(1).await;
    let two = ["zoe", "alice"].map(|it| manifest::environment(it, "node", "")).concat();
    let foretold = hangar.foretold(&(pool("replicas: 3") + &two)).await;
    let without: Vec<_> =
        foretold.iter().map(|(.., notes)| notes.contains("exceeded quota")).collect();
    assert_eq!(
        without,
        [true, false, true],
        "there is one bay, and room for no other: {foretold:?}"
    );
}
