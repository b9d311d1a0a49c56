//! Hostnames: one holder each, whoever is faster, and a quarantine afterwards.

use std::time::Duration;

use futures::future;
use serde_json::{Value, json};

use super::{Api, ENVS, NAMESPACES, env, text};
use crate::api::hostname::QUARANTINE_DAYS;

const HOSTNAMES: &str = "/apis/hangar.dev/v1alpha1/hostnames";

fn wants(name: &str, owner: &str, hostnames: &[&str]) -> Value {
    let mut body = env(name);
    body["spec"]["owner"] = json!(owner);
    body["spec"]["hostnames"] = json!(hostnames);
    body
}

#[tokio::test]
async fn of_two_environments_that_race_for_a_hostname_exactly_one_wins() {
    let api = Api::start().await;
    for round in 0..10 {
        let label = format!("web-{round}");
        let bodies: Vec<_> =
            (0..6).map(|it| wants(&format!("e{round}-{it}"), "a", &[&label])).collect();
        let replies = future::join_all(bodies.iter().map(|body| api.post(ENVS, body))).await;
        let codes: Vec<_> = replies.iter().map(|it| it.code).collect();
        assert_eq!(codes.iter().filter(|code| **code == 201).count(), 1, "{codes:?}");
        assert_eq!(codes.iter().filter(|code| **code == 409).count(), 5, "{codes:?}");
        let winner = replies.iter().find(|it| it.code == 201).unwrap();
        let record = api.get(&format!("{HOSTNAMES}/{label}")).await.body;
        assert_eq!(text(&record, "/spec/uid"), text(&winner.body, "/metadata/uid"));
    }
    let made = api.get(ENVS).await.body["items"].as_array().unwrap().len();
    assert_eq!(made, 10, "a refused environment leaves nothing behind");
}

#[tokio::test]
async fn a_refusal_names_the_field() {
    let api = Api::start().await;
    api.env("alice").await;
    let listed = api.post(ENVS, &wants("bob", "b", &["bob", "alice"])).await;
    assert_eq!(listed.code, 409);
    assert_eq!(text(&listed.body, "/details/causes/0/field"), "spec.hostnames[1]");
    api.post(NAMESPACES, &json!({"metadata": {"name": "team-a"}})).await;
    let defaulted = api.post(&ENVS.replace("default", "team-a"), &env("alice")).await;
    assert_eq!(defaulted.code, 409);
    assert_eq!(text(&defaulted.body, "/details/causes/0/field"), "metadata.name");
    assert!(!defaulted.body.to_string().contains("namespace"), "it does not say whose it is");
}

#[tokio::test]
async fn a_hostname_that_is_given_up_is_kept_from_other_owners_for_a_while() {
    let api = Api::start().await;
    assert_eq!(api.post(ENVS, &wants("one", "a", &["one", "web"])).await.code, 201);
    let fewer = json!({"spec": {"hostnames": ["one"]}});
    assert_eq!(api.patch(&format!("{ENVS}/one"), &fewer).await.code, 200);
    let record = api.get(&format!("{HOSTNAMES}/web")).await.body;
    assert_eq!(text(&record, "/status/releasedAt"), "2026-09-01T12:00:00Z");
    assert_eq!(api.post(ENVS, &wants("two", "b", &["web"])).await.code, 409);
    assert_eq!(api.post(ENVS, &wants("three", "a", &["web"])).await.code, 201, "the same owner");
    assert_eq!(api.delete(&format!("{ENVS}/three")).await.code, 200);
    let days = u64::try_from(QUARANTINE_DAYS).unwrap();
    api.clock.advance(Duration::from_secs(days * 86_400 - 1));
    assert_eq!(api.post(ENVS, &wants("two", "b", &["web"])).await.code, 409);
    api.clock.advance(Duration::from_secs(2));
    assert_eq!(api.post(ENVS, &wants("two", "b", &["web"])).await.code, 201);
}

#[tokio::test]
async fn a_deletion_releases_the_hostnames_with_the_mark() {
    let api = Api::start().await;
    api.env("alice").await;
    api.delete(&format!("{ENVS}/alice?dryRun=All")).await;
    let record = api.get(&format!("{HOSTNAMES}/alice")).await.body;
    assert_eq!(record["status"].get("releasedAt"), None);
    api.delete(&format!("{ENVS}/alice")).await;
    let record = api.get(&format!("{HOSTNAMES}/alice")).await.body;
    assert_eq!(text(&record, "/status/releasedAt"), "2026-09-01T12:00:00Z");
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    assert_eq!(api.patch(&format!("{ENVS}/alice"), &label).await.code, 200);
    let after = api.get(&format!("{HOSTNAMES}/alice")).await.body;
    assert_eq!(after, record, "an environment on its way out takes nothing back");
}
