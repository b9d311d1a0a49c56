//! Quotas of a namespace: the one too many is refused, bays that have no room wait, and both say so.

use futures::future::join_all;
use http::{Method, Request};
use serde_json::json;

use crate::harness::{Hangar, PATIENCE, call, until};
use crate::manifest;

fn quota(hard: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: ResourceQuota
metadata: {{name: small}}
spec: {{hard: {{{hard}}}}}
"
    )
}

fn alice_and_bob() -> [String; 2] {
    ["alice", "bob"].map(|it| manifest::environment(it, "workspace", ""))
}

#[tokio::test]
async fn one_environment_more_than_the_quota_is_refused_until_another_is_gone() {
    let [alice, bob] = alice_and_bob();
    let limits = quota("count/environments.hangar.dev: 1");
    let template = manifest::template("workspace", manifest::SAMPLE, "");
    let hangar = Hangar::up(&(template + &limits + &alice)).await;
    let refused = hangar.apply(&bob).await;
    let sentence = "exceeded quota: small, requested: count/environments.hangar.dev=1, \
                    used: count/environments.hangar.dev=1, limited: count/environments.hangar.dev=1";
    assert!(refused.code != 0 && refused.stderr.contains(sentence), "{}", refused.stderr);
    hangar.apply(&alice).await.good();
    let shown = hangar.run("get quota").await;
    assert!(shown.contains("count/environments.hangar.dev: 1/1"), "{shown}");
    let described = hangar.run("describe quota small").await;
    assert!(described.contains("count/environments.hangar.dev   1      1"), "{described}");
    hangar.run("delete env alice").await;
    hangar.apply(&bob).await.good();
    hangar.phase("bob", "Ready").await;
}

#[tokio::test]
async fn sixteen_racing_creations_get_the_five_places_that_there_are() {
    let template = manifest::template("workspace", manifest::SAMPLE, "");
    let limits = quota("count/environments.hangar.dev: 5");
    let hangar = Hangar::up(&(template + &limits)).await;
    let creations = (0..16).map(async |at| {
        // No such template: nothing need be made for what is asked for here.
        let environment = json!({
            "apiVersion": "hangar.dev/v1alpha1", "kind": "Environment",
            "metadata": {"name": format!("env-{at}")}, "spec": {"templateRef": {"name": "none"}},
        });
        let request = Request::builder()
            .method(Method::POST)
            .uri("/apis/hangar.dev/v1alpha1/namespaces/default/environments")
            .header("host", &hangar.api)
            .header("content-type", "application/json");
        let answer = call(&hangar.api, request, environment.to_string().into_bytes()).await;
        (answer.status.as_u16(), answer.text())
    });
    let answers = join_all(creations).await;
    let (made, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|(code, _)| *code == 201);
    assert_eq!((made.len(), refused.len()), (5, 11));
    for (code, text) in refused {
        assert!(*code == 403 && text.contains("exceeded quota: small"), "{code} {text}");
    }
    assert_eq!(hangar.run("get env -o name").await.lines().count(), 5);
}

#[tokio::test]
async fn bays_that_have_no_room_are_not_made_and_whoever_waits_for_them_says_so() {
    let [alice, bob] = alice_and_bob();
    let personalize = "personalize: {file: /data/hangar/env.json}\n";
    let template = manifest::template("workspace", manifest::SAMPLE, personalize);
    let pool = "---
apiVersion: hangar.dev/v1alpha1
kind: WarmPool
metadata: {name: warm}
spec: {templateRef: {name: workspace}, replicas: 3}
";
    let limits = quota("count/bays.hangar.dev: 2");
    let hangar = Hangar::up(&(template + &limits + pool)).await;
    let pool_says = async |ready: u64, reason: &str| {
        until(&format!("a pool with {ready}, {reason}"), PATIENCE, async || {
            let status = hangar.object("pool/warm").await["status"].take();
            let full = status["conditions"].as_array().into_iter().flatten();
            let mut full = full.filter(|it| it["type"] == "Full");
            let says = full.any(|it| it["reason"] == reason);
            if says && status["ready"] == ready { Ok(()) } else { Err(status.to_string()) }
        })
        .await;
    };
    pool_says(2, "QuotaExceeded").await;
    hangar.apply(&(alice + &bob)).await.good();
    hangar.phase("alice", "Ready").await;
    hangar.phase("bob", "Ready").await;
    hangar.apply(&manifest::environment("carol", "workspace", "")).await.good();
    until("carol to say what it waits for", PATIENCE, async || {
        let described = hangar.run("describe env carol").await;
        let says = described.contains("exceeded quota: small, requested: count/bays.hangar.dev=1");
        if says && described.contains("QuotaExceeded") { Ok(()) } else { Err(described) }
    })
    .await;
    let events = hangar.run("events").await;
    assert!(events.contains("QuotaExceeded"), "{events}");
    assert_eq!(hangar.fly().apps().await.len(), 2);
    hangar.run("scale pool/warm --replicas 0").await;
    hangar.run("delete env alice").await;
    hangar.phase("carol", "Ready").await;
    assert_eq!(hangar.fly().apps().await.len(), 2);
}

#[tokio::test]
async fn a_pool_that_may_miss_one_is_replaced_where_a_quota_has_no_room_for_one_more() {
    let personalize = "personalize: {file: /data/hangar/env.json}\n";
    let template = manifest::template("workspace", manifest::SAMPLE, personalize);
    let pool = "---
apiVersion: hangar.dev/v1alpha1
kind: WarmPool
metadata: {name: warm}
spec: {templateRef: {name: workspace}, replicas: 2, maxUnavailable: 50%}
";
    let limits = quota("count/bays.hangar.dev: 2");
    let hangar = Hangar::up(&(template.clone() + &limits + pool)).await;
    let stocked = async |at_least: u64| {
        let status = hangar.object("pool/warm").await["status"].take();
        assert!(status["ready"].as_u64().unwrap_or(0) >= at_least, "{status}");
        let full = status["ready"] == 2 && status["outdated"] == 0 && status["replicas"] == 2;
        if full { Ok(()) } else { Err(status.to_string()) }
    };
    let bays = async || hangar.run("get bays -o name").await;
    until("the stock", PATIENCE, async || stocked(0).await).await;
    let before = bays().await;
    hangar.apply(&template.replace("timeout: 3s", "timeout: 4s")).await.good();
    until("the stock to be another", PATIENCE, async || {
        stocked(1).await?;
        let now = bays().await;
        let new = now.lines().all(|it| !before.contains(it));
        if new { Ok(()) } else { Err(now) }
    })
    .await;
}
