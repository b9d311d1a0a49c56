//! The calls that change something, by flow, are those of the table in docs/fly.md: no more and no fewer.

use std::time::Duration;

use hangar::{
    fly::call::ALL,
    sim::{Setup, Universe, environment, gate::Strikes, template},
};
use http::Method;
use serde_json::{Value, json};

const PAGE: &str = include_str!("../../docs/fly.md");
const IMAGE: &str =
    "registry.fly.io/app@sha256:2222222222222222222222222222222222222222222222222222222222222222";

/// A user and what somebody else does, with the calls since the last flow.
struct Flows {
    universe: Universe,
    counted: u64,
    wrong: Vec<String>,
}

impl Flows {
    async fn begin() -> Self {
        let setup = Setup { seed: 1, strikes: Strikes::at([]), canaries: Vec::new(), plant: None };
        let universe = Universe::begin(setup).await.unwrap();
        Self { universe, counted: 0, wrong: Vec::new() }
    }

    async fn rest(&mut self) {
        let (quiet, limit) = (Duration::from_secs(40), Duration::from_secs(15 * 60));
        self.universe.rest(quiet, limit).await.unwrap().unwrap();
    }

    /// Commands in machines are not counted: they only ask.
    fn changes(&self) -> u64 {
        let calls = self.universe.report().calls;
        let changes = ALL.iter().filter(|it| it.changes() && it.name != "exec");
        changes.filter_map(|it| calls.get(it.name)).sum()
    }

    /// What was called until all is quiet is what the table's row says.
    async fn is(&mut self, flow: &str) {
        self.rest().await;
        let row = PAGE.lines().find(|it| it.starts_with(&format!("| {flow} |"))).unwrap();
        let said = row.split('|').nth(2).unwrap().trim();
        let said = said.split(|it: char| !it.is_ascii_digit()).next().unwrap();
        self.are(said.parse().unwrap(), flow);
    }

    fn are(&mut self, said: u64, flow: &str) {
        let changes = self.changes() - self.counted;
        self.counted += changes;
        if changes != said {
            self.wrong.push(format!("{flow}: {changes} instead of {said}"));
        }
    }

    async fn alice(&mut self, spec: Value) {
        let mut all = json!({"secrets": [{"name": "keys"}]});
        json_patch::merge(&mut all, &spec);
        self.universe.apply(&environment("alice", "node", &all)).await.unwrap();
    }

    async fn secret(&mut self, value: &str) {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"KEY": value}});
        self.universe.apply(&secret).await.unwrap();
    }

    /// The one machine's path, and what somebody does to it.
    async fn somebody(&mut self, method: Method, what: &str, body: Value) -> Value {
        let machines = self.universe.census().machines;
        let mut live = machines.iter().filter(|(_, it)| it.destroyed_at.is_none());
        let (id, machine) = live.next().unwrap();
        let path = format!("/v1/apps/{}/machines/{id}{what}", machine.app);
        self.universe.meddle(&method, &path, &body).await.unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn every_flow_makes_the_changes_that_the_documents_say() {
    let mut flows = Flows::begin().await;
    let node = template("node", &json!({"update": {"strategy": "Rolling"}}));
    flows.universe.apply(&node).await.unwrap();
    flows.universe.apply(&template("plain", &json!({"volume": null}))).await.unwrap();
    flows.secret("one").await;
    flows.alice(json!({})).await;
    flows.is("create").await;
    flows.alice(json!({})).await;
    flows.is("apply the same again").await;
    flows.universe.pass(Duration::from_secs(6 * 60)).await.unwrap();
    flows.is("sleep when idle").await;
    flows.universe.pass(Duration::from_secs(60 * 60)).await.unwrap();
    flows.is("quiet, asleep").await;
    assert!(flows.universe.visit("alice").await, "the request reaches the machine");
    flows.is("wake by a request").await;
    flows.alice(json!({"operatingMode": "Asleep"})).await;
    flows.is("sleep by order").await;
    flows.alice(json!({"operatingMode": "Running"})).await;
    flows.is("start by order (`Running`)").await;
    flows.universe.pass(Duration::from_secs(60 * 60)).await.unwrap();
    flows.is("quiet, awake, with a check by Fly").await;
    flows.alice(json!({"operatingMode": "Running", "env": {"A": "2"}})).await;
    flows.is("change the configuration").await;
    flows.secret("two").await;
    flows.is("change a Secret (strategy `Rolling`)").await;
    flows.somebody(Method::DELETE, "?force=true", Value::Null).await;
    flows.is("machine destroyed by others").await;
    flows.universe.reset("alice").await.unwrap();
    flows.is("`kubectl delete pod`, which makes the machine anew").await;
    let mut config = flows.somebody(Method::GET, "", Value::Null).await["config"].take();
    config["image"] = json!(IMAGE);
    flows.somebody(Method::POST, "", json!({"config": config})).await;
    flows.is("configuration changed by others").await;
    flows.somebody(Method::POST, "/metadata/hangar_bay", json!({"value": "another"})).await;
    flows.is("metadata changed by others").await;
    flows.alice(json!({"operatingMode": "Auto", "env": {"A": "2"}})).await;
    flows.is("apply the same again").await;
    flows.somebody(Method::POST, "/stop", Value::Null).await;
    flows.is("stopped or started by others").await;
    flows.somebody(Method::POST, "/start", Value::Null).await;
    flows.is("stopped or started by others").await;
    flows.universe.delete("alice").await.unwrap();
    flows.is("delete").await;
    let bare = environment("bare", "plain", &json!({"secrets": [{"name": "keys"}]}));
    flows.universe.apply(&bare).await.unwrap();
    flows.rest().await;
    flows.are(3, "create without a volume");
    assert_eq!(flows.wrong, Vec::<String>::new());
}
