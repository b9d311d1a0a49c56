//! The controller over a store in memory and the local backend in this process, on paused time: what it does about things that
//! the store does not account for. Through one universe; it must never look inside the controller.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};

use super::*;
use crate::chance;
use crate::clock::Paused;
use crate::fly::{
    http::{Config as FlyConfig, Http},
    token::Token,
};
use crate::local::{self, Backend, InProcess, NoHooks, norun::NoRun};
use crate::server;
use crate::store::{Key, Precondition, backup::Backups, crypt::Cipher, memory::Memory};
use crate::tasks::{self, Trigger};

const ENVS: &str = "/apis/hangar.dev/v1alpha1/namespaces/default/environments";
const HOLDS: &str = "/apis/hangar.dev/v1alpha1/holds";
const ORPHANS: &str = "/apis/hangar.dev/v1alpha1/orphans";

const TEMPLATE: &str = "{apiVersion: hangar.dev/v1alpha1, kind: Template, metadata: {name: node}, spec: {
  machine: {image: 'hangar.dev/sample-app:1'}, volume: {mountPath: /data, size: 1Gi}, regions: [ams],
  services: [{name: web, internalPort: 8080}], readiness: {http: {path: /healthz, port: 8080}}}}";

struct Universe {
    store: Store,
    backend: Arc<Backend>,
    api: server::Api,
    trigger: Trigger,
}

impl Drop for Universe {
    fn drop(&mut self) {
        self.trigger.shut_down();
    }
}

