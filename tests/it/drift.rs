//! What something other than hangar breaks, and how it is mended: machines, apps and volumes are destroyed, stopped and
//! changed behind hangar's back.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::harness::{Hangar, PATIENCE, eventually, host, until};

/// Environments with a volume (`alice`), without one (`bob`), and one that is always running (`carol`).
const THREE: &str = "
{apiVersion: hangar.dev/v1alpha1, kind: Template, metadata: {name: kept}, spec: {machine: {image: 'hangar.dev/sample-app:1'},
  volume: {mountPath: /data, size: 1Gi}, services: [{name: web, internalPort: 8080}], regions: [ams],
  readiness: {http: {path: /healthz, port: 8080}}, sleep: {after: 1h}, update: {strategy: Rolling}}}
---
{apiVersion: hangar.dev/v1alpha1, kind: Template, metadata: {name: bare}, spec: {machine: {image: 'hangar.dev/sample-app:1'},
  services: [{name: web, internalPort: 8080}], regions: [ams], readiness: {http: {path: /healthz, port: 8080}}}}
---
{apiVersion: hangar.dev/v1alpha1, kind: Environment, metadata: {name: alice}, spec: {templateRef: {name: kept},
  owner: a@example.com, access: Public, env: {GREETING: hello}}}
---
{apiVersion: hangar.dev/v1alpha1, kind: Environment, metadata: {name: bob}, spec: {templateRef: {name: bare},
  owner: b@example.com, access: Public}}
---
{apiVersion: hangar.dev/v1alpha1, kind: Environment, metadata: {name: carol}, spec: {templateRef: {name: bare},
  owner: c@example.com, access: Public, operatingMode: Running}}
";

/// Where an environment is, as its status says.
#[derive(Debug, PartialEq)]
struct Place {
    app: String,
    machine: String,
    epoch: u64,
}

impl Place {
    async fn of(hangar: &Hangar, environment: &str) -> Self {
        let bay =
            hangar.object(&format!("environment/{environment}")).await["status"]["bay"].take();
        let text = |field: &str| bay[field].as_str().unwrap_or_default().to_owned();
        let epoch = bay["epoch"].as_u64().unwrap_or_default();
        Self { app: text("app"), machine: text("machine"), epoch }
    }

    fn machine(&self, rest: &str) -> String {
        format!("/v1/apps/{}/machines/{}{rest}", self.app, self.machine)
    }
}

/// Volumes of an app, live ones.
async fn volumes(hangar: &Hangar, app: &str) -> Vec<String> {
    let volumes = hangar.fly().volumes().await;
    let ours = volumes.iter().filter(|it| it["app_name"] == app);
    ours.map(|it| it["id"].as_str().unwrap().to_owned()).collect()
}

/// Machines of an app, live ones.
async fn machines(hangar: &Hangar, app: &str) -> Vec<String> {
    let machines = hangar.fly().machines().await;
    let ours = machines.iter().filter(|it| it["app_name"] == app);
    ours.map(|it| it["id"].as_str().unwrap().to_owned()).collect()
}

/// Metadata of a machine, as the list tells it.
async fn metadata(hangar: &Hangar, machine: &str) -> Value {
    let machines = hangar.fly().machines().await;
    machines.iter().find(|it| it["id"] == machine).unwrap()["config"]["metadata"].clone()
}

/// A `POST` that comes through the rate limit in the end, as hangar's own calls count too.
async fn insist(hangar: &Hangar, path: &str, body: &Value) -> Value {
    until(&format!("POST {path}"), PATIENCE, async || {
        let answer = hangar.fly().call(Method::POST, path, body).await;
        assert!(answer.status.is_success() || answer.status == 429, "{}", answer.text());
        if answer.status.is_success() { Ok(answer.json()) } else { Err(answer.text()) }
    })
    .await
}

/// Waits until the environment's description tells of this reason, in its conditions or events.
async fn says(hangar: &Hangar, environment: &str, reason: &str) {
    until(&format!("{environment} to say {reason}"), PATIENCE, async || {
        let text = hangar.run(&format!("describe environment {environment}")).await;
        if text.contains(reason) { Ok(()) } else { Err(text) }
    })
    .await;
}

/// Waits for a condition's reason while it has this truth.
async fn condition(hangar: &Hangar, environment: &str, kind: &str, truth: &str, reason: &str) {
    until(
        &format!("{environment} to be {kind}={truth} because of {reason}"),
        PATIENCE,
        async || {
            let status =
                hangar.object(&format!("environment/{environment}")).await["status"].take();
            let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
            let holds =
                |it: &Value| it["type"] == kind && it["status"] == truth && it["reason"] == reason;
            if conditions.iter().any(holds) { Ok(()) } else { Err(status.to_string()) }
        },
    )
    .await;
}

