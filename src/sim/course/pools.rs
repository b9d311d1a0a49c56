//! Courses in which environments get bays of a pool. They must never say which one.

use std::time::Duration;

use serde_json::{Value, json};

use crate::sim::{
    course::rest,
    universe::{Universe, environment, pool, template},
};

const IMAGE: &str =
    "registry.fly.io/app@sha256:2222222222222222222222222222222222222222222222222222222222222222";
/// Longer than environments stay awake when nobody asks for them, even where it seems for a moment that one was started again.
const UNTIL_ASLEEP: Duration = Duration::from_secs(12 * 60);

/// A template whose bays a pool can make, and a pool of them.
async fn warm(universe: &mut Universe, spec: &Value) -> anyhow::Result<()> {
    universe.apply(&node(&json!({}))).await?;
    universe.apply(&pool("warm", "node", spec)).await
}

fn node(spec: &Value) -> Value {
    let mut all = json!({"personalize": {"file": "/data/hangar/env.json"}});
    json_patch::merge(&mut all, spec);
    template("node", &all)
}

async fn scale(universe: &mut Universe, replicas: u32) -> anyhow::Result<()> {
    universe.apply(&pool("warm", "node", &json!({"replicas": replicas}))).await
}

/// So that the machine's own configuration follows.
async fn sleep_and_wake(universe: &mut Universe, name: &str) -> anyhow::Result<()> {
    universe.pass(UNTIL_ASLEEP).await?;
    rest(universe).await?;
    universe.visit(name).await;
    rest(universe).await
}

/// One claims, is changed, sleeps, wakes and is deleted.
pub(super) async fn claim(universe: &mut Universe) -> anyhow::Result<()> {
    let secret = |value: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"KEY": value}});
    universe.apply(&secret("sim-canary-one")).await?;
    warm(universe, &json!({"replicas": 2})).await?;
    rest(universe).await?;
    let alice = |value: &str| {
        environment("alice", "node", &json!({"env": {"A": value}, "secrets": [{"name": "keys"}]}))
    };
    universe.apply(&alice("1")).await?;
    rest(universe).await?;
    universe.apply(&secret("sim-canary-two")).await?;
    universe.apply(&alice("2")).await?;
    rest(universe).await?;
    sleep_and_wake(universe, "alice").await?;
    universe.apply(&alice("3")).await?;
    rest(universe).await?;
    sleep_and_wake(universe, "alice").await?;
    universe.delete("alice").await
}

/// A template without a file: who adds nothing claims a bay that rests, adds something later and gets it with a restart; who adds
/// something from the start has a bay of its own.
pub(super) async fn claim_plain(universe: &mut Universe) -> anyhow::Result<()> {
    universe.apply(&node(&json!({"personalize": null}))).await?;
    let spec = json!({"replicas": 1, "warmState": "Suspended"});
    universe.apply(&pool("warm", "node", &spec)).await?;
    rest(universe).await?;
    universe.apply(&environment("alice", "node", &json!({}))).await?;
    rest(universe).await?;
    universe.visit("alice").await;
    let adds = json!({"env": {"A": "1"}});
    universe.apply(&environment("alice", "node", &adds)).await?;
    rest(universe).await?;
    sleep_and_wake(universe, "alice").await?;
    universe.apply(&environment("bob", "node", &adds)).await?;
    rest(universe).await?;
    universe.delete("alice").await
}

/// Two are created at once and share a pool with one bay ready and one on its way.
pub(super) async fn share(universe: &mut Universe) -> anyhow::Result<()> {
    warm(universe, &json!({"replicas": 1})).await?;
    rest(universe).await?;
    scale(universe, 2).await?;
    universe.pass(Duration::from_secs(2)).await?;
    for name in ["alice", "bob"] {
        universe.apply(&environment(name, "node", &json!({"env": {"NAME": name}}))).await?;
    }
    rest(universe).await
}

/// Three come one after the other, into a pool of two whose bays rest.
pub(super) async fn refill(universe: &mut Universe) -> anyhow::Result<()> {
    let spec =
        json!({"replicas": {"ams": 1, "fra": 1}, "warmState": "Suspended", "maxInFlight": 1});
    warm(universe, &spec).await?;
    rest(universe).await?;
    for (name, region) in [("alice", "fra"), ("bob", "fra"), ("carol", "ams")] {
        let spec = json!({"region": region, "operatingMode": "Running"});
        universe.apply(&environment(name, "node", &spec)).await?;
        universe.pass(Duration::from_secs(1)).await?;
    }
    rest(universe).await?;
    universe.delete("bob").await
}

/// The template changes, and while the pool follows an environment comes, which is changed when its machine is its own, and with its
/// template once more after that.
pub(super) async fn roll(universe: &mut Universe) -> anyhow::Result<()> {
    warm(universe, &json!({"replicas": 2})).await?;
    rest(universe).await?;
    let newer = |mode: &str| node(&json!({"machine": {"image": IMAGE, "env": {"MODE": mode}}}));
    universe.apply(&newer("2")).await?;
    universe.pass(Duration::from_secs(1)).await?;
    for value in ["1", "2"] {
        universe.apply(&environment("alice", "node", &json!({"env": {"A": value}}))).await?;
        rest(universe).await?;
        sleep_and_wake(universe, "alice").await?;
    }
    universe.apply(&newer("3")).await?;
    rest(universe).await?;
    sleep_and_wake(universe, "alice").await
}

/// The pool is scaled down and to nothing while environments come, grows again and is deleted.
pub(super) async fn shrink(universe: &mut Universe) -> anyhow::Result<()> {
    let running = json!({"operatingMode": "Running"});
    warm(universe, &json!({"replicas": 3})).await?;
    rest(universe).await?;
    scale(universe, 1).await?;
    universe.apply(&environment("alice", "node", &running)).await?;
    rest(universe).await?;
    scale(universe, 0).await?;
    universe.apply(&environment("bob", "node", &running)).await?;
    rest(universe).await?;
    scale(universe, 1).await?;
    rest(universe).await?;
    universe.remove_pool("warm").await?;
    universe.apply(&environment("carol", "node", &running)).await?;
    rest(universe).await
}