impl Universe {
    async fn begin() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(Paused::at("2026-09-01T12:00:00Z".parse().unwrap()));
        let chance: Arc<dyn Chance> = Arc::new(chance::Seeded::new(1, "ledger"));
        let mut config = local::Config::new("nowhere".into());
        (config.keep, config.no_run) = (local::Keep::Nothing, true);
        let drawn = (Arc::clone(&clock), Arc::clone(&chance));
        let backend = Backend::open(config, Arc::new(NoRun::new()), drawn).unwrap();
        let store =
            Store::new(Arc::new(Memory::new()), Cipher::ephemeral().unwrap(), &["secrets/"]);
        let (journal, metrics) = (Journal::in_memory(), Metrics::new());
        server::bootstrap(&store, &*clock, &*chance).await.unwrap();
        let (trigger, shutdown) = tasks::shutdown();
        let calls = Calls::new(Arc::clone(&clock), journal.clone(), metrics.clone());
        let token = Token::new("any");
        let way = InProcess::new(Arc::clone(&backend), &token, Arc::new(NoHooks)).unwrap();
        let fly = Http::over(
            Arc::new(way),
            FlyConfig::new("http://fly.test", token),
            Arc::clone(&clock),
            Arc::new(calls.clone()),
        )
        .unwrap();
        let parts = Parts {
            store: store.clone(),
            spare_fly: Arc::new(fly.giving_way()),
            fly: Arc::new(fly),
            org: "personal".to_owned(),
            address: Address {
                scheme: "https".to_owned(),
                domain: "dev.test".to_owned(),
                port: None,
            },
            clock: Arc::clone(&clock),
            chance: Arc::clone(&chance),
            journal: journal.clone(),
            metrics: metrics.clone(),
            calls,
        };
        let (machines, until) = (Arc::clone(&backend), shutdown.clone());
        tasks::detached(async move { machines.run(until).await.unwrap() });
        let until = shutdown.clone();
        tasks::detached(async move { run(parts, || {}, until).await.unwrap() });
        let readiness = server::Readiness::default();
        let backups = Backups::in_dir(Path::new("/dev/null"));
        let parts = server::Parts {
            store: store.clone(),
            clock,
            chance,
            journal,
            metrics,
            readiness,
            backups,
            reach: Arc::new(server::reach::Nowhere),
        };
        let api = server::Api::in_process(parts, shutdown).await.unwrap();
        let universe = Self { store, backend, api, trigger };
        let template = serde_yaml::from_str(TEMPLATE).unwrap();
        universe.ask("POST", &ENVS.replace("environments", "templates"), &template).await;
        universe
    }

    /// A request to hangar's API that goes well, or the message of its refusal.
    async fn try_ask(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(if body.is_null() {
                String::new()
            } else {
                body.to_string()
            })))
            .unwrap();
        let response = self.api.answer(request).await;
        let good = response.status().is_success();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let value: Value = serde_json::from_slice(&body).unwrap();
        if good { Ok(value) } else { Err(value["message"].to_string()) }
    }

    async fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        self.try_ask(method, path, body).await.unwrap()
    }

    /// A request to Fly.
    async fn fly(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = Request::builder()
            .method(method)
            .uri(if path.starts_with("/_local") { path.to_owned() } else { format!("/v1{path}") })
            .header("authorization", "Bearer other")
            .body(Bytes::from(body))
            .unwrap();
        let local::Delivered::Whole(response) = self.backend.answer(request).await else {
            panic!()
        };
        assert!(response.status().is_success(), "{method} {path}: {response:?}");
        serde_json::from_slice(response.body()).unwrap_or_default()
    }

    async fn env(&self, name: &str) {
        let spec = json!({"templateRef": {"name": "node"}, "access": "Public"});
        self.ask("POST", ENVS, &json!({"metadata": {"name": name}, "spec": spec})).await;
    }

    /// Waits until something is true, at most two hours of the universe's time.
    async fn until(&self, what: &str, mut is_true: impl AsyncFnMut() -> bool) {
        for _ in 0..14_400 {
            if is_true().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        panic!("it never happened that {what}");
    }

    async fn bay(&self, environment: &str) -> Value {
        self.ask("GET", &format!("{ENVS}/{environment}"), &Value::Null).await["status"]["bay"]
            .take()
    }

    async fn ready(&self, environment: &str) {
        self.until("it is ready", async || {
            let env = self.ask("GET", &format!("{ENVS}/{environment}"), &Value::Null).await;
            env["status"]["phase"] == "Ready"
        })
        .await;
    }

    /// Removes an environment and its bay from the store, as an older store would not have them.
    async fn forget(&self, environment: &str) -> String {
        let bay = self.bay(environment).await;
        let name = bay["name"].as_str().unwrap();
        let mut txn = self.store.txn();
        for key in [
            format!("environments/default/{environment}"),
            format!("hostnames//{environment}"),
            format!("bays/default/{name}"),
            format!("secrets/default/{name}"),
        ] {
            txn = txn.delete(&Key::new(&key), Precondition::Any);
        }
        txn.commit().await.unwrap();
        bay["app"].as_str().unwrap().to_owned()
    }

    async fn orphans(&self) -> Vec<Value> {
        self.ask("GET", ORPHANS, &Value::Null).await["items"].as_array().unwrap().clone()
    }

    /// Waits until the ledger has this entry, and it is confirmed.
    async fn confirmed(&self, name: &str) -> Value {
        self.until(&format!("{name} is confirmed"), async || {
            self.orphans()
                .await
                .iter()
                .any(|it| it["metadata"]["name"] == name && it["status"]["phase"] == "Confirmed")
        })
        .await;
        self.ask("GET", &format!("{ORPHANS}/{name}"), &Value::Null).await["status"].take()
    }

    /// Declares so many environments and waits until they are ready; their names.
    async fn envs(&self, count: usize) -> Vec<String> {
        let names: Vec<_> = (0..count).map(|it| format!("e{it}")).collect();
        for name in &names {
            self.env(name).await;
        }
        for name in &names {
            self.ready(name).await;
        }
        names
    }

    async fn machines(&self) -> Vec<String> {
        let list = self.fly("GET", "/orgs/personal/machines", &Value::Null).await;
        let ids = list["machines"].as_array().unwrap().iter();
        ids.map(|it| it["id"].as_str().unwrap().to_owned()).collect()
    }

    async fn holds(&self) -> Vec<String> {
        let holds = self.ask("GET", HOLDS, &Value::Null).await;
        let names = holds["items"].as_array().unwrap().iter();
        names.map(|it| it["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    /// What `hangar resume` does.
    async fn resume(&self, hold: &str) {
        self.ask("DELETE", &format!("{HOLDS}/{hold}"), &Value::Null).await;
    }

    async fn apps(&self) -> Vec<String> {
        let apps = self.fly("GET", "/apps?org_slug=personal", &Value::Null).await;
        let names = apps["apps"].as_array().unwrap().iter();
        names.map(|it| it["name"].as_str().unwrap().to_owned()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_older_store_does_not_know_is_listed_and_deleted_by_order_only() {
    let universe = Universe::begin().await;
    universe.env("alice").await;
    universe.env("bob").await;
    universe.ready("alice").await;
    universe.ready("bob").await;
    assert!(universe.orphans().await.is_empty());
    let app = universe.forget("alice").await;
    let name = format!("app-{app}");
    universe.until("it is seen", async || !universe.orphans().await.is_empty()).await;
    let path = format!("{ORPHANS}/{name}/order");
    let refused = universe.try_ask("POST", &path, &json!({"verb": "Delete"})).await;
    assert!(refused.unwrap_err().contains("too young"));
    let status = universe.confirmed(&name).await;
    assert_eq!((&status["madeBy"], &status["environment"]), (&json!("This"), &json!("env/alice")));
    assert!(status["monthlyCostMicrodollars"].as_u64().unwrap() > 150_000, "{status}");
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert!(universe.apps().await.contains(&app), "nothing is destroyed without an order");
    universe.ask("POST", &path, &json!({"verb": "Delete"})).await;
    universe.until("it is done", async || universe.orphans().await.is_empty()).await;
    assert!(!universe.apps().await.contains(&app));
    assert_eq!(universe.apps().await.len(), 1, "bob's is left");
}

#[tokio::test(start_paused = true)]
async fn an_environment_declared_again_gets_its_machine_and_data_back() {
    let universe = Universe::begin().await;
    universe.env("alice").await;
    universe.ready("alice").await;
    let before = universe.bay("alice").await;
    let app = universe.forget("alice").await;
    let name = format!("app-{app}");
    universe.confirmed(&name).await;
    universe.env("alice").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(universe.bay("alice").await.is_null(), "it is not given an empty volume meanwhile");
    let to = json!({"namespace": "default", "name": "alice"});
    let order = json!({"verb": "Adopt", "to": to});
    universe.ask("POST", &format!("{ORPHANS}/{name}/order"), &order).await;
    universe.ready("alice").await;
    let after = universe.bay("alice").await;
    assert_eq!((&after["app"], &after["machine"]), (&before["app"], &before["machine"]));
    assert!(universe.orphans().await.is_empty());
    tokio::time::sleep(Duration::from_secs(1_200)).await;
    assert!(universe.orphans().await.is_empty(), "all of it is accounted for");
    assert_eq!(universe.apps().await, [app]);
}

#[tokio::test(start_paused = true)]
async fn strangers_in_an_app_are_shown_and_never_touched() {
    let universe = Universe::begin().await;
    universe.env("alice").await;
    universe.ready("alice").await;
    let app = universe.bay("alice").await["app"].as_str().unwrap().to_owned();
    let config = json!({"image": "hangar.dev/sample-app:1"});
    let machine = json!({"name": "debug", "region": "ams", "config": config});
    let made = universe.fly("POST", &format!("/apps/{app}/machines"), &machine).await;
    let name = format!("machine-{}", made["id"].as_str().unwrap());
    let status = universe.confirmed(&name).await;
    assert_eq!(status["madeBy"], "Unknown");
    let path = format!("{ORPHANS}/{name}/order");
    let refused = universe.try_ask("POST", &path, &json!({"verb": "Delete"})).await;
    assert!(refused.unwrap_err().contains("nothing on"), "it may be anybody's");
    universe
        .fly("DELETE", &format!("/apps/{app}/machines/{}?force=true", &name[8..]), &Value::Null)
        .await;
    universe.until("it is gone", async || universe.orphans().await.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_is_gone_is_listed_as_lost() {
    let universe = Universe::begin().await;
    universe.env("alice").await;
    universe.ready("alice").await;
    let bay = universe.bay("alice").await;
    let (app, machine) = (bay["app"].as_str().unwrap(), bay["machine"].as_str().unwrap());
    let volumes = universe.fly("GET", &format!("/apps/{app}/volumes"), &Value::Null).await;
    let volume = volumes[0]["id"].as_str().unwrap().to_owned();
    let path = format!("/apps/{app}/machines/{machine}?force=true");
    universe.fly("DELETE", &path, &Value::Null).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    universe.fly("DELETE", &format!("/apps/{app}/volumes/{volume}"), &Value::Null).await;
    let name = format!("lost-volume-{}", volume.replace('_', "-"));
    let status = universe.confirmed(&name).await;
    assert_eq!((&status["side"], &status["what"]), (&json!("Lost"), &json!("Volume")));
    let path = format!("{ORPHANS}/{name}/order");
    let refused = universe.try_ask("POST", &path, &json!({"verb": "Delete"})).await;
    assert!(refused.unwrap_err().contains("nothing to act on"));
}

#[tokio::test(start_paused = true)]
async fn of_many_deletions_at_once_only_some_are_carried_out_before_a_person_says_so() {
    let universe = Universe::begin().await;
    let names = universe.envs(8).await;
    for name in &names {
        universe.ask("DELETE", &format!("{ENVS}/{name}"), &Value::Null).await;
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(
        (universe.holds().await, universe.apps().await.len()),
        (vec!["mass-change".to_owned()], 3)
    );
    let left = universe.ask("GET", ENVS, &Value::Null).await;
    let left = left["items"].as_array().unwrap();
    assert_eq!(left.len(), 3);
    for it in left {
        let conditions = it["status"]["conditions"].as_array().unwrap();
        let stalled = conditions.iter().find(|it| it["type"] == "Stalled").unwrap();
        assert_eq!((&stalled["status"], &stalled["reason"]), (&json!("True"), &json!("Held")));
        assert!(stalled["message"].as_str().unwrap().contains("`hangar resume` lifts this"));
    }
    universe.env("new").await;
    universe.ready("new").await;
    universe.resume("mass-change").await;
    universe.until("the rest is gone", async || universe.apps().await.len() == 1).await;
    assert!(universe.holds().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn when_many_machines_are_gone_at_once_none_is_replaced_before_a_person_says_so() {
    let universe = Universe::begin().await;
    let names = universe.envs(8).await;
    for name in &names {
        let bay = universe.bay(name).await;
        let (app, machine) = (bay["app"].as_str().unwrap(), bay["machine"].as_str().unwrap());
        let path = format!("/apps/{app}/machines/{machine}?force=true");
        universe.fly("DELETE", &path, &Value::Null).await;
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(universe.holds().await, ["mass-absence"]);
    assert!(universe.machines().await.len() <= 5, "{:?}", universe.machines().await);
    universe.env("new").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(universe.apps().await.len(), 8, "nothing new is made either");
    universe.resume("mass-absence").await;
    universe.until("all have machines", async || universe.machines().await.len() == 9).await;
    for name in &names {
        universe.ready(name).await;
    }
    assert!(universe.holds().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_mass_absence_that_fly_takes_back_ends_by_itself_and_changed_nothing() {
    let universe = Universe::begin().await;
    // For a while Fly shows what it had before there was anything.
    let fault = json!([{"kind": "lagging_reads", "ago": "20m", "from": "5m", "for": "40s"}]);
    universe.fly("POST", "/_local/faults", &fault).await;
    universe.envs(8).await;
    let mut before = universe.machines().await;
    universe.until("it is noticed", async || !universe.holds().await.is_empty()).await;
    assert_eq!(universe.holds().await, ["mass-absence"]);
    assert!(universe.bay("e0").await["machine"].is_string(), "requests go to it all the while");
    universe.until("it is over", async || universe.holds().await.is_empty()).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    let mut after = universe.machines().await;
    before.sort();
    after.sort();
    assert_eq!(after, before);
    for name in 0..8 {
        universe.ready(&format!("e{name}")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_is_refilled_a_claim_does_not_wait_for_a_pass() {
    let universe = Universe::begin().await;
    for name in ["claimed", "other"] {
        let mut template: Value = serde_yaml::from_str(TEMPLATE).unwrap();
        template["metadata"]["name"] = json!(name);
        template["spec"]["personalize"] = json!({"file": "/data/env.json"});
        universe.ask("POST", &ENVS.replace("environments", "templates"), &template).await;
    }
    let pools = ENVS.replace("environments", "warmpools");
    let pool = async |name: &str, template: &str, replicas: u32| {
        let spec =
            json!({"templateRef": {"name": template}, "replicas": replicas, "maxInFlight": 50});
        let pool = json!({"metadata": {"name": name}, "spec": spec});
        universe.ask("POST", &pools, &pool).await;
    };
    pool("claimed", "claimed", 1).await;
    universe
        .until("a bay is ready", async || {
            let pool = universe.ask("GET", &format!("{pools}/claimed"), &Value::Null).await;
            pool["status"]["ready"] == 1
        })
        .await;
    for it in 0..6 {
        pool(&format!("other-{it}"), "other", 50).await;
    }
    let bays = ENVS.replace("environments", "bays");
    let begun = async || universe.ask("GET", &bays, &Value::Null).await["items"].take();
    universe.until("all are begun", async || begun().await.as_array().unwrap().len() == 301).await;
    let before = universe.apps().await.len();
    assert!(before < 50, "Fly makes one app a second, and nearly all bays wait for theirs");
    let spec = json!({"templateRef": {"name": "claimed"}, "access": "Public"});
    universe.ask("POST", ENVS, &json!({"metadata": {"name": "alice"}, "spec": spec})).await;
    while universe.bay("alice").await.is_null() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(universe.apps().await.len(), before, "alice waited for somebody's app");
    universe.ready("alice").await;
    let made = async || universe.machines().await.len() > 301;
    universe.until("they are made all the same", made).await;
}