/// Asserts over a stretch of time what must never come true, since nothing that could be waited for tells of it.
async fn never(what: &str, during: Duration, mut happens: impl AsyncFnMut() -> bool) {
    let watching = async {
        loop {
            assert!(!happens().await, "{what}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let _over = tokio::time::timeout(during, watching).await;
}

/// Waits until hangar makes no more changing calls for a while.
async fn quiet(hangar: &Hangar) {
    let mut last = hangar.mutating_calls().await;
    let looking = async {
        loop {
            tokio::time::sleep(Duration::from_secs(3)).await;
            let calls = hangar.mutating_calls().await;
            if std::mem::replace(&mut last, calls) == calls {
                return;
            }
        }
    };
    assert!(
        tokio::time::timeout(PATIENCE, looking).await.is_ok(),
        "it goes on and on: {last} calls"
    );
}

#[tokio::test]
async fn a_destroyed_machine_is_replaced_on_the_same_volume() {
    let hangar = Hangar::up(THREE).await;
    let before = Place::of(&hangar, "alice").await;
    let volume = volumes(&hangar, &before.app).await;
    assert_eq!((before.epoch, volume.len()), (1, 1));
    let visits = hangar.page("alice").await["visits"].as_u64().unwrap();
    hangar.fly().delete(&before.machine("?force=true")).await;

    let page = until("a page of another machine", PATIENCE, async || {
        let answer = hangar.http(&host("alice"), "/?format=json").await;
        if answer.status != 200 {
            return Err(answer.text());
        }
        let page = answer.json();
        assert_ne!(page["machine"], before.machine.as_str(), "a destroyed machine was routed to");
        Ok(page)
    })
    .await;
    assert_eq!((&page["epoch"], page["visits"].as_u64()), (&json!("2"), Some(visits + 1)));
    hangar.phase("alice", "Ready").await;
    let after = Place::of(&hangar, "alice").await;
    assert_eq!((&after.app, after.epoch), (&before.app, 2));
    assert_eq!(page["machine"], after.machine.as_str());
    assert_eq!(volumes(&hangar, &after.app).await, volume);
    assert_eq!(machines(&hangar, &after.app).await, [after.machine]);
    says(&hangar, "alice", "MachineLost").await;
}

#[tokio::test]
async fn what_a_stopped_machine_means_depends_on_the_mode() {
    let hangar = Hangar::up(THREE).await;
    let (alice, carol) = (Place::of(&hangar, "alice").await, Place::of(&hangar, "carol").await);
    hangar.fly().post(&carol.machine("/stop"), &json!({})).await;
    hangar.fly().post(&alice.machine("/stop"), &json!({})).await;

    hangar.phase("alice", "Asleep").await;
    condition(&hangar, "alice", "Asleep", "True", "External").await;
    let page = hangar.page("alice").await;
    assert_eq!(page["machine"], alice.machine.as_str());
    hangar.phase("alice", "Ready").await;
    // Woken by a request: the next stop has nothing to do with what was before.
    hangar.fly().post(&alice.machine("/stop"), &json!({})).await;
    condition(&hangar, "alice", "Asleep", "True", "External").await;

    says(&hangar, "carol", "MachineStopped").await;
    hangar.phase("carol", "Ready").await;
    assert_eq!(Place::of(&hangar, "carol").await, carol);
}

#[tokio::test]
async fn a_changed_machine_is_changed_back_and_then_left_alone() {
    let hangar = Hangar::up(THREE).await;
    let alice = Place::of(&hangar, "alice").await;
    let visits = hangar.page("alice").await["visits"].as_u64().unwrap();
    let mut config = hangar.fly().get(&alice.machine("")).await["config"].take();
    config["env"]["GREETING"] = json!("from somebody else");
    config["services"] = json!([]);
    config["guest"]["memory_mb"] = json!(512);
    hangar.fly().post(&alice.machine(""), &json!({"config": config})).await;

    says(&hangar, "alice", "MachineChanged").await;
    hangar.phase("alice", "Ready").await;
    let page = hangar.page("alice").await;
    assert_eq!(page["env"]["GREETING"], "hello");
    assert_eq!(page["visits"].as_u64(), Some(visits + 1));
    let config = hangar.fly().get(&alice.machine("")).await["config"].take();
    assert_eq!(config["guest"]["memory_mb"], 256);
    quiet(&hangar).await;
    assert_eq!(Place::of(&hangar, "alice").await, alice);
}

#[tokio::test]
async fn changed_metadata_is_written_back_without_a_restart() {
    let hangar = Hangar::up(THREE).await;
    let alice = Place::of(&hangar, "alice").await;
    let before = metadata(&hangar, &alice.machine).await;
    let since_start = hangar.page("alice").await["visits_since_start"].as_u64().unwrap();
    for (key, value) in [("hangar_epoch", "7"), ("hangar_bay", "other"), ("theirs", "kept")] {
        let path = alice.machine(&format!("/metadata/{key}"));
        insist(&hangar, &path, &json!({"value": value})).await;
    }
    let mut wanted = before.clone();
    wanted["theirs"] = json!("kept");
    until("the metadata as before", PATIENCE, async || {
        let now = metadata(&hangar, &alice.machine).await;
        if now == wanted { Ok(()) } else { Err(now.to_string()) }
    })
    .await;
    says(&hangar, "alice", "MachineChanged").await;
    quiet(&hangar).await;
    hangar.phase("alice", "Ready").await;
    let page = hangar.page("alice").await;
    assert_eq!(page["visits_since_start"].as_u64(), Some(since_start + 1), "it was restarted");
}

#[tokio::test]
async fn a_deleted_app_is_made_again_only_where_no_volume_was_in_it() {
    let hangar = Hangar::up(THREE).await;
    let (alice, bob) = (Place::of(&hangar, "alice").await, Place::of(&hangar, "bob").await);
    hangar.fly().delete(&format!("/v1/apps/{}", alice.app)).await;
    hangar.fly().delete(&format!("/v1/apps/{}", bob.app)).await;

    // Fly's changes do not tell of what an app took with it; the next complete list does.
    hangar.phase("alice", "Stalled").await;
    condition(&hangar, "alice", "Stalled", "True", "VolumeMissing").await;
    condition(&hangar, "alice", "Provisioned", "False", "VolumeMissing").await;
    says(&hangar, "bob", "AppLost").await;
    eventually("bob to serve again", PATIENCE, async || {
        hangar.http(&host("bob"), "/").await.status == 200
    })
    .await;
    never("something was put in place of data", Duration::from_secs(8), async || {
        let answer = hangar.http(&host("alice"), "/").await;
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(answer.text().contains("cannot answer"), "{}", answer.text());
        !volumes(&hangar, &alice.app).await.is_empty()
            || !machines(&hangar, &alice.app).await.is_empty()
    })
    .await;
    assert_eq!(hangar.fly().apps().await.len(), 2);
    assert!(Place::of(&hangar, "bob").await.epoch > bob.epoch);
    // What is lost can be let go.
    hangar.run("delete environment alice").await;
}

#[tokio::test]
async fn a_lost_volume_is_never_replaced_by_an_empty_one() {
    let hangar = Hangar::up(THREE).await;
    let alice = Place::of(&hangar, "alice").await;
    let volume = volumes(&hangar, &alice.app).await.remove(0);
    let path = format!("/v1/apps/{}/volumes/{volume}", alice.app);
    let refused = hangar.fly().call(Method::DELETE, &path, &Value::Null).await;
    assert_eq!(refused.status, 412, "{}", refused.text());
    assert_eq!(hangar.page("alice").await["machine"], alice.machine.as_str());

    hangar.fly().delete(&alice.machine("?force=true")).await;
    until("the volume to be let go", PATIENCE, async || {
        let answer = hangar.fly().call(Method::DELETE, &path, &Value::Null).await;
        if answer.status.is_success() { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    hangar.phase("alice", "Stalled").await;
    condition(&hangar, "alice", "Stalled", "True", "VolumeMissing").await;
    never("something was put in place of data", Duration::from_secs(8), async || {
        let answer = hangar.http(&host("alice"), "/").await;
        assert!(
            answer.status == 503 && answer.text().contains("cannot answer"),
            "{}",
            answer.text()
        );
        !volumes(&hangar, &alice.app).await.is_empty()
            || !machines(&hangar, &alice.app).await.is_empty()
    })
    .await;
    // So it is after a restart.
    let hangar = hangar.again().await;
    condition(&hangar, "alice", "Stalled", "True", "VolumeMissing").await;
    assert_eq!(hangar.page("bob").await["environment"], "bob");
    assert_eq!(volumes(&hangar, &alice.app).await, Vec::<String>::new());
}

#[tokio::test]
async fn superseded_machines_go_and_foreign_ones_stay() {
    let hangar = Hangar::up(THREE).await;
    let bob = Place::of(&hangar, "bob").await;
    let mine = hangar.fly().get(&bob.machine("")).await;
    let machines_path = format!("/v1/apps/{}/machines", bob.app);
    let config = |metadata: Value| {
        let image = &mine["config"]["image"];
        json!({"region": "ams", "config": {"image": image, "metadata": metadata, "env": {"PORT": "8099"}}})
    };
    let foreign = insist(&hangar, &machines_path, &config(json!({"owner": "somebody"}))).await;
    let mut older = mine["config"]["metadata"].clone();
    older["hangar_epoch"] = json!("0");
    let older = insist(&hangar, &machines_path, &config(older)).await;
    let mut another = mine["config"]["metadata"].clone();
    another["hangar_instance"] = json!("another-installation");
    another["hangar_epoch"] = json!("0");
    let another = insist(&hangar, &machines_path, &config(another)).await;

    let mut kept = [&mine, &foreign, &another].map(|it| it["id"].as_str().unwrap().to_owned());
    kept.sort();
    until("only the older one to go", PATIENCE, async || {
        let mut now = machines(&hangar, &bob.app).await;
        now.sort();
        if now == kept { Ok(()) } else { Err(format!("{now:?} without {}", older["id"])) }
    })
    .await;
    quiet(&hangar).await;
    assert_eq!(machines(&hangar, &bob.app).await.len(), 3);
    assert_eq!(hangar.page("bob").await["machine"], bob.machine.as_str());
}
